"""Files, headers and index of an output, compared with the target's.

Every tensor whose place its header still gives can be compared; of the
others it is said that they were not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..checkpoint.allowance import Allowance
from ..checkpoint.document import weigh_document
from ..checkpoint.entry import show_name
from ..checkpoint.folder import Checkpoint, weigh_headers
from ..checkpoint.header import Header, header_length, parse_header
from ..checkpoint.index import parse_index
from ..checkpoint.model import Footprint
from ..checkpoint.shard import Shard
from ..checkpoint.source import ByteSource, LocalFile
from ..checkpoint.tensor import Tensor
from ..errors import CheckpointError
from ..formats import FORMATS, cast_dtype
from .findings import Findings

_HEADER_FACTOR = 3
_HEADER_SLACK_BYTES = 1 << 16
"""A header this much longer than the target's is not read: a damaged length asks for
up to 100 MB. An entry that a cast writes anew is less than three times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedTensor:
    """Where a tensor of the output lies; its dtype and shape are as expected."""

    source: ByteSource
    tensor: Tensor


@dataclass(slots=True, kw_only=True)
class OutputFolder:
    """An opened output; use it as a context manager to close its files."""

    tensors: dict[str, PlacedTensor] = field(default_factory=dict)
    """Those that can be compared, by name."""
    sources: list[LocalFile] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    """Headers held besides the target's."""
    document_bytes: int = 0
    """Memory that parsing the index takes."""

    def footprint(self) -> Footprint:
        """Return the memory that headers and index take besides the target's."""
        return weigh_headers(self.headers, self.document_bytes)

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        for source in self.sources:
            source.close()


def open_output(
    folder: Path, target: Checkpoint, cast: str | None, findings: Findings, allowance: Allowance
) -> OutputFolder:
    """Open an output's shards, and note in what its files differ from what they must be.

    Parameters
    ----------
    folder : Path
    target : Checkpoint
        Gives file names and headers.
    cast : str or None
        Format that floating tensors must have; None: headers must be the
        target's, byte for byte.
    findings : Findings
    allowance : Allowance
        What parsing its index may take.

    Raises
    ------
    CheckpointError
        If a file cannot be opened or read. One that is missing or damaged is a
        finding.
    MemoryBudgetError
        If its index is too large to be parsed.
    """
    opened = OutputFolder()
    try:
        for shard in target.shards:
            _open_shard(opened, folder, shard, cast, findings)
        opened.document_bytes = _check_index(folder, target, cast, findings, allowance)
    except BaseException:
        opened.__exit__()
        raise
    return opened


def _open_shard(
    opened: OutputFolder, folder: Path, shard: Shard, cast: str | None, findings: Findings
) -> None:
    path = folder / shard.filename
    if not path.is_file():
        what = "not a file" if os.path.lexists(path) else "missing"
        findings.add(f"{path}: {what}: {_not_compared(shard)}")
        return
    source = LocalFile(path)
    opened.sources.append(source)
    anew = cast is not None or bool(shard.header.left_out)
    is_same = not anew and _has_header(source, shard, findings)
    if is_same and source.nbytes == shard.source.nbytes:
        _place(opened, source, shard.header, shard, cast, findings)
        return
    try:
        header = _read_header(source, shard)
    except CheckpointError as error:
        findings.add(f"{error}: {_not_compared(shard)}")
        return
    opened.headers.append(header)
    if anew and header.metadata != shard.header.metadata:
        findings.add(f"{path}: the header's metadata differ from the target's")
    _place(opened, source, header, shard, cast, findings)


def _not_compared(shard: Shard) -> str:
    return f"its {len(shard.header.tensors)} tensors were not compared"


def _has_header(source: LocalFile, shard: Shard, findings: Findings) -> bool:
    """Return whether a file begins with the target's header, to the last byte."""
    raw = shard.header.raw
    expected = len(raw).to_bytes(8, "little") + raw
    found = bytearray(min(len(expected), source.nbytes))
    source.read_into(0, memoryview(found))
    if found == expected:
        return True
    pairs = enumerate(zip(found, expected, strict=False))
    differing = next(((at, codes) for at, codes in pairs if codes[0] != codes[1]), None)
    if differing is not None:
        at, (one, other) = differing
        findings.add(
            f"{source.where}: the header differs from the target's: byte {at} of the file is "
            f"0x{one:02x}, not 0x{other:02x}"
        )
    return False


def _read_header(source: LocalFile, shard: Shard) -> Header:
    prefix = bytearray(min(8, source.nbytes))
    source.read_into(0, memoryview(prefix))
    length = header_length(bytes(prefix), source.nbytes, source.where)
    usual = len(shard.header.raw)
    if length > _HEADER_FACTOR * usual + _HEADER_SLACK_BYTES:
        raise CheckpointError(
            f"{source.where}: says that its header has {length} bytes, the target's has {usual}"
        )
    raw = bytearray(length)
    source.read_into(8, memoryview(raw))
    return parse_header(bytes(raw), source.nbytes, source.where)


def _place(
    opened: OutputFolder,
    source: LocalFile,
    header: Header,
    shard: Shard,
    cast: str | None,
    findings: Findings,
) -> None:
    """Note where a shard's tensors lie, and those that are not what they must be."""
    for name, wanted in shard.header.tensors.items():
        entry, label = header.tensors.get(name), f"{source.where}: tensor {show_name(name)}"
        dtype = cast_dtype(wanted.dtype, cast)
        if entry is None:
            findings.add(f"{label}: missing, not compared")
        elif (entry.dtype, entry.shape) != (dtype, wanted.shape):
            findings.add(
                f"{label}: is {entry.dtype} of shape {list(entry.shape)}, expected {dtype} of "
                f"shape {list(wanted.shape)}: not compared"
            )
        else:
            placed = Tensor(
                name=name,
                dtype=dtype,
                shape=entry.shape,
                shard=len(opened.sources) - 1,
                offset=header.data_start + entry.begin,
            )
            opened.tensors[name] = PlacedTensor(source=source, tensor=placed)
    for name in header.tensors.keys() - shard.header.tensors.keys():
        findings.add(f"{source.where}: tensor {show_name(name)}: the target's shard has none")


def _check_index(
    folder: Path, target: Checkpoint, cast: str | None, findings: Findings, allowance: Allowance
) -> int:
    """Compare what an index says; return the memory that reading it took.

    Its meaning counts, not its bytes: white space and escapes may differ.
    """
    if target.index is None:
        return 0
    path = folder / target.index
    if not path.is_file():
        findings.add(f"{path}: missing: the target has one")
        return 0
    text = allowance.read(path)
    try:
        weight_map = parse_index(text, str(path))
    except CheckpointError as error:
        findings.add(str(error))
    else:
        _compare_map(weight_map, target, str(path), findings)
        _compare_size(text, target, cast, str(path), findings)
    return weigh_document(text)


def _compare_map(
    weight_map: Mapping[str, str], target: Checkpoint, where: str, findings: Findings
) -> None:
    home = {name: target.shards[tensor.shard].filename for name, tensor in target.tensors.items()}
    for name in sorted(home.keys() | weight_map.keys()):
        found, wanted = weight_map.get(name), home.get(name)
        label = f"{where}: tensor {show_name(name)}"
        if found is None:
            findings.add(f"{label}: not in the index; it is in {wanted}")
        elif wanted is None:
            findings.add(f"{label}: said to be in {found}, but no shard should have it")
        elif found != wanted:
            findings.add(f"{label}: said to be in {found}, but it is in {wanted}")


def _compare_size(
    text: bytes, target: Checkpoint, cast: str | None, where: str, findings: Findings
) -> None:
    document = json.loads(text)
    metadata = document.get("metadata")
    found = metadata.get("total_size") if isinstance(metadata, dict) else None
    wanted = sum(
        FORMATS[cast_dtype(tensor.dtype, cast)].count_bytes(tensor.elements)
        for tensor in target.tensors.values()
    )
    if type(found) is not int or found != wanted:
        findings.add(f"{where}: metadata.total_size is {found!r}, the tensors have {wanted} bytes")
    for key in sorted(document.keys() - {"metadata", "weight_map"}):
        findings.add(f"{where}: holds {key!r}, which is no part of an index")
