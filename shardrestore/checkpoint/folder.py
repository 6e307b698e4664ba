"""A checkpoint: its shards, the tensors in them, its configuration and side files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError, MemoryBudgetError
from ..names import CONFIG_FILE, INDEX_FILE, SINGLE_FILE
from .config import parse_config
from .document import character_bytes, weigh_document
from .entry import show_name
from .header import Header, header_length, parse_header, weigh_header
from .index import check_index, parse_index
from .location import LocalFolder, Location
from .model import Footprint, Model
from .reader import StoredReader
from .selection import DEFAULT_POLICY, FilePolicy, SideFiles, select_side_files
from .shard import Shard
from .source import ByteSource
from .tensor import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Model):
    """A model in files: whatever its reader makes of them, they are what is copied and kept."""

    location: Location
    shards: tuple[Shard, ...]
    """In order of file name."""
    indexed: bool
    """Whether it has an index; a single ``model.safetensors`` has none."""
    side_files: SideFiles
    """What lies beside them."""
    policy: FilePolicy
    """What its user says of its files."""
    document_bytes: int
    """Memory that parsing its index and configuration takes, in bytes."""

    @property
    def nbytes(self) -> int:
        """Size of all shards in bytes."""
        return sum(shard.source.nbytes for shard in self.shards)

    @property
    def on_disk(self) -> bool:
        """Whether all shards are on a disk of this machine."""
        return all(shard.source.on_disk for shard in self.shards)

    def footprint(self) -> Footprint:
        """Return the memory that headers and documents take."""
        return weigh_headers([shard.header for shard in self.shards], self.document_bytes)

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes this checkpoint from another, as JSON values."""
        return {**self.location.identity(), **self.reader.identity()}

    def check_unchanged(self) -> None:
        """Raise ``InputChangedError`` if it is not what it was when it was opened.

        Its shards, its index and its configuration; side files say it themselves.
        """
        for shard in self.shards:
            shard.source.check_unchanged()
        self.location.check_unchanged()

    def hang_up(self) -> None:
        """Wake threads that wait for bytes from afar, minutes otherwise; nothing arrives after."""
        for shard in self.shards:
            if not shard.source.on_disk:
                shard.source.close()

    def close(self) -> None:
        """Close all shards."""
        for shard in self.shards:
            shard.source.close()
        self.location.close()

    def __enter__(self) -> Checkpoint:
        return self


def weigh_headers(headers: Sequence[Header], document_bytes: int) -> Footprint:
    """Return the memory that headers take, and the documents beside them."""
    return Footprint(
        tensors=sum(len(header.tensors) + len(header.metadata or ()) for header in headers),
        header_bytes=sum(len(header.raw) * character_bytes(header.raw) for header in headers),
        document_bytes=document_bytes,
    )


class _Allowance:
    """Memory that headers, index and configuration may take; asked before each is parsed.

    A header of 100 MB can hold a million tensors, or 50 million brackets.
    """

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._taken = 0

    @property
    def left(self) -> int:
        return max(self._nbytes - self._taken, 0)

    def take(self, nbytes: int, where: str) -> None:
        self._taken += nbytes
        if self._taken > self._nbytes:
            raise MemoryBudgetError(
                f"{where}: to parse index, configuration and headers up to this file takes about "
                f"{self._taken >> 20:,} MiB of memory, --max-memory allows "
                f"{self._nbytes >> 20:,} MiB in all: raise it, if this is the right file"
            )


def read_checkpoint(
    location: Location,
    role: str,
    *,
    max_memory_bytes: int = sys.maxsize,
    policy: FilePolicy = DEFAULT_POLICY,
) -> Checkpoint:
    """Open the checkpoint at a location and read its headers; no weight is read.

    Parameters
    ----------
    location : Location
        With ``model.safetensors``, or with ``model.safetensors.index.json`` and the
        shards that it names. Where both exist the single file counts, as for
        transformers. It is closed with the checkpoint, and after an error.
    role : str
        ``"base"`` or ``"target"``, for messages.
    max_memory_bytes : int
        What its headers, index and configuration may take at most, and the list of its files.
    policy : FilePolicy
        What its user says of its files.

    Raises
    ------
    CheckpointError
        If anything about it is not as the formats demand.
    MemoryBudgetError
        If it is too large to be parsed.
    RequestError
        If a pattern of `policy` matches nothing, or what must stay.
    """
    try:
        return _read(location, _Allowance(max_memory_bytes), policy)
    except OSError as error:
        location.close()
        where = show_name(str(error.filename or location.where))
        raise CheckpointError(f"{role} {where}: {error.strerror}") from error
    except MemoryError as error:
        location.close()
        raise MemoryBudgetError(
            f"{role} {location.where}: the system refused the memory to read its headers, index "
            "and configuration: raise the limit (`ulimit -v`), if this is the right folder"
        ) from error
    except BaseException:
        location.close()
        raise


def _read(location: Location, allowance: _Allowance, policy: FilePolicy) -> Checkpoint:
    index = _read_index(location)
    config = location.read(CONFIG_FILE) if location.has(CONFIG_FILE) else b"{}"
    document_bytes = 0
    for name, text in ((INDEX_FILE, index or b""), (CONFIG_FILE, config)):
        document_bytes += weigh_document(text)
        allowance.take(weigh_document(text), _join(location, name))
    weight_map = {} if index is None else parse_index(index, _join(location, INDEX_FILE))
    names = sorted(set(weight_map.values())) or [SINGLE_FILE]
    _refuse_missing(location, names)
    sources = location.open(names)
    try:
        shards = [
            Shard(filename=name, header=read_header(source, allowance), source=source)
            for name, source in zip(names, sources, strict=True)
        ]
        if weight_map:
            tensors = {shard.filename: list(shard.header.tensors) for shard in shards}
            check_index(weight_map, tensors, _join(location, INDEX_FILE))
        return Checkpoint(
            where=location.where,
            reader=StoredReader(shards),
            location=location,
            shards=tuple(shards),
            tensors=collect_tensors(shards),
            indexed=bool(weight_map),
            config=parse_config(config, _join(location, CONFIG_FILE)),
            side_files=select_side_files(
                location.files(),
                [*names, INDEX_FILE] if weight_map else names,
                policy,
                location.where,
                max_memory_bytes=allowance.left,
            ),
            policy=policy,
            document_bytes=document_bytes,
        )
    except BaseException:
        for source in sources:
            source.close()
        raise


def _join(location: Location, name: str) -> str:
    return f"{location.where}/{name}"


def _read_index(location: Location) -> bytes | None:
    """Return the index's text, None for a single file, which counts where both exist."""
    names = location.names()
    if SINGLE_FILE in names:
        return None
    if INDEX_FILE in names:
        return location.read(INDEX_FILE)
    raise CheckpointError(_explain_absence(location))


def _refuse_missing(location: Location, names: Sequence[str]) -> None:
    for name in names:
        if name != SINGLE_FILE and not location.has(name):
            raise CheckpointError(
                f"{_join(location, INDEX_FILE)}: names the shard {show_name(name)}, which is "
                f"missing: {location.explain_missing(name)}"
            )


def _explain_absence(location: Location) -> str:
    names, where = location.names(), location.where
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    if pickled:
        copy = f"{where.partition('@')[0].rpartition('/')[2]}-safetensors"
        if isinstance(location, LocalFolder):
            copy = f"{where}-safetensors"
        return (
            f"{where}: holds {show_name(pickled[0])} but no safetensors. Convert it: "
            f'python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{where}').save_pretrained('{copy}')\" "
            "and copy the tokenizer files along"
        )
    others = [name for name in names if name.endswith(".safetensors")]
    if "adapter_model.safetensors" in others:
        return (
            f"{where}: holds an adapter (adapter_model.safetensors), not a model: merge it into "
            "its base first (peft: merge_and_unload, then save_pretrained)"
        )
    found = f"only {', '.join(map(show_name, others[:3]))}" if others else "no safetensors file"
    return f"{where}: neither {SINGLE_FILE} nor {INDEX_FILE}; it holds {found}"


def read_header(source: ByteSource, allowance: _Allowance | None = None) -> Header:
    """Read and check the header of a safetensors file.

    Raises
    ------
    CheckpointError
        If safetensors would refuse the file; see ``parse_header``.
    MemoryBudgetError
        If parsing it takes more than the allowance has left.
    """
    prefix = bytearray(min(8, source.nbytes))
    source.read_into(0, memoryview(prefix))
    raw = bytearray(header_length(bytes(prefix), source.nbytes, source.where))
    source.read_into(8, memoryview(raw))
    if allowance is not None:
        allowance.take(weigh_header(raw), source.where)
    return parse_header(bytes(raw), source.nbytes, source.where)


def collect_tensors(shards: Sequence[Shard]) -> dict[str, Tensor]:
    """Return the tensors of all shards by name, in canonical order."""
    tensors = [
        Tensor(
            name=name,
            dtype=entry.dtype,
            shape=entry.shape,
            shard=number,
            offset=shard.header.data_start + entry.begin,
        )
        for number, shard in enumerate(shards)
        for name, entry in shard.header.tensors.items()
    ]
    return {tensor.name: tensor for tensor in sorted(tensors, key=lambda tensor: tensor.name)}
