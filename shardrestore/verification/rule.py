"""Which elements must be restored, stated once more: by key, and by turn among ties.

Written from the definition (docs/adr/0002), sharing nothing with what selects:
whole arrays at a time, no remainder carried from element to element.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..kernels.interface import Keys
from .record import Record

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The cut that a record gives."""

    strategy: str
    tie_first: int
    """Smallest key that ties."""
    tie_keys: int
    """Number of keys that tie."""
    ties: int
    """Elements that tie; at least 1."""
    taken: int
    """How many of them are restored."""
    seed: int | None
    """Seed of the keys; None where they are scores."""

    @classmethod
    def of(cls, record: Record) -> Rule:
        """Return the cut of a record; a record without ties is a finding made elsewhere."""
        return cls(
            strategy=record.strategy,
            tie_first=record.tie_first_key,
            tie_keys=record.tie_keys,
            ties=max(record.ties, 1),
            taken=record.ties_taken,
            seed=record.seed,
        )

    def mark(self, keys: Keys, beyond: Mask, tied: Mask) -> None:
        """Mark the keys that are restored whatever their turn, and those that tie."""
        above = beyond
        np.greater_equal(keys, np.uint32(self.tie_first), out=tied)
        np.greater_equal(keys, np.uint32(self.tie_first + self.tie_keys), out=above)
        np.bitwise_xor(tied, above, out=tied)
        if self.strategy != "top":  # lower keys are restored: neither those above nor those tied
            np.bitwise_or(above, tied, out=beyond)
            np.logical_not(beyond, out=beyond)

    def turns(self, first: int, count: int) -> Mask:
        """Return whether each of `count` ties, the first of them number `first`, is restored.

        Number j is if and only if ``((j + 1) * taken) // ties > (j * taken) // ties``.
        At most 2^17 at a time.

        Examples
        --------
        >>> rule = Rule(strategy="top", tie_first=0, tie_keys=1, ties=5, taken=2, seed=None)
        >>> rule.turns(1, 4).tolist()
        [False, True, False, True]
        """
        # Whole multiples of `ties` are taken off first: with no more than 2^17
        # multiples of a count below 2^45 added, all stays within 64 bits.
        start = first * self.taken % self.ties
        products = start + np.arange(count + 1, dtype=np.int64) * self.taken
        shares = products // self.ties
        return shares[1:] > shares[:-1]
