"""Memory that documents may take when they are parsed: asked before each of them is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import MemoryBudgetError
from .document import read_document, weigh_document

USUAL_BYTES = 256 << 20
"""What documents may take where nobody has set a budget."""


class Allowance:
    """What is left for documents.

    A header of 100 MB can hold a million tensors, or 50 million brackets; a record or a table of
    a finished model, which may be anybody's, can as well.

    Parameters
    ----------
    nbytes : int
    what : str
        Which documents, for the message.
    """

    def __init__(self, nbytes: int = USUAL_BYTES, what: str = "record and reports") -> None:
        self._nbytes = nbytes
        self._what = what
        self._taken = 0

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return max(self._nbytes - self._taken, 0)

    def take(self, nbytes: int, where: str) -> None:
        """Take what parsing a document needs.

        Raises
        ------
        MemoryBudgetError
            If that is more than is left.
        """
        self._taken += nbytes
        if self._taken > self._nbytes:
            raise MemoryBudgetError(
                f"{where}: to parse {self._what} up to this file takes about "
                f"{self._taken >> 20:,} MiB of memory, --max-memory leaves "
                f"{self._nbytes >> 20:,} MiB for that: raise it, if this is the right file"
            )

    def read(self, path: Path, weigh: Callable[[bytes], int] = weigh_document) -> bytes:
        """Read a document whole, and take what parsing it needs.

        Raises
        ------
        CheckpointError
            See ``read_document``.
        MemoryBudgetError
            See ``take``.
        """
        text = read_document(path)
        self.take(weigh(text), str(path))
        return text
