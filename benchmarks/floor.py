"""The least that any two-pass restoration must do with files, and nothing else.

Reads base and target twice, copies the target once, and syncs the copy, with
one 8 MiB buffer. As a process of its own: ``python -m benchmarks.floor FOLDER``,
where the folder holds ``base`` and ``target``.
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


def read_file(source: Path, buffer: memoryview, copy: int | None = None) -> None:
    """Read a file through the buffer, and write it to the open file `copy`."""
    descriptor = os.open(source, os.O_RDONLY)
    try:
        while count := os.readv(descriptor, [buffer]):
            written = 0
            while copy is not None and written < count:
                written += os.write(copy, buffer[written:count])
    finally:
        os.close(descriptor)


def run_floor(folder: Path, copy: Path) -> None:
    """Do the reads and writes of a restoration; `copy` is made and receives the target."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    targets = sorted((folder / "target").glob("*.safetensors"))
    both = [*sorted((folder / "base").glob("*.safetensors")), *targets]
    for _ in range(2):
        for source in both:
            read_file(source, buffer)
    copy.mkdir(parents=True)
    copies = []
    for source in targets:
        copies.append(os.open(copy / source.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        read_file(source, buffer, copies[-1])
    for descriptor in copies:
        os.fsync(descriptor)
        os.close(descriptor)


def main(arguments: Sequence[str]) -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds base and target")
    parser.add_argument(
        "copy", type=Path, nargs="?", help="where the copy goes; without it, it is removed again"
    )
    parsed = parser.parse_args(arguments)
    if parsed.copy is not None:
        run_floor(parsed.folder, parsed.copy)
        return 0
    scratch = Path(tempfile.mkdtemp(dir=parsed.folder))
    try:
        run_floor(parsed.folder, scratch / "copy")
    finally:
        shutil.rmtree(scratch)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
