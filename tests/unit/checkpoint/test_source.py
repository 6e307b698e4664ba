"""A shard's bytes: read whole or not at all, and known to be the ones that were opened."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardrestore.checkpoint.source import LocalFile
from shardrestore.errors import CheckpointError, InputChangedError

CONTENT = bytes(range(256)) * 4
TIME = 1_700_000_000_123_456_789


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shard.safetensors"
    path.write_bytes(CONTENT)
    os.utime(path, ns=(TIME, TIME))
    return path


@pytest.fixture
def source(path: Path) -> Iterator[LocalFile]:
    source = LocalFile(path)
    yield source
    source.close()


def test_a_file_is_identified_by_its_size_and_the_time_of_its_last_change(
    source: LocalFile,
) -> None:
    assert source.identity() == {"bytes": len(CONTENT), "mtime_ns": TIME}


def test_the_identity_is_that_of_the_file_that_was_opened(source: LocalFile, path: Path) -> None:
    path.write_bytes(b"another")
    assert source.identity() == {"bytes": len(CONTENT), "mtime_ns": TIME}


def write_in_place(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"x")


def truncate(path: Path) -> None:
    os.truncate(path, 100)
    os.utime(path, ns=(TIME, TIME))


def append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"x")
    os.utime(path, ns=(TIME, TIME))


def touch(path: Path) -> None:
    os.utime(path, ns=(TIME, TIME + 1))


def replace(path: Path) -> None:
    """With a file of the same size and time: only the inode tells."""
    new = path.with_name("new")
    shutil.copy2(path, new)
    os.utime(new, ns=(TIME, TIME))
    os.replace(new, path)


def remove(path: Path) -> None:
    path.unlink()


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (write_in_place, "modification time"),
        (truncate, "bytes 1024, now 100"),
        (append, "bytes 1024, now 1025"),
        (touch, f"modification time {TIME}, now {TIME + 1}"),
        (replace, "inode"),
        (remove, "vanished while it was read: No such file"),
        (become_a_folder, "changed while it was read"),
    ],
)
def test_a_file_that_was_changed_is_named_with_what_is_different(
    source: LocalFile, path: Path, change: Callable[[Path], None], what: str
) -> None:
    change(path)
    with pytest.raises(InputChangedError) as caught:
        source.check_unchanged()
    assert str(caught.value).startswith(f"{path}: ")
    assert what in str(caught.value)


def test_a_link_that_leads_to_another_file_of_the_same_size_and_time_is_a_change(
    path: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    source = LocalFile(link)
    other = tmp_path / "other"
    shutil.copy2(path, other)
    os.utime(other, ns=(TIME, TIME))
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(InputChangedError, match="inode"):
        source.check_unchanged()
    source.close()


def read_it(path: Path) -> None:
    path.read_bytes()
    os.utime(path, ns=(TIME + 5, TIME))


def change_its_mode(path: Path) -> None:
    path.chmod(0o400)


def link_it(path: Path) -> None:
    os.link(path, path.with_name("second name"))


@pytest.mark.parametrize("change", [read_it, change_its_mode, link_it, lambda path: None])
def test_what_leaves_the_bytes_alone_is_no_change(
    source: LocalFile, path: Path, change: Callable[[Path], None]
) -> None:
    change(path)
    source.check_unchanged()


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 1024), (1023, 1), (17, 300), (1024, 0)])
def test_any_range_of_bytes_is_read(source: LocalFile, offset: int, nbytes: int) -> None:
    buffer = bytearray(nbytes)
    source.read_into(offset, memoryview(buffer))
    assert bytes(buffer) == CONTENT[offset : offset + nbytes]


def test_a_file_that_was_cut_short_is_a_changed_input_with_the_place(
    source: LocalFile, path: Path
) -> None:
    os.truncate(path, 100)
    with pytest.raises(InputChangedError, match="ends at byte 100 of 1024"):
        source.read_into(50, memoryview(bytearray(200)))


def test_a_removed_file_can_still_be_read_and_is_noticed_when_it_is_looked_for(
    source: LocalFile, path: Path
) -> None:
    path.unlink()
    buffer = bytearray(10)
    source.read_into(0, memoryview(buffer))
    assert bytes(buffer) == CONTENT[:10]
    with pytest.raises(InputChangedError):
        source.check_unchanged()


def test_a_file_whose_status_cannot_be_read_is_closed_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        with pytest.raises(CheckpointError, match="cannot be opened: Input/output error"):
            LocalFile(path)
    assert len(os.listdir("/proc/self/fd")) == before


def fail(descriptor: int) -> os.stat_result:
    raise OSError(5, "Input/output error")


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process have no file to spare."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (0, 4096))


@pytest.mark.usefixtures("scarce")
def test_without_files_to_spare_a_file_is_opened_for_each_read(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    source = LocalFile(path)
    buffer = bytearray(100)
    source.read_into(50, memoryview(buffer))
    assert bytes(buffer) == CONTENT[50:150]
    assert os.listdir("/proc/self/fd") == before
    source.check_unchanged()
    source.close()


@pytest.mark.usefixtures("scarce")
@pytest.mark.parametrize("change", [write_in_place, truncate, append, Path.unlink])
def test_a_file_that_is_opened_again_is_the_one_that_was_opened_before(
    path: Path, change: Callable[[Path], object]
) -> None:
    source = LocalFile(path)
    change(path)
    with pytest.raises(InputChangedError):
        source.read_into(0, memoryview(bytearray(10)))


def test_half_of_the_files_that_may_be_open_are_kept_for_all_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * used + 20, 4096))
    sources = [LocalFile(path) for _ in range(40)]
    assert len(os.listdir("/proc/self/fd")) <= used + 20
    for source in sources:
        buffer = bytearray(10)
        source.read_into(0, memoryview(buffer))
        assert bytes(buffer) == CONTENT[:10]
        source.close()
    assert len(os.listdir("/proc/self/fd")) == used
