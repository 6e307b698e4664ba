"""What a file system cannot do is done without, or tried before anything is read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shardrestore.errors import OutputError
from shardrestore.output import filesystem
from shardrestore.output.staging import Staging
from shardrestore.output.writer import ShardWriter

UNKNOWN = [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP]
"""What is said of an operation that a file system does not know."""


def refuse(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", UNKNOWN)
@pytest.mark.parametrize("missing", ["fsync", "fdatasync", "ftruncate"])
def test_a_model_is_published_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, number: int
) -> None:
    monkeypatch.setattr(os, missing, refuse(number))
    with Staging(tmp_path / "out", overwrite=False) as staging:
        writer = ShardWriter.create(staging.unfinished_path("a.safetensors"), b"head", 8)
        writer.write(4, memoryview(b"data"))
        writer.flush()
        writer.finish()
        staging.complete("a.safetensors")
        staging.write_file("b.json", b"{}")
        staging.publish(staging.plan_moves(["b.json", "a.safetensors"]))
        staging.finish()
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {"a.safetensors": b"headdata", "b.json": b"{}"}


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_is_no_file_system_that_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        filesystem.sync_folder(tmp_path)


@pytest.mark.parametrize("number", UNKNOWN)
@pytest.mark.parametrize(
    ("needed", "what"),
    [("pwrite", "written at any offset"), ("rename", "renamed over another")],
)
def test_what_a_model_needs_is_tried_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: str, what: str, number: int
) -> None:
    monkeypatch.setattr(os, needed, refuse(number))
    with pytest.raises(OutputError, match=f"{what} there .*choose an --output on another disk"):
        Staging(tmp_path / "out", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_leaves_nothing_behind(tmp_path: Path) -> None:
    filesystem.try_out(tmp_path)
    assert list(tmp_path.iterdir()) == []
