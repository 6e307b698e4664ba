"""A checkpoint: its shards, the tensors in them, its configuration and side files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .config import CONFIG_FILE, parse_config
from .document import read_document, weigh_document
from .header import Header, header_length, parse_header
from .index import INDEX_FILE, SINGLE_FILE, check_index, parse_index
from .reference import resolve_folder
from .sidefile import SideFile, find_side_files
from .source import ByteSource, LocalFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Where a tensor's bytes are."""

    name: str
    dtype: str
    """As safetensors spells it: ``"BF16"``, ``"F32"``, …"""
    shape: tuple[int, ...]
    shard: int
    """Index into ``Checkpoint.shards``."""
    offset: int
    """First byte, from the start of the file."""
    nbytes: int
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One safetensors file of a checkpoint."""

    filename: str
    """Relative to the checkpoint's folder."""
    header: Header
    source: ByteSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An open checkpoint; use it as a context manager to close its files."""

    folder: Path
    shards: tuple[Shard, ...]
    """In order of file name."""
    tensors: Mapping[str, Tensor]
    """By name, in canonical order: code points."""
    indexed: bool
    """Whether it has an index; a single ``model.safetensors`` has none."""
    config: Mapping[str, Any]
    """``config.json``, empty if there is none."""
    side_files: tuple[SideFile, ...]

    document_bytes: int
    """Memory that parsing its index and configuration takes, in bytes."""

    @property
    def nbytes(self) -> int:
        """Size of all shards in bytes."""
        return sum(shard.source.nbytes for shard in self.shards)

    def identity(self) -> dict[str, Any]:
        """Return what tells this checkpoint from another, as JSON values."""
        return {
            "path": str(self.folder.resolve()),
            "shards": [
                {
                    "name": shard.filename,
                    "bytes": shard.source.nbytes,
                    "header_sha256": shard.header.sha256(),
                }
                for shard in self.shards
            ],
        }

    def close(self) -> None:
        """Close all shards."""
        for shard in self.shards:
            shard.source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_checkpoint(reference: str | os.PathLike[str], role: str) -> Checkpoint:
    """Open a checkpoint and read its headers; no weight is read.

    Parameters
    ----------
    reference : str or path-like
        A folder with ``model.safetensors``, or with
        ``model.safetensors.index.json`` and the shards that it names. Where
        both exist the single file counts, as for transformers.
    role : str
        ``"base"`` or ``"target"``, for messages.

    Raises
    ------
    CheckpointError
        If anything about it is not as the formats demand.
    """
    folder = resolve_folder(reference, role)
    try:
        return _open(folder)
    except PermissionError as error:
        raise CheckpointError(f"{role} {error.filename}: {error.strerror}") from error


def _open(folder: Path) -> Checkpoint:
    index, config = _read_index(folder), _read_config(folder)
    weight_map = parse_index(index, str(folder / INDEX_FILE)) if index else {}
    shards: list[Shard] = []
    try:
        shards.extend(
            _open_shard(folder, filename, indexed=bool(weight_map))
            for filename in sorted(set(weight_map.values())) or [SINGLE_FILE]
        )
        if weight_map:
            names = {shard.filename: list(shard.header.tensors) for shard in shards}
            check_index(weight_map, names, str(folder / INDEX_FILE))
        return Checkpoint(
            folder=folder,
            shards=tuple(shards),
            tensors=_collect_tensors(shards),
            indexed=bool(weight_map),
            config=parse_config(config, str(folder / CONFIG_FILE)),
            side_files=find_side_files(folder),
            document_bytes=weigh_document(index) + weigh_document(config),
        )
    except BaseException:
        for shard in shards:
            shard.source.close()
        raise


def _read_index(folder: Path) -> bytes:
    """Return the index's text, empty for a single file, which counts where both exist."""
    if os.path.lexists(folder / SINGLE_FILE):
        return b""
    if os.path.lexists(folder / INDEX_FILE):
        return read_document(folder / INDEX_FILE)
    raise CheckpointError(_explain_absence(folder))


def _read_config(folder: Path) -> bytes:
    path = folder / CONFIG_FILE
    return read_document(path) if path.is_file() else b"{}"


def _explain_absence(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    if pickled:
        return (
            f"{folder}: holds {pickled[0]} but no safetensors. Convert it: "
            f'python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\" "
            "and copy the tokenizer files along"
        )
    others = [name for name in names if name.endswith(".safetensors")]
    if "adapter_model.safetensors" in others:
        return (
            f"{folder}: holds an adapter (adapter_model.safetensors), not a model: merge it into "
            "its base first (peft: merge_and_unload, then save_pretrained)"
        )
    found = f"only {', '.join(others[:3])}" if others else "no safetensors file"
    return f"{folder}: neither {SINGLE_FILE} nor {INDEX_FILE}; it holds {found}"


def _open_shard(folder: Path, filename: str, *, indexed: bool) -> Shard:
    path = folder / filename
    if indexed and not os.path.exists(path):
        raise CheckpointError(
            f"{folder / INDEX_FILE}: names the shard {filename}, which is missing: "
            "download it again"
        )
    source = LocalFile(path)
    try:
        return Shard(filename=filename, header=_read_header(source), source=source)
    except BaseException:
        source.close()
        raise


def _read_header(source: ByteSource) -> Header:
    prefix = bytearray(min(8, source.nbytes))
    source.read_into(0, memoryview(prefix))
    raw = bytearray(header_length(bytes(prefix), source.nbytes, source.where))
    source.read_into(8, memoryview(raw))
    return parse_header(bytes(raw), source.nbytes, source.where)


def _collect_tensors(shards: list[Shard]) -> dict[str, Tensor]:
    tensors = [
        Tensor(
            name=name,
            dtype=entry.dtype,
            shape=entry.shape,
            shard=number,
            offset=shard.header.data_start + entry.begin,
            nbytes=entry.nbytes,
            elements=entry.elements,
        )
        for number, shard in enumerate(shards)
        for name, entry in shard.header.tensors.items()
    ]
    return {tensor.name: tensor for tensor in sorted(tensors, key=lambda tensor: tensor.name)}
