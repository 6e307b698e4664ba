"""A tensor that stands in two shards: accepted if its bytes are the same in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import CheckpointError
from .entry import show, show_name
from .placement import Copy
from .shard import Shard
from .source import ByteSource

_BLOCK_BYTES = 1 << 20


def check_copies(shards: Mapping[str, Shard], copies: Sequence[Copy]) -> None:
    """Compare what stands in two shards, byte for byte.

    Parameters
    ----------
    shards : mapping of str to Shard
        By file name.
    copies : sequence of Copy

    Raises
    ------
    CheckpointError
        If two differ: nothing says which is meant, and libraries take either.
    """
    for copy in copies:
        difference = _find_difference(shards[copy.home], shards[copy.shard], copy.name)
        if difference is not None:
            raise CheckpointError(
                f"{shards[copy.shard].source.where}: tensor {show(copy.name)} is in two shards, "
                f"{show_name(copy.home)} and {show_name(copy.shard)}, and {difference}: write one "
                "of them anew without it"
            )


def _find_difference(one: Shard, other: Shard, name: str) -> str | None:
    first, second = one.header.tensors[name], other.header.tensors[name]
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return (
            f"is {first.dtype} of shape {list(first.shape)} in one, {second.dtype} of shape "
            f"{list(second.shape)} in the other"
        )
    for begin in range(0, first.nbytes, _BLOCK_BYTES):
        nbytes = min(_BLOCK_BYTES, first.nbytes - begin)
        parts = (
            _read(shard.source, shard.header.data_start + entry.begin + begin, nbytes)
            for shard, entry in ((one, first), (other, second))
        )
        if len(set(parts)) > 1:
            return f"its bytes differ between {begin:,} and {begin + nbytes:,} of {first.nbytes:,}"
    return None


def _read(source: ByteSource, offset: int, nbytes: int) -> bytes:
    buffer = bytearray(nbytes)
    source.read_into(offset, memoryview(buffer))
    return bytes(buffer)
