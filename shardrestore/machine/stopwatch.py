"""Time as it passes: of a whole call, and of its phases by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Phase = Literal["download", "scan", "restore", "upload"]


class Stopwatch:
    """Wall time since a call began, and of its phases.

    A phase inside another one is not part of it: the outer one stands still meanwhile. One
    thread measures, the one that carries out the call.

    Parameters
    ----------
    clock : callable
        Returns the time in seconds.

    Examples
    --------
    >>> times = iter([0.0, 1.0, 3.0, 7.0, 8.0, 9.0])
    >>> watch = Stopwatch(lambda: next(times))
    >>> with watch.phase("restore"):
    ...     with watch.phase("upload"):
    ...         pass
    >>> watch.seconds("restore"), watch.seconds("upload"), watch.elapsed
    (3.0, 4.0, 9.0)
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started = self._changed = clock()
        self._seconds: dict[Phase, float] = {}
        self._running: list[Phase] = []

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Measure what is done inside as part of a phase, and of no other."""
        self._change()
        self._running.append(name)
        try:
            yield
        finally:
            self._change()
            self._running.pop()

    def _change(self) -> None:
        now = self._clock()
        if self._running:
            name = self._running[-1]
            self._seconds[name] = self.seconds(name) + now - self._changed
        self._changed = now

    def seconds(self, name: Phase) -> float:
        """Return the time that a phase has taken, as often as it was entered and left."""
        return self._seconds.get(name, 0.0)

    @property
    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self._clock() - self._started
