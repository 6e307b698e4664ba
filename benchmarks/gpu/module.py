"""``restore_module`` and the published algorithm on a model that is on the device already.

As a process of its own: ``python -m benchmarks.gpu.module --device cuda --shape JSON``, with
``--published`` for both by turns, else ours alone. Prints JSON. Base and target are modules of
random weights with Llama's names; the target is made anew for each turn, which is not timed.
The published algorithm is that of ``in_memory``, without its statistics.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import torch
from torch import nn

import shardrestore
from shardrestore.synthetic import LlamaShape

from ..contenders.in_memory import restore_tensors
from .device import add_device_option, measure_seconds
from .figures import Turn, Turns
from .weights import Drawing

PERCENT = 10.0

PATIENCE_SECONDS = 60.0
"""Once the published algorithm has taken so long, it takes no more turns."""

Selection = tuple[int, float | None]
"""Restored elements, and the smallest of their scores."""


def make_module(shape: LlamaShape, draw: Callable[[tuple[int, ...]], torch.Tensor]) -> nn.Module:
    """Return a module whose parameters have the names and shapes of a Llama's."""
    root = nn.Module()
    for name, extents in shape.tensors():
        *path, last = name.split(".")
        place = root
        for step in path:
            if not hasattr(place, step):
                place.add_module(step, nn.Module())
            place = place.get_submodule(step)
        place.register_parameter(last, nn.Parameter(draw(extents), requires_grad=False))
    return root


class Bench:
    """A base and a target on a device.

    Parameters
    ----------
    device : torch.device
    shape : LlamaShape
    """

    def __init__(self, device: torch.device, shape: LlamaShape) -> None:
        self._device = device
        self._drawing = Drawing(device)
        self._drawing.restart(0)
        self._base = make_module(
            shape, lambda extents: self._drawing.draw_base(extents, torch.bfloat16)
        )
        self._target = make_module(
            shape, lambda extents: torch.empty(extents, dtype=torch.bfloat16, device=device)
        )

    @property
    def parameters(self) -> int:
        """Elements of one side."""
        return sum(parameter.numel() for parameter in self._target.parameters())

    def ours(self) -> Turn:
        """Take the turn of ``restore_module``."""

        def restore() -> Selection:
            report = shardrestore.restore_module(self._target, self._base, percent=PERCENT)
            return report.selected_elements, report.threshold

        return self._take(restore)

    def published(self) -> Turn:
        """Take the turn of the published algorithm."""
        base, target = (
            {name: parameter.detach() for name, parameter in side.named_parameters()}
            for side in (self._base, self._target)
        )
        return self._take(lambda: restore_tensors(base, target, percent=PERCENT, statistics=False))

    def _take(self, restore: Callable[[], Selection]) -> Turn:
        self._drawing.restart(1)
        for base, target in zip(self._base.parameters(), self._target.parameters(), strict=True):
            self._drawing.tune(base, target)
        found: list[Selection] = []
        has_memory = self._device.type == "cuda"
        before_bytes = _begin_counting(self._device) if has_memory else 0
        seconds = measure_seconds(self._device, lambda: found.append(restore()))
        peak_bytes = torch.cuda.max_memory_allocated(self._device) if has_memory else 0
        [(selected_elements, threshold)] = found
        return Turn(
            seconds=seconds,
            extra_bytes=peak_bytes - before_bytes if has_memory else None,
            selected_elements=selected_elements,
            threshold=threshold,
        )


def _begin_counting(device: torch.device) -> int:
    """Return the memory that is allocated now, the peak from which on is counted."""
    torch.cuda.empty_cache()  # what others have left must not be found at hand
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def measure_module(
    device: torch.device, shape: LlamaShape, *, rounds: int, published: bool
) -> Turns:
    """Restore a model by turns.

    Libraries are loaded and kernels compiled by a model of one layer first. The published
    algorithm takes fewer turns than ``rounds`` if ``PATIENCE_SECONDS`` are over.
    """
    small = Bench(device, replace(shape, num_hidden_layers=1))
    small.ours()
    if published:
        small.published()
    del small
    bench = Bench(device, shape)
    ours: list[Turn] = []
    theirs: list[Turn] = []
    for _ in range(rounds):
        ours.append(bench.ours())
        if published and sum(turn.seconds for turn in theirs) < PATIENCE_SECONDS:
            theirs.append(bench.published())
    return Turns(parameters=bench.parameters, ours=tuple(ours), published=tuple(theirs))


def main(arguments: Sequence[str]) -> int:
    """Print the turns as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.module", description=__doc__)
    add_device_option(parser)
    parser.add_argument("--shape", type=json.loads, required=True, help="of LlamaShape, as JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--published", action="store_true")
    parsed = parser.parse_args(arguments)
    turns = measure_module(
        parsed.device,
        LlamaShape(**parsed.shape),
        rounds=parsed.rounds,
        published=parsed.published,
    )
    print(json.dumps(asdict(turns)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
