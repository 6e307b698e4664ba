"""Reading ahead: the next parts of what a worker reads come while it computes.

A worker announces a run of bytes, a segment's for example. They are requested in
parts, several at once, by a small pool of connections; the worker takes them in
order. What is held is bounded: ``DEPTH`` parts for each run that is announced.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from .ranges import RangeReader

Item = TypeVar("Item")

CONNECTIONS = 12
"""Ranges of one repository that are requested at once, at most."""

DEPTH = 3
"""Parts of a run that are held: the one that is read, and those that come."""

PART_BLOCKS = 4
"""Size of a part, in blocks of the engine.

With blocks of 1 MiB: a request takes far longer than the round trip before it.
"""

RUNS = 2
"""Runs of one file that a worker reads at once: a tied head and its embedding."""

_POLL_SECONDS = 0.2


class Connections:
    """The pool of one repository: threads, and buffers that are used again."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="shardrestore-hub")
        self._spare: list[bytearray] = []
        self._lock = threading.Lock()

    def submit(self, reader: RangeReader, offset: int, nbytes: int, size: int) -> Part:
        """Request bytes; they will be in a buffer of `size`, which the part gives back."""
        with self._lock:
            buffer = self._spare.pop() if self._spare else None
        if buffer is None or len(buffer) != size:
            buffer = bytearray(size)
        view = memoryview(buffer)[:nbytes]
        future = self._pool.submit(reader.read_into, offset, view)
        return Part(offset, view, future, lambda: self._give_back(buffer))

    def _give_back(self, buffer: bytearray) -> None:
        with self._lock:
            self._spare.append(buffer)

    def map(self, do: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Do something with several items at once; raise the first failure."""
        for future in [self._pool.submit(do, item) for item in items]:
            future.result()

    def close(self) -> None:
        """Request nothing more; what is requested is waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._spare.clear()


class Part:
    """Bytes that were requested."""

    def __init__(
        self, offset: int, view: memoryview, future: Future[None], give_back: Callable[[], None]
    ) -> None:
        self.offset = offset
        self.view = view
        self._future = future
        self._give_back = give_back

    @property
    def end(self) -> int:
        """Offset after its last byte."""
        return self.offset + len(self.view)

    def wait(self, check: Callable[[], None]) -> None:
        """Wait for the bytes; `check` is called meanwhile and may raise."""
        while wait([self._future], _POLL_SECONDS).not_done:
            check()
        self._future.result()

    def release(self) -> None:
        """Give the buffer back, as soon as no thread writes to it."""
        self._future.cancel()
        self._future.add_done_callback(lambda _: self._give_back())


class Run:
    """Bytes of a file that one worker reads in order.

    Parameters
    ----------
    connections : Connections
    reader : RangeReader
    offset, nbytes : int
        The bytes.
    part_bytes : int
    check : callable
        Called while bytes are awaited; raises if the worker is to stop.
    """

    def __init__(
        self,
        connections: Connections,
        reader: RangeReader,
        offset: int,
        nbytes: int,
        part_bytes: int,
        check: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._reader = reader
        self._requested = offset
        self._end = offset + nbytes
        self._part_bytes = part_bytes
        self._check = check
        self._parts: deque[Part] = deque()
        self.position = offset
        """Offset of the byte that is read next."""
        self._request()

    def _request(self) -> None:
        while len(self._parts) < DEPTH and self._requested < self._end:
            nbytes = min(self._part_bytes, self._end - self._requested)
            self._parts.append(
                self._connections.submit(self._reader, self._requested, nbytes, self._part_bytes)
            )
            self._requested += nbytes

    def serves(self, offset: int, nbytes: int) -> bool:
        """Whether these bytes are what comes next."""
        return offset == self.position and offset + nbytes <= self._end

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes that come next."""
        filled = 0
        while filled < len(buffer):
            part = self._parts[0]
            part.wait(self._check)
            begin = self.position - part.offset
            piece = part.view[begin : begin + len(buffer) - filled]
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            self.position += len(piece)
            if self.position == part.end:
                self._parts.popleft().release()
                self._request()

    def close(self) -> None:
        """Forget what was requested and not read."""
        while self._parts:
            self._parts.popleft().release()


class ReadAhead:
    """The runs of one file, each worker's by itself.

    Parameters
    ----------
    connections : Connections
    reader : RangeReader
    """

    def __init__(self, connections: Connections, reader: RangeReader) -> None:
        self._connections = connections
        self._reader = reader
        self._own = threading.local()

    def _runs(self) -> deque[Run]:
        if not hasattr(self._own, "runs"):
            self._own.runs = deque()
        runs: deque[Run] = self._own.runs
        return runs

    def expect(self, offset: int, nbytes: int, block_bytes: int, check: Callable[[], None]) -> None:
        """Request a run that the calling worker will read in order."""
        runs = self._runs()
        while len(runs) >= RUNS:
            runs.popleft().close()
        part_bytes = PART_BLOCKS * block_bytes
        runs.append(Run(self._connections, self._reader, offset, nbytes, part_bytes, check))

    def find(self, offset: int, nbytes: int) -> Run | None:
        """Return the calling worker's run that has these bytes next."""
        return next((run for run in self._runs() if run.serves(offset, nbytes)), None)
