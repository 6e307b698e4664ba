"""A memory cgroup for one command: what it takes with everything that is cached for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchmarkError, UnsupportedError
from .scratch import undisturbed

ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGroup:
    """A group of processes with a limit on their memory, page cache included."""

    folder: Path
    peak_file: str
    """Tells the most that was used at once."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """A command that enters the group and becomes the one whose words follow."""
        enter = 'echo 0 > "$0/cgroup.procs" && exec "$@"'
        return ("sh", "-c", enter, str(self.folder))

    def peak_bytes(self) -> int:
        """Return the most memory that the group has used at once; 0 if unknown."""
        try:
            return int((self.folder / self.peak_file).read_text(encoding="ascii"))
        except OSError:  # memory.peak came with Linux 5.19
            return 0


@contextmanager
def memory_group(limit_bytes: int, root: Path = ROOT) -> Iterator[MemoryGroup]:
    """Make a group below the root of its hierarchy, and remove it with all that is in it.

    Version 2 of the kernel's interface, or version 1 where memory is still there. Below
    the root, because version 2 allows no group that has processes and limited children.

    Raises
    ------
    UnsupportedError
        If the kernel allows no group.
    """
    old = (root / "memory").is_dir()
    folder = (root / "memory" if old else root) / f"shardrestore-benchmark-{os.getpid()}"
    limit_file = "memory.limit_in_bytes" if old else "memory.max"
    try:
        if not old:
            (root / "cgroup.subtree_control").write_text("+memory", encoding="ascii")
        folder.mkdir()
    except OSError as error:
        raise UnsupportedError(
            f"{folder}: no memory cgroup can be made: {error.strerror}: run as root, outside "
            "of a container"
        ) from error
    try:
        (folder / limit_file).write_text(str(limit_bytes), encoding="ascii")
        peak_file = "memory.max_usage_in_bytes" if old else "memory.peak"
        yield MemoryGroup(folder=folder, peak_file=peak_file)
    finally:
        with undisturbed():
            _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(100):
        try:
            for process in (folder / "cgroup.procs").read_text(encoding="ascii").split():
                os.kill(int(process), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass
        try:
            folder.rmdir()
        except OSError:  # a process is still on its way out
            time.sleep(0.05)
        else:
            return
    raise BenchmarkError(f"{folder}: cannot be removed: `rmdir` it when its processes are gone")
