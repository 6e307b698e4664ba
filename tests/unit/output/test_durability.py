"""What is on disk when a run has ended: every name that was given, and none that was removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shardrestore.names import STAGING_FOLDER
from shardrestore.output.staging import Staging

Steps = list[tuple[str, str]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Renames, removals and syncs of folders, in order, each with its place."""
    seen: Steps = []
    rename, fsync, rmtree = os.rename, os.fsync, shutil.rmtree

    def note_rename(source: str, destination: str, **folders: int) -> None:
        rename(source, destination, **folders)
        seen.append(("rename", str(destination)))

    def note_sync(descriptor: int) -> None:
        fsync(descriptor)
        place = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(place):
            seen.append(("sync", place))

    def note_removal(name: str, **options: object) -> None:
        rmtree(name, **options)  # type: ignore[call-overload]
        seen.append(("remove", name))

    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(shutil, "rmtree", note_removal)
    return seen


def publish(output: Path, names: list[str]) -> Staging:
    staging = Staging(output, overwrite=False)
    for name in names:
        staging.write_file(name, b"{}")
    staging.publish(staging.plan_moves(names))
    return staging


def places_after(steps: Steps, step: tuple[str, str]) -> set[str]:
    last = max(number for number, one in enumerate(steps) if one == step)
    return {place for what, place in steps[last:] if what == "sync"}


def test_every_folder_that_got_a_name_is_synced_after_its_last_rename(
    tmp_path: Path, steps: Steps
) -> None:
    """A file system without a journal brings each folder to disk by itself."""
    output = tmp_path / "new" / "out"
    names = ["code/deep/model.py", "code/a.py", "config.json", "model.safetensors"]
    with publish(output, names) as staging:
        synced = places_after(steps, ("rename", "model.safetensors"))
        inside = ("", "code", "code/deep")
        assert synced >= {str(output / name).rstrip("/") for name in inside}
        assert synced >= {str(tmp_path), str(tmp_path / "new")}, "new folders have names, too"
        staging.finish()


def test_subfolders_are_on_disk_before_the_index_says_that_the_model_is_whole(
    tmp_path: Path, steps: Steps
) -> None:
    index = "model.safetensors.index.json"
    with publish(tmp_path / "out", ["code/a.py", index]) as staging:
        before = steps[: steps.index(("rename", index))]
        last = max(number for number, one in enumerate(before) if one == ("rename", "code/a.py"))
        assert ("sync", str(tmp_path / "out" / "code")) in before[last:]
        staging.finish()


def test_the_removal_of_the_hidden_folder_is_synced(tmp_path: Path, steps: Steps) -> None:
    with publish(tmp_path / "out", ["config.json"]) as staging:
        staging.finish()
    assert str(tmp_path / "out") in places_after(steps, ("remove", STAGING_FOLDER))
