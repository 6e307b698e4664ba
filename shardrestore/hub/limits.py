"""How much a server may answer: bytes of files, memory of documents, and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..checkpoint.document import weigh_document

DOCUMENT_BYTES = 256 << 20
"""Memory that the documents of one question may take when parsed; some 100,000 files listed."""

LISTING_SECONDS = 900.0
"""How long the Hub may take to list the files of a commit, page after page."""

SLOWEST_BYTES_PER_SECOND = 1000
"""What the body of an answer has to bring on average, over each ``PATIENCE_SECONDS``."""

PATIENCE_SECONDS = 60.0


ATTEMPTS = 6
"""Tries in a row that may fail before bytes are given up; each may have to begin anew."""

_SLACK_BYTES = 1 << 20
"""Of answers beside a file's own: errors, redirections."""


class Refused(Exception):
    """A server does what none may do; the message says what, and the next step."""


class Limits:
    """What is left to be answered.

    Parameters
    ----------
    file_bytes : int or None
        Bytes of a file, asked for by ``ATTEMPTS`` at most; None for documents, which are weighed.
    seconds : float
        From now on.
    """

    def __init__(self, *, file_bytes: int | None = None, seconds: float = float("inf")) -> None:
        self._documents = file_bytes is None
        self._body = DOCUMENT_BYTES if file_bytes is None else file_bytes + _SLACK_BYTES
        self._left = self._body * (1 if self._documents else ATTEMPTS)
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def charge(self, part: bytes, position: int, host: str) -> None:
        """Note a part of an answer, and where in it that ends.

        Raises
        ------
        Refused
            If it is more than was left.
        """
        self._left -= weigh_document(part) if self._documents else len(part)
        if self._left >= 0 and position <= self._body:
            return
        most = "of memory for answers of a Hub" if self._documents else "for this file"
        raise Refused(
            f"{host} does not stop answering: at most {self._body:,} bytes {most}: try again "
            "later, or download the model otherwise and name its folder"
        )

    def check_time(self, host: str) -> None:
        """Raise Refused if the time is over."""
        if time.monotonic() > self._deadline:
            raise Refused(
                f"{host} does not stop answering: {self._seconds:,.0f} seconds are the longest "
                "that is waited for its last answer; try again later"
            )


_limits: ContextVar[Limits | None] = ContextVar("limits", default=None)


@contextmanager
def limited(*, file_bytes: int | None = None, seconds: float = float("inf")) -> Iterator[None]:
    """Limit all that is answered to this thread together; see ``Limits``."""
    token = _limits.set(Limits(file_bytes=file_bytes, seconds=seconds))
    try:
        yield
    finally:
        _limits.reset(token)


def current_limits() -> Limits:
    """Return what limits this thread's answers; new ones on a thread of huggingface_hub's own."""
    return _limits.get() or Limits()


Say = Callable[[str], None]
"""Takes what the user should know."""

_say: ContextVar[Say | None] = ContextVar("say", default=None)


@contextmanager
def saying(say: Say) -> Iterator[None]:
    """Have `say` told of pauses that this thread makes because a server asks for them."""
    token = _say.set(say)
    try:
        yield
    finally:
        _say.reset(token)


def say_pause(remark: str) -> None:
    """Tell whoever listens on this thread of a pause."""
    say = _say.get()
    if say is not None:
        say(remark)
