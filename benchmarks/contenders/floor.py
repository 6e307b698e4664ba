"""The least that any restoration must do with files, and nothing else.

Reads base and target, writes copies of the target, and syncs them, with one 8 MiB
buffer: two reads and one copy for a single model, one read and seven copies for a
sweep whose scores are known. As a process of its own:
``python -m benchmarks.contenders.floor FOLDER COPY``, where the folder holds ``base`` and
``target``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

BLOCK_BYTES = 8 << 20


def read_file(source: Path, buffer: memoryview, copies: Sequence[int] = ()) -> None:
    """Read a file through the buffer, and write it to the open files `copies`."""
    descriptor = os.open(source, os.O_RDONLY)
    try:
        while count := os.readv(descriptor, [buffer]):
            for copy in copies:
                written = 0
                while written < count:
                    written += os.write(copy, buffer[written:count])
    finally:
        os.close(descriptor)


def run_floor(folder: Path, copy: Path, *, reads: int = 2, copies: int = 1) -> None:
    """Do the reads and writes of a restoration.

    Parameters
    ----------
    folder : Path
        Holds ``base`` and ``target``.
    copy : Path
        Is made and receives a folder for each copy of the target.
    reads : int
        How often each input is read. The last read of the target also serves the
        copies if there are more of them than one, as in a sweep.
    copies : int
    """
    buffer = memoryview(bytearray(BLOCK_BYTES))
    bases, targets = (sorted((folder / side).glob("*.safetensors")) for side in ("base", "target"))
    swept = copies > 1
    for number in range(reads):
        last = number == reads - 1
        for source in [*bases, *(() if last and swept else targets)]:
            read_file(source, buffer)
    folders = [copy / str(number) for number in range(copies)]
    for place in folders:
        place.mkdir(parents=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    written = []
    for source in targets:
        files = [os.open(place / source.name, flags, 0o644) for place in folders]
        read_file(source, buffer, files)
        written += files
    for descriptor in written:
        os.fsync(descriptor)
        os.close(descriptor)


def main(arguments: Sequence[str]) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contenders.floor", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="holds base and target")
    parser.add_argument(
        "copy", type=Path, nargs="?", help="where the copy goes; without it, it is removed again"
    )
    parser.add_argument("--reads", type=int, default=2)
    parser.add_argument("--copies", type=int, default=1)
    parsed = parser.parse_args(arguments)
    if parsed.copy is not None:
        run_floor(parsed.folder, parsed.copy, reads=parsed.reads, copies=parsed.copies)
        return 0
    scratch = Path(tempfile.mkdtemp(dir=parsed.folder))
    try:
        run_floor(parsed.folder, scratch / "copy", reads=parsed.reads, copies=parsed.copies)
    finally:
        shutil.rmtree(scratch)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
