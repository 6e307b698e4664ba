"""The demo's folder: made once, found again, and never mistaken for the user's."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from shardrestore import OutputError, make_demo_pair, synthetic
from tests.support.scene import TINY, snapshot


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "DEMO_SHAPE", TINY)


@pytest.mark.parametrize("make", [False, True])
def test_a_new_or_empty_folder_is_filled_and_found_again(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "d"
    if make:
        folder.mkdir()
    assert make_demo_pair(folder) == (folder / "base", folder / "target")
    before = snapshot(folder / "base") | snapshot(folder / "target")
    assert make_demo_pair(folder) == (folder / "base", folder / "target")
    assert snapshot(folder / "base") | snapshot(folder / "target") == before
    assert {path.name for path in folder.iterdir()} == {".shardrestore-demo", "base", "target"}


@pytest.mark.parametrize("name", ["base", "target", ".partial", "notes.txt"])
def test_a_users_folder_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "keepsake").write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="holds files that are not the demo's"):
        make_demo_pair(tmp_path)
    assert snapshot(tmp_path) == before


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("mine")
    with pytest.raises(OutputError, match="d: the demo cannot be written: Not a directory"):
        make_demo_pair(tmp_path / "d")
    assert (tmp_path / "d").read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_making_that_is_interrupted_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int
) -> None:
    """After no shard, after the first of them, and between the two final names."""
    expected = tmp_path / "expected"
    make_demo_pair(expected)
    folder = tmp_path / "d"

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        if after == 2:
            real, calls = Path.rename, iter(range(9))
            patch.setattr(
                Path, "rename", lambda path, to: fail() if next(calls) else real(path, to)
            )
        else:
            place = "encode_header" if after == 0 else "encode_index"
            patch.setattr(synthetic, place, fail)
            patch.setattr(synthetic, "_split_into_shards", split_finely)
        with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
            make_demo_pair(folder)
    assert not (folder / "target").exists()
    assert not (folder / ".partial").exists()
    make_demo_pair(folder)
    assert [(name, seen[:-1]) for name, seen in snapshot(folder).items()] == [
        (name, seen[:-1]) for name, seen in snapshot(expected).items()
    ]


def split_finely(tensors: Any, _: int, item_bytes: int) -> Any:
    return [tensors[:1], tensors[1:]]
