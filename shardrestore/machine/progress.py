"""What the passes report to those that watch them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

STAGES = (
    "download",
    "compare",
    "scan",
    "refine",
    "random",
    "restore",
    "restore_and_push",
    "inputs",
    "verify",
    "push",
)
"""In the order in which a run comes by; not every run has each.

``compare`` reads what may be tied in the target.
``restore_and_push`` is ``restore`` where each shard is uploaded before the next is begun: its
bytes are those that are read, and those that are sent."""


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


class Advancing(Protocol):
    """Receives progress: an observer, or a worker's executor."""

    def advance(self, nbytes: int) -> None:
        """Note that `nbytes` more are done."""


def in_units(heard: Advancing, unit_bytes: int) -> Callable[[int], None]:
    """Return a function that passes on progress in units of so many bytes."""

    def advance(units: int) -> None:
        heard.advance(units * unit_bytes)

    return advance
