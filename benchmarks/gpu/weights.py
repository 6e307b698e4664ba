"""Random weights on a device, and what fine-tuning might have made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

DEVIATION = 0.02
"""Standard deviation of base weights."""

NOISE = 0.02
"""Standard deviation of their relative change."""

UNCHANGED = 0.3
"""Share of weights that are left alone; rounding leaves some more."""


class Drawing:
    """A stream of random numbers on a device, the same in every round.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._generator = torch.Generator(device)

    def restart(self, seed: int) -> None:
        """Begin a stream."""
        self._generator.manual_seed(seed)

    def draw_base(self, extents: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return weights before fine-tuning."""
        weights = torch.empty(tuple(extents), dtype=dtype, device=self._device)
        return weights.normal_(0, DEVIATION, generator=self._generator)

    def tune(self, base: torch.Tensor, target: torch.Tensor) -> None:
        """Set the target to what the base's weights are after fine-tuning."""
        factors = torch.empty(base.shape, dtype=torch.float32, device=self._device)
        left_alone = factors.uniform_(generator=self._generator) < UNCHANGED
        factors.normal_(1, NOISE, generator=self._generator).masked_fill_(left_alone, 1)
        target.copy_(factors.mul_(base))
