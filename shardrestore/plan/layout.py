"""What the output's shards look like: headers, and where each tensor goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..checkpoint.folder import Checkpoint
from ..checkpoint.header import encode_header, header_length, parse_header
from ..checkpoint.tensor import Tensor
from ..formats import FORMATS, cast_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTensor:
    """Where a tensor of the target goes."""

    dtype: str
    offset: int
    """First byte, from the start of the file."""
    nbytes: int

    def locate(self, start: int) -> int:
        """Return where an element goes that begins a byte."""
        return self.offset + FORMATS[self.dtype].count_bytes(start)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputShard:
    """A shard to be written."""

    filename: str
    prefix: bytes
    """Everything before the data: the header with its length."""
    nbytes: int
    """Size of the whole file."""
    tensors: Mapping[str, OutputTensor]


def lay_out(target: Checkpoint, cast: str | None) -> tuple[OutputShard, ...]:
    """Lay out one output shard for each of the target's.

    Parameters
    ----------
    target : Checkpoint
    cast : str or None
        Format that every tensor gets whose weights can be scored; None keeps the
        target's headers byte for byte, except those of shards that hold a tensor
        which another shard holds too: the output has it once.
    """
    return tuple(_lay_out_shard(target, number, cast) for number in range(len(target.shards)))


def _lay_out_shard(target: Checkpoint, number: int, cast: str | None) -> OutputShard:
    shard = target.shards[number]
    anew = cast is not None or bool(shard.header.left_out)
    if not anew:
        prefix = len(shard.header.raw).to_bytes(8, "little") + shard.header.raw
    else:
        entries = [
            (name, cast_dtype(entry.dtype, cast), entry.shape)
            for name, entry in shard.header.tensors.items()
        ]
        prefix = encode_header(entries, shard.header.metadata)
    header = shard.header
    if anew:
        # Read back what was encoded: the offsets have one source, the parser.
        data_bytes = sum(cast_bytes(target.tensors[name], cast) for name in shard.header.tensors)
        length = header_length(prefix[:8], len(prefix) + data_bytes, shard.filename)
        header = parse_header(prefix[8 : 8 + length], len(prefix) + data_bytes, shard.filename)
    return OutputShard(
        filename=shard.filename,
        prefix=prefix,
        nbytes=header.file_bytes,
        tensors={
            name: OutputTensor(
                dtype=entry.dtype, offset=header.data_start + entry.begin, nbytes=entry.nbytes
            )
            for name, entry in header.tensors.items()
        },
    )


def cast_bytes(tensor: Tensor, cast: str | None) -> int:
    """Return the size that a tensor has in the output, in bytes."""
    return FORMATS[cast_dtype(tensor.dtype, cast)].count_bytes(tensor.elements)
