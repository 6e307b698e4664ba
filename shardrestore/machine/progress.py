"""What the passes tell whoever watches them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

STAGES = ("download", "scan", "refine", "random", "restore", "relay", "verify", "push")
"""In the order in which a run comes by; not every run has each.

``relay`` is ``restore`` where each shard is uploaded before the next is begun: its bytes are
those that are read, and those that are sent."""


class Observer(Protocol):
    """Receives progress; the library itself never prints.

    Calls come one at a time, though from different threads.
    """

    def note(self, remark: str) -> None:
        """Hear something that its user should know, between stages."""

    def begin(self, stage: str, total_bytes: int) -> None:
        """Begin a stage, such as ``scan``; see ``STAGES``."""

    def advance(self, nbytes: int) -> None:
        """Note that `nbytes` more of the stage's bytes are done."""

    def end(self) -> None:
        """End the stage."""


class SilentObserver:
    """Watches without a word."""

    def note(self, remark: str) -> None:
        """Ignore the remark."""

    def begin(self, stage: str, total_bytes: int) -> None:
        """Ignore the stage."""

    def advance(self, nbytes: int) -> None:
        """Ignore the bytes."""

    def end(self) -> None:
        """Ignore the end."""


class SerialObserver:
    """Passes calls of many threads on to an observer, one at a time."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.Lock()

    def note(self, remark: str) -> None:
        """Pass the remark on."""
        with self._lock:
            self._observer.note(remark)

    def begin(self, stage: str, total_bytes: int) -> None:
        """Pass the stage on."""
        with self._lock:
            self._observer.begin(stage, total_bytes)

    def advance(self, nbytes: int) -> None:
        """Pass the bytes on."""
        with self._lock:
            self._observer.advance(nbytes)

    def end(self) -> None:
        """Pass the end on."""
        with self._lock:
            self._observer.end()


def in_units(observer: Observer, unit_bytes: int) -> Callable[[int], None]:
    """Return a function that tells an observer of progress in units of so many bytes."""

    def advance(units: int) -> None:
        observer.advance(units * unit_bytes)

    return advance
