"""Everything of a model folder that is not weights: config, tokenizer, code."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from ..errors import CheckpointError
from ..names import OWN_FILES
from .source import Fetchable, Progress, ignore_progress

WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".onnx", ".onnx_data"}
    | {".h5", ".msgpack", ".npz", ".tflite", ".mlmodel", ".ot"}
)
"""Weights in this or another format: copied, they would contradict the restored ones."""

SKIPPED_FOLDERS = frozenset({"__pycache__", "runs", "wandb", "onnx", "openvino", "original"})
"""Folders that belong to a training run or to weights in another format."""

MAX_DEPTH = 32
"""Folders within each other; a model has two or three, a trap has a thousand."""


class SideFile(Fetchable, Protocol):
    """A file that is copied as it is."""

    @property
    def name(self) -> str:
        """Path relative to the checkpoint, with forward slashes."""

    def check_readable(self) -> None:
        """Raise ``CheckpointError`` if it is known that it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSideFile:
    """A side file on disk."""

    name: str
    """Path relative to the folder, with forward slashes."""

    source: Path
    """Where its bytes are; symbolic links are followed."""

    nbytes: int
    """Size in bytes."""

    @property
    def on_disk(self) -> bool:
        """It is."""
        return True

    def check_readable(self) -> None:
        """Raise ``CheckpointError`` without the permission to read it."""
        if not os.access(self.source, os.R_OK):
            raise CheckpointError(f"{self.source}: cannot be read: no permission")

    def fetch(self, advance: Progress = ignore_progress) -> Path:
        """Return where its bytes are."""
        return self.source


def is_side_file(name: str) -> bool:
    """Whether a file of this name is copied, by its path relative to the checkpoint.

    Not: weights in any format and their indexes, hidden files and folders (``.git``,
    ``.cache``), training checkpoints (``checkpoint-500``), and reports of an earlier
    restoration.

    Examples
    --------
    >>> [is_side_file(name) for name in ("tokenizer.json", "onnx/config.json", "model.gguf")]
    [True, False, False]
    """
    *folders, last = PurePosixPath(name).parts
    suffix = os.path.splitext(last)[1].lower()
    return (
        name.partition("/")[0] not in OWN_FILES
        and all(map(_is_entered, folders))
        and not last.startswith(".")
        and suffix not in WEIGHT_SUFFIXES
        and not name.endswith(".index.json")
    )


def _is_entered(folder: str) -> bool:
    return not folder.startswith((".", "checkpoint-")) and folder not in SKIPPED_FOLDERS


def find_side_files(folder: Path) -> tuple[SideFile, ...]:
    """Return every side file of a model folder, in order of name.

    Folders that are reached through a symbolic link are left out.

    Raises
    ------
    CheckpointError
        If folders lie more than ``MAX_DEPTH`` deep.
    """
    return tuple(sorted(_walk(folder, ""), key=lambda file: file.name))


def _walk(folder: Path, prefix: str) -> Iterator[LocalSideFile]:
    if prefix.count("/") > MAX_DEPTH:
        raise CheckpointError(
            f"{folder.parents[MAX_DEPTH]}: holds folders more than {MAX_DEPTH} deep, which no "
            f"model has: move {prefix.partition('/')[0]!r} elsewhere"
        )
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if _is_entered(entry.name) and name not in OWN_FILES:
                    yield from _walk(Path(entry.path), name + "/")
            elif is_side_file(name) and _is_regular(entry):
                size = entry.stat().st_size
                yield LocalSideFile(name=name, source=Path(entry.path), nbytes=size)


def _is_regular(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False  # a dangling link: there is nothing to copy
