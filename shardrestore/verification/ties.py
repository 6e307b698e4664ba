"""What is tied in the target, found out once more: byte by byte, on one thread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..checkpoint.model import Model
from ..checkpoint.tensor import Tensor
from ..pairing.pairs import Filter, admitted_by
from ..pairing.ties import Ties, find_ties

BLOCK_BYTES = 1 << 20
"""Bytes of each of two tensors that are compared at once."""


def find_equal(target: Model, admitted: Filter, check: Callable[[], None]) -> Ties:
    """Return what a model's names tie and its bytes confirm.

    Parameters
    ----------
    target : Model
    admitted : Filter
        Which tensors matter.
    check : callable
        Called between blocks; what it raises ends the comparison.
    """
    ties = find_ties(target, admitted_by([admitted]))
    while differences := _find_differences(target, ties, check):
        ties = ties.split(differences, target)
    return ties


def _find_differences(target: Model, ties: Ties, check: Callable[[], None]) -> dict[str, int]:
    found: dict[str, int] = {}
    for first, *others in ties.groups:
        for name in others:
            element = _find_difference(target, target.tensors[first], target.tensors[name], check)
            if element is not None:
                found[name] = element
    return found


def _find_difference(
    target: Model, one: Tensor, other: Tensor, check: Callable[[], None]
) -> int | None:
    """Return the first element at which two tensors of one format and shape differ."""
    step = BLOCK_BYTES // one.element_bytes
    codes = np.empty((2, step), f"u{one.element_bytes}")
    for tensor in (one, other):
        target.reader.announce(tensor, 0, tensor.elements, BLOCK_BYTES, check)
    for start in range(0, one.elements, step):
        check()
        count = min(step, one.elements - start)
        for tensor, row in zip((one, other), codes, strict=True):
            target.reader.read(tensor, start, count, row.data.cast("B"))
        differs = codes[0, :count] != codes[1, :count]
        if differs.any():
            return start + int(np.argmax(differs))
    return None
