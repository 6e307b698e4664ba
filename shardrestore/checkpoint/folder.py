"""A checkpoint: its shards, the tensors in them, its configuration and side files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import CheckpointError, MemoryBudgetError
from ..names import CONFIG_FILE
from .accepted import note_accepted
from .allowance import Allowance
from .config import parse_config
from .contents import explain_absence
from .copies import check_copies
from .document import character_bytes, weigh_document
from .entry import show_name
from .header import Header, header_length, parse_header, weigh_header
from .index import parse_index
from .location import Location
from .model import Footprint, Model
from .placement import Copy, place_tensors
from .reader import StoredReader
from .selection import DEFAULT_POLICY, FilePolicy, SideFiles, select_side_files
from .shard import Shard
from .source import ByteSource
from .tensor import Tensor
from .weights import NAMED_WEIGHTS, find_numbered, find_weights, index_beside, read_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Model):
    """A model in files: whatever its reader makes of them, they are what is copied and kept."""

    location: Location
    shards: tuple[Shard, ...]
    """In order of file name."""
    index: str | None
    """Name of the index that belongs beside them; a single ``model.safetensors`` needs none."""
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
        headers = [shard.header for shard in self.shards]
        footprint = weigh_headers(headers, self.document_bytes)
        return replace(footprint, files=len(self.side_files.copied))

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
        Which of its files are the model is said in ``weights``. It is closed with the
        checkpoint, and after an error.
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
        return _read(
            location, role, Allowance(max_memory_bytes, "index, configuration and headers"), policy
        )
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


def _read(location: Location, role: str, allowance: Allowance, policy: FilePolicy) -> Checkpoint:
    documents = _Documents(location, allowance)
    text = documents.read(CONFIG_FILE) if location.has(CONFIG_FILE) else b"{}"
    config = parse_config(text, documents.name(CONFIG_FILE))
    found = find_weights(location.names(), config, documents.name(CONFIG_FILE))
    if found is None:
        raise CheckpointError(explain_absence(location.contents()))
    _check_named(location, config, documents.name(CONFIG_FILE))
    weight_map: dict[str, str] = {}
    if found.index is not None:
        weight_map = parse_index(documents.read(found.index), documents.name(found.index))
    names = sorted(set(weight_map.values())) or list(found.shards)
    index = index_beside(names, config)
    if weight_map:
        _refuse_missing(location, names, documents.name(found.index or ""))
    sources = location.open(names)
    try:
        shards = [
            Shard(filename=name, header=read_header(source, allowance), source=source)
            for name, source in zip(names, sources, strict=True)
        ]
        by_name = {shard.filename: shard for shard in shards}
        headers = {name: list(shard.header.tensors) for name, shard in by_name.items()}
        placement = place_tensors(weight_map, headers, documents.name(found.index or ""))
        check_copies(by_name, placement.copies)
        shards = [_leave_out(shard, placement.copies) for shard in shards]
        return Checkpoint(
            where=location.where,
            reader=StoredReader(shards),
            location=location,
            shards=tuple(shards),
            tensors=collect_tensors(shards),
            index=index,
            config=config,
            side_files=select_side_files(
                location.files(),
                [*names, *filter(None, (found.index, index))],
                policy,
                location.where,
                max_memory_bytes=allowance.left,
            ),
            policy=policy,
            document_bytes=documents.nbytes,
            notes=tuple(note_accepted(role, found, names, placement)),
        )
    except BaseException:
        for source in sources:
            source.close()
        raise


class _Documents:
    """Index and configuration: read, and weighed before they are parsed."""

    def __init__(self, location: Location, allowance: Allowance) -> None:
        self._location = location
        self._allowance = allowance
        self.nbytes = 0
        """Memory that parsing what has been read takes."""

    def name(self, name: str) -> str:
        """Return a document's name for messages."""
        return f"{self._location.where}/{name}"

    def read(self, name: str) -> bytes:
        text = self._location.read(name)
        self.nbytes += weigh_document(text)
        self._allowance.take(weigh_document(text), self.name(name))
        return text


def _check_named(location: Location, config: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration whose weights are not there."""
    named = read_named(config)
    if named is not None and not location.has(named):
        raise CheckpointError(
            f"{where}: {NAMED_WEIGHTS} names {show_name(named)}, which is missing: "
            f"{location.explain_missing(named)}"
        )


def _refuse_missing(location: Location, names: Sequence[str], index: str) -> None:
    missing = [name for name in names if not location.has(name)]
    if not missing:
        return
    advice = location.explain_missing(missing[0])
    others = [one for one in find_numbered(location.names()) if not one.missing]
    local = location.contents().repository is None
    if local and len(others) == 1 and not set(others[0].shards).intersection(names):
        advice = (
            f"{others[0].count} shards of another count are here, all of them: if they are the "
            f"model, remove {index}"
        )
    which = f"{len(missing)} of its {len(names)} shards are" if len(missing) > 1 else "which is"
    raise CheckpointError(
        f"{index}: names the shard {show_name(missing[0])}, {which} missing: {advice}"
    )


def _leave_out(shard: Shard, copies: Sequence[Copy]) -> Shard:
    """Return a shard without what counts in another one."""
    names = {copy.name for copy in copies if copy.shard == shard.filename}
    return replace(shard, header=shard.header.without(names)) if names else shard


def read_header(source: ByteSource, allowance: Allowance | None = None) -> Header:
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
