"""The header of a safetensors file: which tensor lies where.

A file is accepted if and only if ``safetensors.safe_open`` accepts it, whose
rules are those of ``safetensors/src/tensor.rs`` and serde's derived readers; a
differential test holds the two together. One exception is deliberate: a header that
gives one tensor name twice is refused here, where safetensors silently takes the last
of the two, because another reader may take the first.

Nothing here opens a file. Read 8 bytes, ask :func:`header_length` how many follow, and
hand those to :func:`parse_header`.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shardrestore.checkpoint.strict_json import JsonError, JsonValue, nesting, read_object
from shardrestore.errors import CheckpointError

__all__ = [
    "DTYPE_BITS",
    "Header",
    "TensorEntry",
    "encode_header",
    "header_length",
    "parse_header",
]

DTYPE_BITS: Final[Mapping[str, int]] = {
    name: bits
    for bits, names in (
        (4, "F4"),
        (6, "F6_E2M3 F6_E3M2"),
        (8, "BOOL U8 I8 F8_E4M3 F8_E4M3FNUZ F8_E5M2 F8_E5M2FNUZ F8_E8M0"),
        (16, "U16 I16 F16 BF16"),
        (32, "U32 I32 F32"),
        (64, "U64 I64 F64 C64"),
    )
    for name in names.split()
}
"""Bits of one element, for every dtype that safetensors 0.8 knows."""

_METADATA = "__metadata__"
_PREFIX_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_MAX_NESTING = 127
_ENTRY_NESTING = 2  # a value of an entry lies in the entry, and that in the header
_U64_MAX = 2**64 - 1
_ENTRY_FIELDS = ("dtype", "shape", "data_offsets")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor's kind and place."""

    dtype: str
    """A key of :data:`DTYPE_BITS`."""
    shape: tuple[int, ...]
    """Elements along each axis; ``()`` for a scalar."""
    begin: int
    """First byte, counted from the start of the data."""
    end: int
    """One past the last byte, counted from the start of the data."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything a safetensors file says about itself."""

    tensors: Mapping[str, TensorEntry]
    """Tensors by name, in the order in which their bytes lie in the file."""
    metadata: Mapping[str, str] | None
    """The free text of ``__metadata__``; None where there is none."""
    raw: bytes = field(repr=False)
    """The JSON exactly as in the file, padding included, without its 8 length bytes."""

    @property
    def data_start(self) -> int:
        """Offset of the first data byte in the file, in bytes."""
        return _PREFIX_BYTES + len(self.raw)

    @property
    def file_bytes(self) -> int:
        """Size of the whole file, in bytes."""
        return self.data_start + max((entry.end for entry in self.tensors.values()), default=0)

    def sha256(self) -> str:
        """Hex digest of the header as it stands in the file, length bytes included."""
        return hashlib.sha256(_length_bytes(self.raw) + self.raw).hexdigest()


def header_length(prefix: bytes, file_bytes: int, where: str) -> int:
    """Tell how many bytes of JSON follow the first eight bytes of a file.

    Parameters
    ----------
    prefix
        The first 8 bytes of the file, or all of them if it has fewer.
    file_bytes
        Size of the whole file, in bytes.
    where
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
        if prefix == b"version ":
            raise CheckpointError(f"{where}: {what}; is it a git-lfs pointer? run git lfs pull")
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
    raw
        The JSON exactly as in the file, without the 8 length bytes.
    file_bytes
        Size of the whole file, in bytes.
    where
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
                    "is given twice; safetensors would take the last, others the first"
                )
            else:
                entries[name] = _tensor_entry(value)
    except JsonError as error:
        raise CheckpointError(
            f"{where}: the header is {error}; this is a damaged file or no safetensors file"
        ) from error
    except ValueError as error:
        member = _METADATA if name == _METADATA else f"tensor {_show(name)}"
        raise CheckpointError(f"{where}: {member} {error}") from error

    tensors = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_layout(tensors, file_bytes - _PREFIX_BYTES - len(raw), where)
    return Header(tensors=tensors, metadata=metadata[0] if metadata else None, raw=raw)


def encode_header(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str] | None
) -> bytes:
    """Write the header of a file whose tensors follow each other without gaps.

    Parameters
    ----------
    tensors
        Name, dtype and shape of each tensor, in the order of their bytes in the file.
    metadata
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
            raise CheckpointError(f"{where}: tensor name {_show(name)} is already taken")
        try:
            end = begin + _byte_count(dtype, shape)
        except ValueError as error:
            raise CheckpointError(f"{where}: tensor {_show(name)} {error}") from error
        root[name] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
        begin = end
    try:
        raw = json.dumps(root, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{where}: {_show(error.object[error.start])} in a name or in the metadata is half "
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
        raise ValueError(f"is {_show(value)}, not an object")
    texts: dict[str, str] = {}
    for key, text in value:
        if not isinstance(text, str):
            raise ValueError(f"holds {_show(text)} under {_show(key)}, not text")
        texts[key] = text
    return texts


def _tensor_entry(value: JsonValue) -> TensorEntry:
    """Read one tensor's value; a ValueError says what is wrong with it."""
    dtype, shape, offsets = _entry_fields(value)
    if isinstance(dtype, tuple) and len(dtype) == 1 and dtype[0][1] is None:
        dtype = dtype[0][0]  # serde reads {"F32": null} as "F32"
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise ValueError(f"has dtype {_show(dtype)}, none of {', '.join(DTYPE_BITS)}")
    dims = _integers(shape, "shape")
    span = _integers(offsets, "data_offsets")
    if len(span) != 2 or span[0] > span[1]:
        raise ValueError(f"has data_offsets {_show_dims(span)}, not one begin and one end")
    begin, end = span
    expected_bytes = _byte_count(dtype, dims)
    if end - begin != expected_bytes:
        raise ValueError(
            f"is {dtype} of shape {_show_dims(dims)} and takes {expected_bytes} bytes, but its "
            f"data_offsets [{begin}, {end}] hold {end - begin}; the file was written wrongly"
        )
    return TensorEntry(dtype=sys.intern(dtype), shape=dims, begin=begin, end=end)


def _entry_fields(value: JsonValue) -> Sequence[JsonValue]:
    """Pick dtype, shape and data_offsets, which serde also reads from an array of three."""
    if isinstance(value, list) and len(value) == len(_ENTRY_FIELDS):
        return value
    if not isinstance(value, tuple):
        raise ValueError(f"is {_show(value)}, not an object or an array of 3")
    found: dict[str, JsonValue] = {}
    for key, item in value:
        if key not in _ENTRY_FIELDS:
            if isinstance(item, (list, tuple)) and nesting(item) > _MAX_NESTING - _ENTRY_NESTING:
                raise ValueError(f"is nested deeper than {_MAX_NESTING} levels at {_show(key)}")
        elif key in found:
            raise ValueError(f"has {key} twice")
        else:
            found[key] = item
    missing = [key for key in _ENTRY_FIELDS if key not in found]
    if missing:
        raise ValueError(f"has no {' and no '.join(missing)}")
    return [found[key] for key in _ENTRY_FIELDS]


def _integers(value: JsonValue, what: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError(f"has {_show(value)} for {what}, not an array")
    integers = []
    for item in value:
        if type(item) is not int:  # a bool is an int to isinstance
            raise ValueError(f"has {_show(item)} in {what}, not an integer from 0 to 2**64 - 1")
        integers.append(item)
    return tuple(integers)


def _byte_count(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor, where 64 bits hold its bits and each product on the way."""
    if dtype not in DTYPE_BITS:
        raise ValueError(f"has dtype {_show(dtype)}, none of {', '.join(DTYPE_BITS)}")
    elements = 1
    for length in shape:
        elements *= length
        if elements > _U64_MAX:
            break
    bits = elements * DTYPE_BITS[dtype]
    if bits > _U64_MAX:
        raise ValueError(f"is {dtype} of shape {_show_dims(shape)} and has over 2**64 - 1 bits")
    if bits % 8:
        raise ValueError(f"is {dtype} of shape {_show_dims(shape)}: {bits} bits, no whole bytes")
    return bits // 8


def _check_layout(tensors: Mapping[str, TensorEntry], data_bytes: int, where: str) -> None:
    """Demand that tensors, which are in file order, fill the data without overlap or hole."""
    covered, previous = 0, ""
    for name, entry in tensors.items():
        if entry.begin < covered:
            raise CheckpointError(
                f"{where}: tensor {_show(name)} begins at data offset {entry.begin}, but tensor "
                f"{_show(previous)} before it ends at {covered} (overlap)"
            )
        if entry.begin > covered:
            raise CheckpointError(
                f"{where}: tensor {_show(name)} begins at data offset {entry.begin}, but the "
                f"bytes from {covered} on belong to no tensor (hole)"
            )
        covered, previous = entry.end, name
    if covered > data_bytes:
        raise CheckpointError(
            f"{where}: tensor {_show(previous)} ends at data offset {covered}, but the file has "
            f"{data_bytes} bytes of data (truncated); download it again"
        )
    if covered < data_bytes:
        raise CheckpointError(
            f"{where}: the tensors end at data offset {covered}, but the file has {data_bytes} "
            f"bytes of data ({data_bytes - covered} trailing bytes); download it again"
        )


def _show(value: JsonValue) -> str:
    """Name a value of unknown size in one short line of printable text."""
    if isinstance(value, (list, tuple)):
        return f"{'an array' if isinstance(value, list) else 'an object'} of {len(value)}"
    return _cut(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))


def _show_dims(dims: Sequence[int]) -> str:
    return _cut(repr(list(dims)))


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
