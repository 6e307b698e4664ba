"""A single file as output appears whole, or leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from shardrestore.errors import OutputError
from shardrestore.runs.file import NewFile


def test_a_file_appears_with_its_folders_once_it_is_published(tmp_path: Path) -> None:
    place = tmp_path / "new" / "pair.profile"
    with NewFile(place, overwrite=True) as file:
        file.path.write_text("whole")
        assert not place.exists()
        file.publish()
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert place.read_text() == "whole"


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_of_two_files_for_one_place_the_second_to_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuse_to_link)
    place = tmp_path / "pair.profile"
    with NewFile(place, overwrite=False) as first, NewFile(place, overwrite=False) as second:
        first.path.write_text("first")
        second.path.write_text("second")
        second.publish()
        with pytest.raises(OutputError, match="was put there meanwhile"):
            first.publish()
    assert place.read_text() == "second"
    assert list(tmp_path.iterdir()) == [place]


def refuse_to_link(source: object, destination: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_signal_that_comes_as_the_work_folder_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def make_and_interrupt(path: Path, *arguments: Any, **options: Any) -> None:
        make(path, *arguments, **options)
        if path.suffix == ".partial":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", make_and_interrupt)
    with (
        pytest.raises(KeyboardInterrupt),
        NewFile(tmp_path / "new" / "pair.profile", overwrite=False),
    ):
        pytest.fail("it was interrupted before")
    assert list(tmp_path.iterdir()) == []
