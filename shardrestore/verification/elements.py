"""The elements of the region: each one the base's or the target's, as the rule says."""

from __future__ import annotations

import numpy as np

from ..kernels.interface import Codes
from ..plan.segment import Segment
from .blocks import Blocks, Chunk
from .findings import Difference
from .layout import PlacedTensor
from .rule import Mask, Rule


class ElementCheck:
    """One worker's look at segments of the region.

    A segment is looked at twice: first its keys alone are counted, since which
    ties are restored depends on how many there are before; then, with that
    known, every element is compared. The second time base and target come from
    the page cache.

    Parameters
    ----------
    blocks : Blocks
    rule : Rule
    turns : int
        Ties whose turns are computed at once.
    """

    def __init__(self, blocks: Blocks, rule: Rule, turns: int) -> None:
        self._blocks = blocks
        self._rule = rule
        self._turns = turns
        self._masks = [np.empty(blocks.chunk_elements, np.bool_) for _ in range(4)]

    def count(self, segment: Segment) -> tuple[int, int]:
        """Return how many keys of a segment tie, and how many lie beyond the cut."""
        ties = beyond = 0
        for keys in self._blocks.keys(segment):
            restored, tied = (mask[: keys.size] for mask in self._masks[:2])
            self._rule.mark(keys, restored, tied)
            ties += int(np.count_nonzero(tied))
            beyond += int(np.count_nonzero(restored))
        return ties, beyond

    def compare(self, segment: Segment, placed: PlacedTensor, first_tie: int) -> Difference | None:
        """Compare every element of a segment, whose first tie has number `first_tie`."""
        found: Difference | None = None
        for chunk in self._blocks.chunks(segment, placed):
            restored, tied, wrong, other = (mask[: chunk.keys.size] for mask in self._masks)
            first_tie += self._mark_restored(chunk, first_tie, restored, tied)
            # Wrong is what differs from the side it should be of, said in masks
            # alone: choosing that side's codes first would take twice as long.
            np.not_equal(chunk.output, chunk.target, out=wrong)
            np.not_equal(chunk.output, chunk.base, out=other)
            np.bitwise_xor(other, wrong, out=other)
            np.bitwise_and(other, restored, out=other)
            np.bitwise_xor(wrong, other, out=wrong)
            if wrong.any():
                found = self._describe(segment, placed, chunk, restored, tied, wrong).merge(found)
        return found

    def _mark_restored(self, chunk: Chunk, first_tie: int, restored: Mask, tied: Mask) -> int:
        """Mark what must be restored and what ties; return the number of ties."""
        self._rule.mark(chunk.keys, restored, tied)
        places = np.flatnonzero(tied)
        for begin in range(0, places.size, self._turns):
            some = places[begin : begin + self._turns]
            restored[some] = self._rule.turns(first_tie + begin, some.size)
        return int(places.size)

    def _describe(
        self,
        segment: Segment,
        placed: PlacedTensor,
        chunk: Chunk,
        restored: Mask,
        tied: Mask,
        wrong: Mask,
    ) -> Difference:
        at = int(wrong.argmax())
        codes = [show_code(side, at) for side in (chunk.output, chunk.base, chunk.target)]
        is_other = codes[0] == codes[1 + bool(restored[at])]
        reason = (
            self._explain(restored=bool(restored[at]), tied=bool(tied[at]))
            if is_other
            else "neither the base's value nor the target's"
        )
        return Difference(
            file=placed.source.where,
            name=segment.pair.name,
            count=int(np.count_nonzero(wrong)),
            element=chunk.start + at,
            text=f"is {codes[0]} (base {codes[1]}, target {codes[2]}): {reason}",
        )

    def _explain(self, *, restored: bool, tied: bool) -> str:
        """Say why an element of the one side should be of the other."""
        if tied and restored:
            return "not restored, although it ties and its turn has come"
        if tied:
            return "restored, although it ties and its turn has not come"
        side = "above" if restored == (self._rule.strategy == "top") else "below"
        rank = (
            "score is {} the threshold" if self._rule.seed is None else "random key is {} the cut"
        )
        return f"{'not ' if restored else ''}restored, although its {rank.format(side)}"


def show_code(codes: Codes, at: int) -> str:
    """Return an element as its pattern of bits: ``0x3f80``."""
    return f"0x{int(codes[at]):0{codes.itemsize * 2}x}"
