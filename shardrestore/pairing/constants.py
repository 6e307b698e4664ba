"""Tensors of integers that both sides hold alike: indices and multipliers, which nobody trains.

They have no score, and need none: whatever is restored, they stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..checkpoint.entry import show_name
from ..checkpoint.model import Model
from ..checkpoint.tensor import Tensor
from ..notes import Note

MOST_BYTES = 1 << 24
"""Larger tensors of integers are codes of quantised weights."""

_INTEGERS = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
_BLOCK_BYTES = 1 << 16
_NAMED = 3


def is_constant(base: Model, partner: Tensor | None, target: Model, tensor: Tensor) -> bool:
    """Return whether a tensor holds integers, the same ones in base and target; reads both."""
    if partner is None or tensor.dtype not in _INTEGERS or tensor.nbytes > MOST_BYTES:
        return False
    if (partner.dtype, partner.shape) != (tensor.dtype, tensor.shape):
        return False
    if not (base.reader.has(partner) and target.reader.has(tensor)):
        return False
    step = _BLOCK_BYTES // tensor.element_bytes
    return all(
        _read(base, partner, start, step) == _read(target, tensor, start, step)
        for start in range(0, tensor.elements, step)
    )


def _read(model: Model, tensor: Tensor, start: int, step: int) -> bytes:
    elements = min(step, tensor.elements - start)
    codes = bytearray(tensor.count_bytes(elements))
    model.reader.read(tensor, start, elements, memoryview(codes))
    return bytes(codes)


def note_constants(names: Sequence[str]) -> Iterator[Note]:
    """Say what is passed through."""
    if names:
        shown = ", ".join(map(show_name, names[:_NAMED]))
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        yield Note(
            kind="integers",
            text=f"{len(names):,} tensors of the region hold integers, the same in base and "
            f"target: they are no weights and stay as they are: {shown}{more}.",
        )
