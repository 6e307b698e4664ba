"""The header of a safetensors file: which tensor lies where.

A file is accepted if and only if ``safetensors.safe_open`` accepts it, whose
rules are those of ``safetensors/src/tensor.rs`` and serde's derived readers; a
differential test holds the two together. One exception is deliberate: a header that
gives one tensor name twice is refused here, where safetensors silently takes the last
of the two: nothing says which one its writer meant.

Nothing here opens a file. Read 8 bytes, ask :func:`header_length` how many follow, and
hand those to :func:`parse_header`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import CheckpointError
from .entry import TensorEntry, count_bytes, read_entry, show
from .lfs import POINTER, explain_pointer
from .strict_json import JsonError, JsonValue, read_object

__all__ = [
    "Header",
    "TensorEntry",
    "encode_header",
    "header_length",
    "parse_header",
    "weigh_header",
]

_METADATA = "__metadata__"
_PREFIX_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_VALUE_BYTES = 96  # a list in a list, the dearest value for its text, takes 88 to 96 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything a safetensors file says about itself."""

    tensors: Mapping[str, TensorEntry]
    """Tensors by name, in the order in which their bytes lie in the file."""
    metadata: Mapping[str, str] | None
    """The free text of ``__metadata__``; None where there is none."""
    raw: bytes = field(repr=False)
    """The JSON exactly as in the file, padding included, without its 8 length bytes."""
    left_out: frozenset[str] = frozenset()
    """Tensors in the file that are read from another one."""

    @property
    def data_start(self) -> int:
        """Offset of the first data byte in the file, in bytes."""
        return _PREFIX_BYTES + len(self.raw)

    @property
    def file_bytes(self) -> int:
        """Size of the whole file, in bytes."""
        return self.data_start + max((entry.end for entry in self.tensors.values()), default=0)

    def without(self, names: Collection[str]) -> Header:
        """Return the header of the same file, of which some tensors are read elsewhere."""
        kept = {name: entry for name, entry in self.tensors.items() if name not in names}
        return replace(self, tensors=kept, left_out=self.left_out.union(names))

    def sha256(self) -> str:
        """Hex digest of the header as it stands in the file, length bytes included."""
        return hashlib.sha256(_length_bytes(self.raw) + self.raw).hexdigest()


def header_length(prefix: bytes, file_bytes: int, where: str) -> int:
    """Return how many bytes of JSON follow the first eight bytes of a file.

    Parameters
    ----------
    prefix : bytes
        The first 8 bytes of the file, or all of them if it has fewer.
    file_bytes : int
        Size of the whole file, in bytes.
    where : str
        Name of the file, for messages.

    Raises
    ------
    CheckpointError
        If no header of that length can lie in the file.

    Examples
    --------
    >>> header_length(bytes([16, 0, 0, 0, 0, 0, 0, 0]), 24, "model.safetensors")
    16
    """
    if len(prefix) < _PREFIX_BYTES or file_bytes < _PREFIX_BYTES:
        raise CheckpointError(
            f"{where}: {min(len(prefix), file_bytes)} bytes are too short for a safetensors "
            f"file, which starts with {_PREFIX_BYTES} bytes of header length; download it again"
        )
    prefix = prefix[:_PREFIX_BYTES]
    length = int.from_bytes(prefix, "little")
    if length > _MAX_HEADER_BYTES:
        what = f"a header of {length} bytes is beyond the {_MAX_HEADER_BYTES} that are allowed"
        if POINTER.startswith(prefix):
            raise CheckpointError(explain_pointer(where))
        raise CheckpointError(f"{where}: {what}; this is not a safetensors file")
    if length > file_bytes - _PREFIX_BYTES:
        raise CheckpointError(
            f"{where}: the header ends at byte {length + _PREFIX_BYTES}, but the file has "
            f"{file_bytes} bytes (truncated); download it again"
        )
    return length


def parse_header(raw: bytes, file_bytes: int, where: str) -> Header:
    """Parse and check the JSON of a header against the size of its file.

    Parameters
    ----------
    raw : bytes
        The JSON exactly as in the file, without the 8 length bytes.
    file_bytes : int
        Size of the whole file, in bytes.
    where : str
        Name of the file, for messages.

    Raises
    ------
    CheckpointError
        If safetensors would refuse the file, or a tensor name is given twice.

    Examples
    --------
    >>> raw = b'{"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}'
    >>> parse_header(raw, 8 + len(raw) + 12, "model.safetensors").tensors["w"].elements
    6
    """
    header_length(_length_bytes(raw), file_bytes, where)
    entries: dict[str, TensorEntry] = {}
    metadata: list[Mapping[str, str] | None] = []
    try:
        for name, value in read_object(raw):
            if name == _METADATA:
                if metadata:
                    raise ValueError("is given twice")
                metadata.append(_metadata(value))
            elif name in entries:
                raise ValueError(
                    "is given twice; safetensors would take the last, nothing says which is meant"
                )
            else:
                entries[name] = read_entry(value)
    except JsonError as error:
        raise CheckpointError(
            f"{where}: the header is {error}; this is a damaged file or no safetensors file"
        ) from error
    except ValueError as error:
        member = _METADATA if name == _METADATA else f"tensor {show(name)}"
        raise CheckpointError(f"{where}: {member} {error}") from error

    tensors = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_layout(tensors, file_bytes - _PREFIX_BYTES - len(raw), where)
    return Header(tensors=tensors, metadata=metadata[0] if metadata else None, raw=raw)


def weigh_header(raw: bytes | bytearray) -> int:
    """Return about how much memory parsing a header takes besides its text, in bytes.

    For what safetensors writes it is less than a plan counts later; it is what keeps
    a header of nothing but brackets from being parsed at all.
    """
    return sum(map(raw.count, (b",", b"[", b"{"))) * _VALUE_BYTES


def encode_header(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str] | None
) -> bytes:
    """Write the header of a file whose tensors follow each other without gaps.

    Parameters
    ----------
    tensors : sequence of (str, str, tuple of int)
        Name, dtype and shape of each tensor, in the order of their bytes in the file.
    metadata : mapping of str to str, or None
        Free text for ``__metadata__``; None leaves it out.

    Returns
    -------
    bytes
        The 8 length bytes and the JSON, padded with spaces so that the data starts at a
        multiple of 8 bytes: the bytes that safetensors itself would write.

    Raises
    ------
    CheckpointError
        If :func:`parse_header` would refuse what was written.

    Examples
    --------
    >>> encode_header([("w", "BF16", (2, 3))], {"format": "pt"})[8:40]
    b'{"__metadata__":{"format":"pt"},'
    """
    where = "header to write"
    root: dict[str, object] = {} if metadata is None else {_METADATA: dict(metadata)}
    begin = 0
    for name, dtype, shape in tensors:
        if name in root or name == _METADATA:
            raise CheckpointError(f"{where}: tensor name {show(name)} is already taken")
        try:
            end = begin + count_bytes(dtype, shape)
        except ValueError as error:
            raise CheckpointError(f"{where}: tensor {show(name)} {error}") from error
        root[name] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
        begin = end
    try:
        raw = json.dumps(root, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{where}: {show(error.object[error.start])} in a name or in the metadata is half "
            "a surrogate pair, which UTF-8 cannot hold"
        ) from error
    raw += b" " * (-len(raw) % 8)
    parse_header(raw, _PREFIX_BYTES + len(raw) + begin, where)
    return _length_bytes(raw) + raw


def _length_bytes(raw: bytes) -> bytes:
    return len(raw).to_bytes(_PREFIX_BYTES, "little")


def _metadata(value: JsonValue) -> Mapping[str, str] | None:
    """Read ``__metadata__``: null, or text by key, where the last of two equal keys holds."""
    if value is None:
        return None
    if not isinstance(value, tuple):
        raise ValueError(f"is {show(value)}, not an object")
    texts: dict[str, str] = {}
    for key, text in value:
        if not isinstance(text, str):
            raise ValueError(f"holds {show(text)} under {show(key)}, not text")
        texts[key] = text
    return texts


def _check_layout(tensors: Mapping[str, TensorEntry], data_bytes: int, where: str) -> None:
    """Demand that tensors, which are in file order, fill the data without overlap or hole."""
    covered, previous = 0, ""
    for name, entry in tensors.items():
        if entry.begin < covered:
            raise CheckpointError(
                f"{where}: tensor {show(name)} begins at data offset {entry.begin}, but tensor "
                f"{show(previous)} before it ends at {covered} (overlap)"
            )
        if entry.begin > covered:
            raise CheckpointError(
                f"{where}: tensor {show(name)} begins at data offset {entry.begin}, but the "
                f"bytes from {covered} on belong to no tensor (hole)"
            )
        covered, previous = entry.end, name
    if covered > data_bytes:
        raise CheckpointError(
            f"{where}: tensor {show(previous)} ends at data offset {covered}, but the file has "
            f"{data_bytes} bytes of data (truncated); download it again"
        )
    if covered < data_bytes:
        raise CheckpointError(
            f"{where}: the tensors end at data offset {covered}, but the file has {data_bytes} "
            f"bytes of data ({data_bytes - covered} trailing bytes); download it again"
        )
