"""A segment on its way through a GPU: blocks that arrive there, and chunks that are scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..checkpoint.model import Model
from ..checkpoint.tensor import Tensor
from ..kernels import gpu
from ..pairing.pairs import Pair
from ..plan.segment import Segment
from .job import Job
from .streams import Queues, Slot
from .workspace import Workspace, as_bytes


@dataclass(frozen=True, slots=True)
class Block:
    """A block on the device, in the formats of the files."""

    start: int
    """Index of the first element within the tensor."""
    base: torch.Tensor
    target: torch.Tensor
    slot: Slot

    @property
    def elements(self) -> int:
        """Number of elements."""
        return self.target.numel()


@dataclass(frozen=True, slots=True)
class Chunk:
    """As much of a block as is scored at once."""

    low: int
    """Index of the first element within the block."""
    base_raw: torch.Tensor
    target_raw: torch.Tensor
    base_scored: torch.Tensor
    """Patterns for bfloat16 arithmetic, else float32 values."""
    target_scored: torch.Tensor
    base_codes: torch.Tensor
    """In the output's format."""
    target_codes: torch.Tensor

    @property
    def high(self) -> int:
        """Index of the first element after it."""
        return self.low + self.target_raw.numel()


class BlockLoader:
    """Brings segments to a device, through the buffers of one worker.

    Parameters
    ----------
    job : Job
    space : Workspace
        Reads the files.
    queues : Queues
    slots : sequence of Slot
        Used in turn.
    """

    def __init__(self, job: Job, space: Workspace, queues: Queues, slots: Sequence[Slot]) -> None:
        self._job = job
        self._space = space
        self._queues = queues
        self._slots = slots

    def blocks(self, segment: Segment) -> Iterator[Block]:
        """Bring a segment to the device block by block.

        What the caller queues for a block before it asks for the next one is done before the
        block's buffers are used again.
        """
        job, pair = self._job, segment.pair
        self._space.announce(job.base, pair.base, segment.start, segment.elements)
        self._space.announce(job.target, pair.target, segment.start, segment.elements)
        for number, (start, elements) in enumerate(self._space.steps(segment)):
            slot = self._slots[number % len(self._slots)]
            with self._queues.loading(slot):
                base = self._load(slot, 0, job.base, pair.base, start, elements)
                target = self._load(slot, 1, job.target, pair.target, start, elements)
            yield Block(start, base, target, slot)
            slot.computed.record()

    def _load(
        self,
        slot: Slot,
        side: int,
        model: Model,
        tensor: Tensor,
        start: int,
        elements: int,
    ) -> torch.Tensor:
        """Return elements as codes on the device: where they are already, or copied there."""
        codes = model.reader.view(tensor, start, elements)
        if isinstance(codes, torch.Tensor) and codes.device == self._queues.device:
            return codes
        model.reader.read(tensor, start, elements, as_bytes(slot.host[side]))
        loaded = slot.copy_in(side, tensor.count_bytes(elements))
        return loaded.view(gpu.code_type(tensor.dtype))


def split(pair: Pair, block: Block, chunk_elements: int) -> Iterator[Chunk]:
    """Yield a block in chunks, with what is scored and what may be written."""
    for low in range(0, block.elements, chunk_elements):
        high = low + chunk_elements
        base, target = block.base[low:high], block.target[low:high]
        base_codes = _cast(base, pair.base.dtype, pair.out_dtype)
        target_codes = _cast(target, pair.target.dtype, pair.out_dtype)
        scored = base_codes, target_codes
        if not pair.exact:
            scored = gpu.widen(base_codes, pair.out_dtype), gpu.widen(target_codes, pair.out_dtype)
        yield Chunk(low, base, target, *scored, base_codes, target_codes)


def _cast(codes: torch.Tensor, source: str, dtype: str) -> torch.Tensor:
    """Return codes of format `source` in format `dtype`, rounded to nearest even."""
    return codes if source == dtype else gpu.narrow(gpu.widen(codes, source), dtype)
