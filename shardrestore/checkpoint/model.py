"""A model: tensors that have names, a configuration, and elements that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..notes import Note
from .reader import TensorReader
from .tensor import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What memory a model's description takes, besides its weights."""

    tensors: int
    """Tensors, and lines of metadata."""
    header_bytes: int
    """Headers of its files; one that is not ASCII counts four times."""
    document_bytes: int
    """Memory that parsing index and configuration takes."""
    files: int = 0
    """Files that lie beside its weights, and are copied with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model whose weights are read where they are; use it as a context manager to close it.

    This one is in memory: nothing has to be fetched, nothing has a version, nothing is closed.
    """

    where: str
    """Name for messages: a path, a repository, a class."""
    tensors: Mapping[str, Tensor]
    """By name, in canonical order: code points."""
    config: Mapping[str, Any]
    """``config.json``, empty if there is none."""
    reader: TensorReader
    notes: tuple[Note, ...] = ()
    """What was found when it was opened."""

    @property
    def nbytes(self) -> int:
        """Size of its weights, and of the files that hold them, in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def on_disk(self) -> bool:
        """Whether reading it needs no network."""
        return True

    def footprint(self) -> Footprint:
        """Return the memory that its description takes."""
        return Footprint(tensors=len(self.tensors), header_bytes=0, document_bytes=0)

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes this model from another, as JSON values."""
        return {"path": self.where, **self.reader.identity()}

    def check_unchanged(self) -> None:
        """Raise ``InputChangedError`` if it is not what it was when it was opened.

        In memory that is not known: weights that are trained meanwhile show in the counts.
        """

    def hang_up(self) -> None:
        """Wake threads that wait for bytes from afar, minutes otherwise; nothing arrives after."""

    def close(self) -> None:
        """Release what it holds."""

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
