"""A single file as output appears whole, or leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardrestore.runs.file import NewFile


def test_a_file_appears_with_its_folders_once_it_is_published(tmp_path: Path) -> None:
    place = tmp_path / "new" / "pair.profile"
    with NewFile(place) as file:
        file.path.write_text("whole")
        assert not place.exists()
        file.publish()
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert place.read_text() == "whole"


def test_a_signal_that_comes_as_the_work_folder_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def make_and_interrupt(path: Path, *arguments: Any, **options: Any) -> None:
        make(path, *arguments, **options)
        if path.suffix == ".partial":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", make_and_interrupt)
    with pytest.raises(KeyboardInterrupt), NewFile(tmp_path / "new" / "pair.profile"):
        pytest.fail("it was interrupted before")
    assert list(tmp_path.iterdir()) == []
