"""Elements of tensors, wherever they come from: files, memory, or other tensors.

Whatever scores, cuts, compares or samples weights reads them through a ``TensorReader``. It
asks for elements of a tensor; where they lie, and in how many bytes, is the reader's to know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from .shard import Shard
from .source import ByteSource
from .tensor import Tensor


class TensorReader(ABC):
    """The elements of a model's tensors; several threads may read at once.

    `start` and `elements` count elements of the tensor. Of formats of less than a byte, what is
    asked for is whole bytes.
    """

    @property
    def held_bytes(self) -> int:
        """Memory that each thread's reading takes besides the buffers that it fills."""
        return 0

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor's elements can be had; most readers have those of all."""
        return True

    @abstractmethod
    def read(self, tensor: Tensor, start: int, elements: int, out: memoryview) -> None:
        """Write elements to the beginning of `out`, as codes of the tensor's format.

        Raises
        ------
        ShardRestoreError
            If they cannot be had.
        """

    def announce(  # noqa: B027  # most readers have nothing to prepare
        self,
        tensor: Tensor,
        start: int,
        elements: int,
        block_bytes: int,
        check: Callable[[], None],
    ) -> None:
        """Hear that the calling thread will read these elements next, in order, block by block.

        A reader of what is far away requests them ahead; `check` is called while they are
        waited for, and what it raises ends the waiting.
        """

    def view(self, tensor: Tensor, start: int, elements: int) -> Any:
        """Return elements where they are in memory, as a tensor of torch, not copied.

        Its integers are of the size of an element. None if they cannot be had so.
        """
        return None

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what distinguishes these weights from others, as JSON values."""


def read_stored(
    source: ByteSource, tensor: Tensor, start: int, elements: int, out: memoryview
) -> None:
    """Write elements of a tensor that a file holds as they are to the beginning of `out`."""
    source.read_into(tensor.locate(start), out[: tensor.count_bytes(elements)])


class StoredReader(TensorReader):
    """Tensors that files hold as they are.

    Parameters
    ----------
    shards : sequence of Shard
        The files.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    def read(self, tensor: Tensor, start: int, elements: int, out: memoryview) -> None:
        """Read elements from their file."""
        read_stored(self._shards[tensor.shard].source, tensor, start, elements, out)

    def announce(
        self,
        tensor: Tensor,
        start: int,
        elements: int,
        block_bytes: int,
        check: Callable[[], None],
    ) -> None:
        """Announce the bytes of these elements to their file."""
        source, nbytes = self._shards[tensor.shard].source, tensor.count_bytes(elements)
        source.expect(tensor.locate(start), nbytes, block_bytes, check)

    def identity(self) -> dict[str, Any]:
        """Return name, size and header's hash of each file."""
        return {"shards": [shard.identity() for shard in self._shards]}
