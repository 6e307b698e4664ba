"""A note beside a model whose weights have been deleted: where on the Hub they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint.allowance import Allowance
from ..documents import encode_json, key, to_json
from ..errors import CheckpointError
from ..names import UPLOADED_FILE
from .filesystem import sync_file, sync_folder
from .writer import explain_write_error

UPLOADED_FORMAT = 1
"""Version of the note's keys; raised when one changes its meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """A weight file as the Hub has confirmed it."""

    name: str
    """Relative to the model's folder."""
    nbytes: int = field(metadata=key("bytes"))
    sha256: str

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> UploadedFile:
        """Return what JSON values describe; a ``ValueError`` or its like if nothing."""
        return cls(
            name=check_text(document["name"]),
            nbytes=check_count(document["bytes"]),
            sha256=check_text(document["sha256"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """Where the weights of a folder are."""

    repository: str
    branch: str | None
    """The branch that was committed to; None if an older note does not say."""
    commit: str
    url: str
    """Address of the commit."""
    files: tuple[UploadedFile, ...]

    @property
    def nbytes(self) -> Mapping[str, int]:
        """Size of each file."""
        return {file.name: file.nbytes for file in self.files}

    def describe(self, folder: Path) -> str:
        """Say where the weights are, and how to get them back."""
        return (
            f"{folder}: its weights are on the Hub, in {self.repository} at commit {self.commit}, "
            "and were deleted here after their upload: to get them back, `hf download "
            f"{self.repository} --revision {self.commit} --include '*.safetensors' "
            f"--local-dir {folder}`"
        )


def read_uploaded(folder: Path, allowance: Allowance | None = None) -> Uploaded | None:
    """Return the note of a folder; None if there is none.

    Raises
    ------
    CheckpointError
        If it is damaged.
    MemoryBudgetError
        If parsing it takes more than `allowance` has left.
    """
    path = folder / UPLOADED_FILE
    if not os.path.lexists(path):
        return None
    try:
        document = json.loads((allowance or Allowance()).read(path))
        if document["format"] != UPLOADED_FORMAT:
            raise ValueError("another format")
        return Uploaded(
            repository=check_text(document["repository"]),
            branch=check_text(document["branch"]) if "branch" in document else None,
            commit=check_text(document["commit"]),
            url=check_text(document["url"]),
            files=tuple(map(UploadedFile.parse, document["files"])),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: damaged: it should say where the weights are; delete it if they are here"
        ) from error


def write_uploaded(folder: Path, uploaded: Uploaded) -> None:
    """Write the note of a folder; it is on disk, whole, when this returns."""
    path = folder / UPLOADED_FILE
    growing = path.with_name(f".{UPLOADED_FILE}.partial")
    text = encode_json({"format": UPLOADED_FORMAT, **to_json(uploaded)})
    try:
        with open(growing, "wb") as file:
            file.write(text)
            file.flush()
            sync_file(file.fileno())
        os.rename(growing, path)
        sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            growing.unlink()
        raise explain_write_error(path, len(text), error) from error


def check_text(value: Any) -> str:
    """Return a text of a document that anybody may have edited; a ``ValueError`` if it is none."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("not a text")
    return value


def check_count(value: Any) -> int:
    """Return a count of such a document; a ``ValueError`` if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("not a count")
    return value
