"""A file system with transparent compression, in a sparse file: btrfs on a loop device."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchmarkError, UnsupportedError
from .scratch import scratch_folder, undisturbed

_SETTLE_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedDisk:
    """A mounted image."""

    folder: Path
    """Where it is mounted."""
    image: Path

    def stored_bytes(self) -> int:
        """Return the disk that the image takes; what was written is synced first."""
        os.sync()
        return self.image.stat().st_blocks * 512


def find_obstacles() -> list[str]:
    """Return what is missing for a compressed disk, in words; nothing if all is there."""
    obstacles = []
    if os.geteuid() != 0:
        obstacles.append("mounting takes root")
    obstacles += [
        f"{program} is missing: install {package}"
        for program, package in (("mkfs.btrfs", "btrfs-progs"), ("losetup", "mount"))
        if shutil.which(program) is None
    ]
    if not Path("/dev/loop-control").exists():
        obstacles.append("there are no loop devices (/dev/loop-control)")
    return obstacles


@contextmanager
def compressed_disk(parent: Path, nbytes: int) -> Iterator[CompressedDisk]:
    """Make and mount a disk below a folder; unmount and delete it whatever happens.

    Parameters
    ----------
    parent : Path
        Receives the sparse file, and the folder on which it is mounted.
    nbytes : int
        Nominal size; what is really taken is ``stored_bytes``.

    Raises
    ------
    UnsupportedError
        If the system cannot do it; nothing is left behind.
    """
    obstacles = find_obstacles()
    if obstacles:
        raise UnsupportedError(f"no compressed disk: {'; '.join(obstacles)}")
    with scratch_folder(parent, "compressed") as place:
        image, mounted = place / "image", place / "disk"
        mounted.mkdir()
        with open(image, "xb") as file:
            file.truncate(nbytes)
        _run(["mkfs.btrfs", "-q", str(image)])
        try:
            _mount(image, mounted)
            yield CompressedDisk(folder=mounted, image=image)
        finally:
            if mounted.is_mount():
                with undisturbed():
                    _unmount(mounted)


def _mount(image: Path, folder: Path) -> None:
    # Direct input and output: the image itself must not be cached, as no disk is.
    device = _run(["losetup", "--find", "--show", "--direct-io=on", str(image)]).strip()
    try:
        # Freed blocks stay in the image: it shows afterwards how much all of it has taken.
        _run(["mount", "-o", "noatime,nodiscard,compress-force=zstd:1", device, str(folder)])
    except BenchmarkError as error:
        raise UnsupportedError(f"no compressed disk: {error}") from error
    finally:
        _run(["losetup", "--detach", device])  # done when it is unmounted


def _unmount(folder: Path) -> None:
    """Unmount, waiting for a killed process to let go of its files."""
    for attempt in range(_SETTLE_ATTEMPTS):
        try:
            _run(["umount", str(folder)])
        except BenchmarkError:
            if attempt == _SETTLE_ATTEMPTS - 1:
                raise
            time.sleep(1)
        else:
            return


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(
            f"`{' '.join(command)}` ended with status {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout
