"""Files of the Hub compared with their hashes on a thread of its own, while weights are read."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

from ..checkpoint.source import Progress


@runtime_checkable
class Hashed(Protocol):
    """A file whose bytes can be compared with a hash."""

    def check_content(self, advance: Progress) -> None:
        """Raise ``HubError`` if they are others; `advance` is called meanwhile and may raise."""


class ContentCheck:
    """Compares files with their hashes between entering and ``finish``.

    Parameters
    ----------
    files : sequence of Hashed
        On disk by then.
    """

    def __init__(self, files: Sequence[Hashed]) -> None:
        self._files = files
        self._failure: BaseException | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(
            target=self._check_all, name="shardrestore-hash", daemon=True
        )

    def __enter__(self) -> Self:
        if self._files:
            try:
                self._thread.start()
            except RuntimeError:  # the system allows no more threads
                self._check_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._leaving.set()
        self._wait()

    def finish(self) -> None:
        """Wait until all files have been compared.

        Raises
        ------
        HubError
            If one is not what its commit lists.
        """
        self._wait()
        if self._failure is not None:
            raise self._failure

    def _wait(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _check_all(self) -> None:
        try:
            for file in self._files:
                file.check_content(self._advance)
        except _Left:
            pass
        except BaseException as error:  # whatever it is: it is raised by ``finish``
            self._failure = error

    def _advance(self, nbytes: int) -> None:
        if self._leaving.is_set():
            raise _Left


class _Left(Exception):
    """Nobody waits for the result any more."""
