"""What is tied in the target, found out once more: byte by byte, on one thread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..checkpoint.model import Model
from ..checkpoint.tensor import Tensor
from ..pairing.filter import Filter, admitted_by
from ..pairing.ties import Ties, find_ties


def find_equal(
    target: Model, admitted: Filter, block_bytes: int, check: Callable[[], None]
) -> Ties:
    """Return what a model's names tie and its bytes confirm.

    Parameters
    ----------
    target : Model
    admitted : Filter
        Which tensors matter.
    block_bytes : int
        Bytes of each of two tensors that are compared at once.
    check : callable
        Called between blocks; what it raises ends the comparison.
    """
    ties = find_ties(target, admitted_by([admitted]))
    while differences := _find_differences(target, ties, block_bytes, check):
        ties = ties.split(differences, target)
    return ties


def _find_differences(
    target: Model, ties: Ties, block_bytes: int, check: Callable[[], None]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for first, *others in ties.groups:
        for name in others:
            pair = target.tensors[first], target.tensors[name]
            element = _find_difference(target, *pair, block_bytes, check)
            if element is not None:
                found[name] = element
    return found


def _find_difference(
    target: Model, one: Tensor, other: Tensor, block_bytes: int, check: Callable[[], None]
) -> int | None:
    """Return the first element at which two tensors of one format and shape differ."""
    step = block_bytes // one.element_bytes
    codes = np.empty((2, step), f"u{one.element_bytes}")
    for tensor in (one, other):
        target.reader.announce(tensor, 0, tensor.elements, block_bytes, check)
    for start in range(0, one.elements, step):
        check()
        count = min(step, one.elements - start)
        for tensor, row in zip((one, other), codes, strict=True):
            target.reader.read(tensor, start, count, row.data.cast("B"))
        differs = codes[0, :count] != codes[1, :count]
        if differs.any():
            return start + int(np.argmax(differs))
    return None
