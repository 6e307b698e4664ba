"""Counts of ties, shared by workers so that each knows the number of its first one."""

from __future__ import annotations

import threading
from collections.abc import Callable

_PATIENCE_SECONDS = 0.1
"""How long a stop may go unnoticed while waiting."""


class TieTally:
    """What the segments' keys count, filled in any order and read in canonical order.

    Waiting cannot deadlock: tasks are handed out in canonical order, and a
    worker publishes its own count before it waits, so every count that it waits
    for is being made by a worker that does not wait.

    So a segment is compared right after it is counted, while the page cache holds it; as two
    stages, each input would be read twice. That is why its lock stays, and why workers of a
    verification are threads of one process.

    Parameters
    ----------
    segments : int
        Number of segments.
    """

    def __init__(self, segments: int) -> None:
        self._ties: list[int | None] = [None] * segments
        self._firsts = [0]
        """Ties before each segment, as far as all earlier ones are known."""
        self._beyond = 0
        self._changed = threading.Condition()

    def publish(self, number: int, *, ties: int, beyond: int) -> None:
        """Tell the counts of segment `number`: keys at the cut, and keys beyond it."""
        with self._changed:
            self._ties[number] = ties
            self._beyond += beyond
            while len(self._firsts) <= len(self._ties):
                next_ties = self._next_ties()
                if next_ties is None:
                    break
                self._firsts.append(self._firsts[-1] + next_ties)
            self._changed.notify_all()

    def first_tie(self, number: int, check: Callable[[], None]) -> int:
        """Return how many ties lie before segment `number`, once that is known.

        `check` is called meanwhile; what it raises ends the waiting.
        """
        with self._changed:
            while len(self._firsts) <= number:
                check()
                self._changed.wait(_PATIENCE_SECONDS)
            return self._firsts[number]

    @property
    def ties(self) -> int:
        """Ties of all segments; once all are published."""
        return self._firsts[-1]

    @property
    def beyond(self) -> int:
        """Elements strictly beyond the cut, in all segments published so far."""
        return self._beyond

    def _next_ties(self) -> int | None:
        known = len(self._firsts) - 1
        return self._ties[known] if known < len(self._ties) else None
