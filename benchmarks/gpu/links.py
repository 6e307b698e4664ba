"""How fast each link is by itself that a run on a GPU must use.

As a process of its own: ``python -m benchmarks.gpu.links PAIR FILES --device cuda``, where the
pair holds ``base`` and ``target``, and ``FILES`` is made and receives as many bytes as the
target has. Prints JSON.

Workers, blocks and the reading and writing of files are the engine's. The copies between host
and device are not: they are queued here from page-locked memory, as many as there are, so that
an engine that copied in a slower way would be seen to be slower than its link.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import shardrestore
from shardrestore.checkpoint.source import LocalFile
from shardrestore.engine.workspace import as_bytes
from shardrestore.machine.executor import Control, Stage, running
from shardrestore.machine.progress import SilentObserver
from shardrestore.machine.threads import ThreadExecutor
from shardrestore.output.files import SYNC_BYTES
from shardrestore.output.writer import ShardWriter

from .device import measure_seconds, open_device
from .figures import Links

COPIED_BYTES = 4 << 30
"""Bytes that are copied over a link to a GPU, or from it: some tenths of a second."""

TRIAL_BYTES = 1 << 28
"""The same where the device is a processor."""

HOST_BUFFERS = 8
"""Page-locked blocks that take turns."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a file that goes through a worker's buffer at once."""

    file: int
    offset: int
    nbytes: int


def _cut_up(sizes: Sequence[int], block_bytes: int) -> list[_Piece]:
    """Return the blocks of files of some sizes, file by file."""
    return [
        _Piece(file, offset, min(block_bytes, size - offset))
        for file, size in enumerate(sizes)
        for offset in range(0, size, block_bytes)
    ]


class Bench:
    """Buffers like an engine's, and what is moved through them.

    Parameters
    ----------
    device : torch.device
    workers : int
    block_bytes : int
    """

    def __init__(self, device: torch.device, *, workers: int, block_bytes: int) -> None:
        self._device = device
        self._workers = workers
        self._block_bytes = block_bytes
        self._buffers = [self._make_buffer() for _ in range(max(workers, HOST_BUFFERS))]

    def _make_buffer(self) -> torch.Tensor:
        pinned = self._device.type == "cuda"
        buffer = torch.empty(self._block_bytes, dtype=torch.uint8, pin_memory=pinned)
        return buffer.random_()  # noise: a disk may store zeros for nothing

    def copy(self, nbytes: int, *, to_device: bool) -> float:
        """Copy blocks one way, all of them queued before any is waited for; return bytes/s."""
        there = [buffer.to(self._device, copy=True) for buffer in self._buffers]
        pairs = [
            (far, near) if to_device else (near, far)
            for near, far in zip(self._buffers, there, strict=True)
        ]
        blocks = math.ceil(nbytes / self._block_bytes)

        def queue() -> None:
            for number in range(blocks):
                destination, source = pairs[number % len(pairs)]
                destination.copy_(source, non_blocking=True)

        return blocks * self._block_bytes / measure_seconds(self._device, queue)

    def read(self, paths: Sequence[Path]) -> float:
        """Read whole files as workers do; return bytes/s."""
        with ExitStack() as stack:
            files = [stack.enter_context(closing(LocalFile(path))) for path in paths]
            sizes = [file.nbytes for file in files]

            def move(piece: _Piece, buffer: memoryview) -> None:
                files[piece.file].read_into(piece.offset, buffer)

            return sum(sizes) / self._move(sizes, move)

    def write(self, folder: Path, sizes: Sequence[int]) -> float:
        """Write new files as workers do, until they are on disk; return bytes/s."""
        folder.mkdir(parents=True)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(closing(ShardWriter.create(folder / str(number), b"", size)))
                for number, size in enumerate(sizes)
            ]
            disk = stack.enter_context(_Disk(writers))

            def move(piece: _Piece, buffer: memoryview) -> None:
                writers[piece.file].write(piece.offset, buffer)
                disk.wrote(piece.nbytes)

            return sum(sizes) / self._move(sizes, move, finish=disk.finish)

    def _move(
        self,
        sizes: Sequence[int],
        move: Callable[[_Piece, memoryview], None],
        finish: Callable[[], None] = lambda: None,
    ) -> float:
        """Return the seconds in which the workers have moved all blocks of files."""
        unused = iter(self._buffers)

        def take_buffer(control: Control) -> memoryview:
            return as_bytes(next(unused).numpy())

        def work(buffer: memoryview, piece: _Piece) -> None:
            move(piece, buffer[: piece.nbytes])

        stage = Stage(name="move", open_worker=take_buffer, work=work)
        pieces = _cut_up(sizes, self._block_bytes)
        started = time.perf_counter()
        with running(ThreadExecutor(), stage, pieces, self._workers, SilentObserver()) as moved:
            for _ in moved:
                pass
        finish()
        return time.perf_counter() - started


class _Disk:
    """Brings to the disk what was written, on a thread of its own, as a run does."""

    def __init__(self, writers: Sequence[ShardWriter]) -> None:
        self._writers = writers
        self._thread = ThreadPoolExecutor(1)
        self._lock = threading.Lock()
        self._unsynced_bytes = 0
        self._syncs: list[Future[None]] = []

    def __enter__(self) -> _Disk:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def wrote(self, nbytes: int) -> None:
        """Note what was written; begin to wait for the disk now and then."""
        with self._lock:
            self._unsynced_bytes += nbytes
            if self._unsynced_bytes < SYNC_BYTES:
                return
            self._unsynced_bytes = 0
            self._syncs.append(self._thread.submit(self._sync))

    def finish(self) -> None:
        """Wait until everything is on disk."""
        for sync in [*self._syncs, self._thread.submit(self._sync)]:
            sync.result()

    def _sync(self) -> None:
        for writer in self._writers:
            writer.flush()


def measure_links(
    pair: Path,
    files: Path,
    *,
    device: str,
    workers: int | None,
    max_memory: str,
    max_device_memory: str,
) -> Links:
    """Measure every link, with workers and blocks as a run on the pair would have them.

    Parameters
    ----------
    pair : Path
        Holds ``base`` and ``target``.
    files : Path
        Is made, and receives what is written.
    device, workers, max_memory, max_device_memory
        Options of the run that the links are compared with.
    """
    memory = shardrestore.plan(
        pair / "base",
        pair / "target",
        device=device,
        workers=workers,
        max_memory=max_memory,
        max_device_memory=max_device_memory,
    ).memory
    opened = open_device(device)
    bench = Bench(opened, workers=memory.workers, block_bytes=memory.block_bytes)
    shards = [sorted((pair / side).glob("*.safetensors")) for side in ("base", "target")]
    copied_bytes = COPIED_BYTES if opened.type == "cuda" else TRIAL_BYTES
    bench.copy(copied_bytes // 16, to_device=True)  # the device wakes up
    return Links(
        reader=bench.read([*shards[0], *shards[1]]),
        writer=bench.write(files, [path.stat().st_size for path in shards[1]]),
        to_device=bench.copy(copied_bytes, to_device=True),
        from_device=bench.copy(copied_bytes, to_device=False),
        workers=memory.workers,
        block_bytes=memory.block_bytes,
        chunk_elements=memory.chunk_elements,
    )


def main(arguments: Sequence[str]) -> int:
    """Print the speeds as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.links", description=__doc__)
    parser.add_argument("pair", type=Path, help="holds base and target")
    parser.add_argument("files", type=Path, help="is made, and receives what is written")
    parser.add_argument("--workers", type=int)
    for name in ("device", "max-memory", "max-device-memory"):
        parser.add_argument(f"--{name}", required=True)
    print(json.dumps(asdict(measure_links(**vars(parser.parse_args(arguments))))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
