"""Everything of a model folder that is not weights: config, tokenizer, code."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError
from .checksum import CHECKSUM_FILE

WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".onnx", ".onnx_data"}
    | {".h5", ".msgpack", ".npz", ".tflite", ".mlmodel", ".ot"}
)
"""Weights in this or another format: copied, they would contradict the restored ones."""

SKIPPED_FOLDERS = frozenset({"__pycache__", "runs", "wandb", "onnx", "openvino", "original"})
"""Folders that belong to a training run or to weights in another format."""

OWN_FILES = frozenset(
    {"diff_summary.tsv", "restore_stats.tsv", "selected_param_stats.json", "shardrestore.json"}
    | {CHECKSUM_FILE}
)
"""Reports and checksums of an earlier restoration: they describe that one, not the next."""

MAX_DEPTH = 32
"""Folders within each other; a model has two or three, a trap has a thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFile:
    """A file that is copied as it is."""

    name: str
    """Path relative to the folder, with forward slashes."""

    source: Path
    """Where its bytes are; symbolic links are followed."""

    nbytes: int
    """Size in bytes."""


def find_side_files(folder: Path) -> tuple[SideFile, ...]:
    """Return every side file of a model folder, in order of name.

    Left out: weights in any format and their indexes, hidden files and folders
    (``.git``, ``.cache``), training checkpoints (``checkpoint-500``), folders
    reached through a symbolic link, and reports of an earlier restoration.

    Raises
    ------
    CheckpointError
        If folders lie more than ``MAX_DEPTH`` deep.
    """
    return tuple(sorted(_walk(folder, ""), key=lambda file: file.name))


def _walk(folder: Path, prefix: str) -> Iterator[SideFile]:
    if prefix.count("/") > MAX_DEPTH:
        raise CheckpointError(
            f"{folder.parents[MAX_DEPTH]}: holds folders more than {MAX_DEPTH} deep, which no "
            f"model has: move {prefix.partition('/')[0]!r} elsewhere"
        )
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith(".") or name in OWN_FILES:
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED_FOLDERS and not entry.name.startswith("checkpoint-"):
                    yield from _walk(Path(entry.path), name + "/")
            elif _is_side_file(entry, name):
                yield SideFile(name=name, source=Path(entry.path), nbytes=entry.stat().st_size)


def _is_side_file(entry: os.DirEntry[str], name: str) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in WEIGHT_SUFFIXES or name.endswith(".index.json"):
        return False
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False  # a dangling link: there is nothing to copy
