"""An output folder: nothing incomplete has its final name, nothing that was there is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shardrestore.errors import OutputError
from shardrestore.names import JOURNAL_FILE, STAGING_FOLDER, UNFINISHED_FOLDER
from shardrestore.output.admission import check_output, check_places
from shardrestore.output.lock import HeldFolder
from shardrestore.output.publication import find_old_weights
from shardrestore.output.staging import Staging
from tests.support.scene import snapshot

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
NAMES = ["templates/extra.jinja", "config.json", FIRST, SECOND, INDEX]
"""What is published, the index last."""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


def stage(output: Path, *, overwrite: bool = True) -> Staging:
    staging = Staging(output, overwrite=overwrite)
    staging.clear()  # what a killed run has left, as a run does that is not resumed
    for name in NAMES:
        staging.write_file(name, b"new " + name.encode())
    return staging


def publish(staging: Staging, names: Sequence[str] = NAMES) -> None:
    staging.publish(staging.plan_moves(names))
    staging.finish()


def fill(output: Path) -> None:
    """Put an old model, links, and files that are no part of it into an output."""
    (output / "templates").mkdir(parents=True)
    (output / "templates" / "extra.jinja").write_text("old")
    (output / "templates" / "mine.jinja").write_text("mine")
    (output / "notes.txt").write_text("mine")
    (output / "adapter_model.safetensors").write_text("mine")
    for name in ("odd-name.safetensors", FIRST, "model-00002-of-00003.safetensors"):
        (output / name).write_text("old")
    (output / "model.safetensors").symlink_to("../../elsewhere")
    (output / "config.json").symlink_to("notes.txt")
    (output / "dangling").symlink_to("nowhere")
    (output / INDEX).write_text(json.dumps({"weight_map": {"a": "odd-name.safetensors"}}))


# One run at a time


def test_a_second_staging_is_refused_while_the_first_lives(output: Path) -> None:
    first = Staging(output, overwrite=False)
    first.write_file("config.json", b"{}")
    with pytest.raises(OutputError, match="another run is writing into it: wait for it"):
        Staging(output, overwrite=True)
    assert (first.folder / "config.json").read_bytes() == b"{}"
    first.discard()
    Staging(output, overwrite=False).discard()


def test_what_a_living_run_holds_is_not_offered_to_be_resumed(output: Path) -> None:
    first = Staging(output, overwrite=False)
    first.write_file(JOURNAL_FILE, b"{}\n")
    with pytest.raises(OutputError, match="another run is writing into it: wait for it"):
        check_output(output, overwrite=False)
    first.leave()
    with pytest.raises(OutputError, match="continue it with --resume"):
        check_output(output, overwrite=False)


def test_a_second_staging_works_when_the_first_has_published(output: Path) -> None:
    publish(stage(output))
    publish(stage(output))


def test_discarding_twice_leaves_the_next_run_alone(output: Path) -> None:
    first = Staging(output, overwrite=False)
    first.discard()
    second = Staging(output, overwrite=False)
    first.discard()
    assert second.folder.is_dir()
    with pytest.raises(OutputError, match="another run"):
        Staging(output, overwrite=True)
    second.discard()


GROWN = "model.safetensors"

STEPS: dict[str, Callable[[Staging], object]] = {
    "write a file": lambda staging: staging.write_file("config.json", b"{}"),
    "begin a shard": lambda staging: staging.unfinished_path("other.safetensors"),
    "complete a shard": lambda staging: staging.complete(GROWN),
    "drop a shard": lambda staging: staging.drop(GROWN),
    "clear": Staging.clear,
    "publish": lambda staging: staging.publish(
        [(f"{STAGING_FOLDER}/{UNFINISHED_FOLDER}/{GROWN}", GROWN)]
    ),
}
"""What a run does in its output."""


def replaced_output(output: Path) -> tuple[Staging, Staging]:
    """Two runs into one output, deleted between them; a shard of the second is growing."""
    first = Staging(output, overwrite=False)
    shutil.rmtree(output)
    second = Staging(output, overwrite=False)
    second.unfinished_path(GROWN).write_bytes(b"the second run's")
    return first, second


@pytest.mark.parametrize("step", STEPS)
def test_a_run_whose_output_was_replaced_touches_nothing_of_the_next_one(
    output: Path, step: str
) -> None:
    for end in (Staging.discard, Staging.leave, Staging.finish):
        first, second = replaced_output(output)
        before = snapshot(output)
        with pytest.raises(OutputError, match="deleted, moved or replaced while this run"):
            STEPS[step](first)
        end(first)
        assert snapshot(output) == before, end
        second.complete(GROWN)
        second.discard()


@pytest.mark.parametrize("step", ["complete a shard", "publish"])
def test_an_output_that_is_replaced_between_check_and_rename_loses_nothing(
    output: Path, step: str
) -> None:
    first, _second = replaced_output(output)
    before = snapshot(output)
    with mock.patch.object(HeldFolder, "check"), pytest.raises(OutputError):
        STEPS[step](first)
    assert snapshot(output) == before


def test_outputs_of_their_own_do_not_wait_for_each_other(tmp_path: Path) -> None:
    for staging in [Staging(tmp_path / name, overwrite=False) for name in "abc"]:
        staging.discard()
    assert list(tmp_path.iterdir()) == []


# Publishing


def test_publishing_replaces_the_old_model_and_keeps_everything_else(output: Path) -> None:
    fill(output)
    publish(stage(output))
    found = {str(path.relative_to(output)) for path in output.rglob("*") if not path.is_dir()}
    kept = {"notes.txt", "adapter_model.safetensors", "templates/mine.jinja", "dangling"}
    assert found == {*NAMES, *kept}
    assert all((output / name).read_bytes() == b"new " + name.encode() for name in NAMES)
    assert all((output / name).read_text() == "mine" for name in kept - {"dangling"})
    assert not any((output / name).is_symlink() for name in NAMES)
    assert not (output / STAGING_FOLDER).exists()


@pytest.mark.parametrize("name", [INDEX, "config.json", "model-00002-of-00003.safetensors"])
def test_what_appears_while_a_model_grows_is_not_replaced(output: Path, name: str) -> None:
    staging = stage(output, overwrite=False)
    (output / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name}: was not there when the run began"):
        staging.plan_moves(NAMES)
    (output / name).unlink()
    moves = staging.plan_moves(NAMES)
    (output / NAMES[-1]).parent.mkdir(exist_ok=True)
    (output / NAMES[-1]).write_text("mine")
    with pytest.raises(OutputError, match=f"{NAMES[-1]}: was not there when the run began"):
        staging.publish(moves)
    found = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert {one for one in found if not one.startswith(STAGING_FOLDER)} == {NAMES[-1]}
    assert (output / NAMES[-1]).read_text() == "mine"


def test_the_old_index_goes_first_and_the_new_one_comes_last(output: Path) -> None:
    fill(output)
    staging = stage(output)
    with mock.patch.object(os, "rename", side_effect=os.rename) as rename:
        staging.publish(staging.plan_moves(NAMES))
    moves = [call.args for call in rename.call_args_list]
    assert moves[0][0] == INDEX
    assert moves[-1][1] == INDEX


def at_call(number: int, error: BaseException, *, too_late: bool = False) -> Callable[..., None]:
    """Return an ``os.rename`` that fails once, before or after having renamed."""
    real, calls = os.rename, iter(range(10**6))

    def rename(source: Any, destination: Any, **folders: int) -> None:
        failing = next(calls) == number
        if failing and not too_late:
            raise error
        real(source, destination, **folders)
        if failing:
            raise error

    return rename


def count_renames(output: Path) -> int:
    staging = stage(output)
    with mock.patch.object(os, "rename", side_effect=os.rename) as rename:
        publish(staging)
    return rename.call_count


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some file")


def publishings(tmp_path: Path, filled: bool) -> Iterator[tuple[int, Path]]:
    """Yield each rename's number, with a new output to publish into."""
    prepare = fill if filled else lambda output: output.mkdir(parents=True)
    prepare(tmp_path / "counted" / "out")
    for number in range(count_renames(tmp_path / "counted" / "out")):
        output = tmp_path / str(number) / "out"
        prepare(output)
        yield number, output


@pytest.mark.parametrize("filled", [False, True])
def test_a_rename_that_fails_is_undone_with_all_before_it(tmp_path: Path, filled: bool) -> None:
    number = -1
    for number, output in publishings(tmp_path, filled):
        before = snapshot(output)
        staging = stage(output)
        with (
            mock.patch.object(os, "rename", at_call(number, full())),
            pytest.raises(OutputError, match=r"some file: .*No space left.*output is as it was"),
        ):
            staging.publish(staging.plan_moves(NAMES))
        staging.discard()
        assert snapshot(output) == before, number
    assert number == (11 if filled else 4)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_publishing_that_is_interrupted_is_undone(
    tmp_path: Path, error: type[BaseException]
) -> None:
    for number, output in publishings(tmp_path, True):
        before = snapshot(output)
        staging = stage(output)
        with mock.patch.object(os, "rename", at_call(number, error())), pytest.raises(error):
            staging.publish(staging.plan_moves(NAMES))
        staging.discard()
        assert snapshot(output) == before, number


def test_an_interruption_during_the_rename_itself_is_undone(tmp_path: Path) -> None:
    """A signal that comes during a system call is raised when the call has succeeded."""
    for number, output in publishings(tmp_path, True):
        before = snapshot(output)
        staging = stage(output)
        rename = at_call(number, KeyboardInterrupt(), too_late=True)
        with mock.patch.object(os, "rename", rename), pytest.raises(KeyboardInterrupt):
            staging.publish(staging.plan_moves(NAMES))
        staging.discard()
        assert snapshot(output) == before, number


@pytest.mark.parametrize("made", [False, True])
def test_folders_made_for_a_publishing_that_fails_go_again(output: Path, made: bool) -> None:
    if made:
        output.mkdir(parents=True)
    staging = stage(output)
    with mock.patch.object(os, "rename", at_call(3, full())), pytest.raises(OutputError):
        staging.publish(staging.plan_moves(NAMES))
    staging.discard()
    assert output.exists() == made
    assert not made or list(output.iterdir()) == []


def test_an_undoing_that_fails_deletes_nothing_of_the_old_model(output: Path) -> None:
    fill(output)
    staging = stage(output)
    real, calls = os.rename, iter(range(10**6))

    def rename(source: Any, destination: Any, **folders: int) -> None:
        if next(calls) >= 4:
            raise full()
        real(source, destination, **folders)

    with mock.patch.object(os, "rename", rename), suppress(OSError, OutputError):
        staging.publish(staging.plan_moves(NAMES))
    staging.discard()
    old = [path for path in output.rglob("*") if path.is_file() and path.read_bytes() == b"old"]
    assert len(old) == 4


@pytest.mark.parametrize("filled", [False, True])
def test_a_whole_publishing_can_be_undone_until_it_is_finished(output: Path, filled: bool) -> None:
    """As when a later model of a sweep cannot be published."""
    if filled:
        fill(output)
    before = snapshot(output)
    staging = stage(output)
    staging.publish(staging.plan_moves(NAMES))
    staging.undo()
    staging.undo()
    staging.discard()
    assert snapshot(output) == before
    assert output.exists() == filled


@pytest.mark.parametrize("too_late", [False, True])
def test_an_undoing_cannot_be_interrupted(tmp_path: Path, too_late: bool) -> None:
    for number, output in publishings(tmp_path, True):
        before = snapshot(output)
        staging = stage(output)
        staging.publish(staging.plan_moves(NAMES))
        rename = at_call(number, KeyboardInterrupt(), too_late=too_late)
        with mock.patch.object(os, "rename", rename):
            staging.undo()
        staging.discard()
        assert snapshot(output) == before, number


def test_what_is_discarded_leaves_no_folder_that_was_made_for_it(tmp_path: Path) -> None:
    stage(tmp_path / "a" / "b" / "c").discard()
    assert list(tmp_path.iterdir()) == []


# The old model


def test_old_weights_are_the_models_own_files_index_first(output: Path) -> None:
    fill(output)
    for name in ("optimizer.safetensors", "model.safetensors.bak", "my-model.safetensors"):
        (output / name).write_text("mine")
    (output / "model-1-of-2.safetensors").mkdir()
    (output / "model-3-of-4.safetensors").symlink_to("templates")
    assert find_old_weights(output) == [
        INDEX,
        FIRST,
        "model-00002-of-00003.safetensors",
        "model.safetensors",
        "odd-name.safetensors",
    ]


@pytest.mark.parametrize("index", ["", "{", '{"weight_map": {"a": "../../etc.safetensors"}}'])
def test_an_old_index_that_is_none_names_nothing(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    (tmp_path / "weights.safetensors").write_text("mine")
    assert find_old_weights(tmp_path) == [INDEX]


def test_an_empty_folder_has_no_old_weights(tmp_path: Path) -> None:
    assert find_old_weights(tmp_path) == []


# What is in the way


def test_a_leftover_of_a_killed_run_is_cleared(output: Path) -> None:
    (output / STAGING_FOLDER / "templates").mkdir(parents=True)
    (output / STAGING_FOLDER / "config.json").write_text("half")
    check_output(output, overwrite=False)
    publish(stage(output, overwrite=False))
    assert (output / "config.json").read_bytes() == b"new config.json"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_something_of_the_users_under_the_stagings_name_is_named_and_kept(
    tmp_path: Path, kind: str, overwrite: bool
) -> None:
    output, mine = tmp_path / "out", tmp_path / "mine"
    output.mkdir()
    if kind == "file":
        (output / STAGING_FOLDER).write_text("mine")
    else:
        (output / STAGING_FOLDER).symlink_to(mine)
    if kind == "link":
        mine.mkdir()
        (mine / "keepsake").write_text("mine")
    before = snapshot(tmp_path)
    for refuse in (check_output, Staging):
        with pytest.raises(OutputError, match=rf"out/{STAGING_FOLDER}: is in the way.*remove it"):
            refuse(output, overwrite=overwrite)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("put", "says"),
    [
        (lambda out: (out / "config.json").mkdir(), "config.json: a folder, where a file must"),
        (lambda out: (out / INDEX).mkdir(), f"{INDEX}: a folder, where a file must"),
        (lambda out: (out / "a").write_text(""), "a: a file, where a folder must go"),
        (lambda out: (out / "a").symlink_to("gone"), "a: a symbolic link, through which a/b/c.txt"),
        (lambda out: (out / "a").symlink_to(out), "a: a symbolic link"),
        (
            lambda out: [(out / "a").mkdir(), (out / "a" / "b").symlink_to(out)],
            "a/b: a symbolic link",
        ),
        (lambda out: [(out / "a").mkdir(), (out / "a" / "b").write_text("")], "a/b: a file"),
        (lambda out: (out / "a" / "b" / "c.txt").mkdir(parents=True), "a/b/c.txt: a folder"),
    ],
)
def test_what_stands_in_the_way_of_a_file_is_named(
    tmp_path: Path, put: Callable[[Path], object], says: str
) -> None:
    put(tmp_path)
    with pytest.raises(OutputError) as error:
        check_places(tmp_path, ["config.json", "a/b/c.txt", INDEX])
    assert str(error.value).startswith(f"{tmp_path}/{says}")
    assert "remove it" in str(error.value)


def test_files_and_links_that_are_replaced_are_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / INDEX).symlink_to("folder")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").symlink_to("gone")
    check_places(tmp_path, ["config.json", "a/b.txt", INDEX])
    check_places(tmp_path / "nowhere", ["config.json", "a/b.txt", INDEX])


# Modes


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_only_the_owner_sees_a_staging_and_published_files_follow_the_umask(
    output: Path, tmp_path: Path, umask: int
) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    source.chmod(0o755)
    before = os.umask(umask)
    try:
        staging = stage(output)
        assert stat.S_IMODE(staging.folder.stat().st_mode) == 0o700
        staging.copy_file("copied", source, 1)
        publish(staging, [*NAMES, "copied"])
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in output.rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}
    assert stat.S_IMODE(output.stat().st_mode) == 0o777 & ~umask


def test_a_model_that_a_killed_run_moved_aside_is_never_deleted(output: Path) -> None:
    fill(output)
    staging = stage(output)
    staging.publish(staging.plan_moves(NAMES))
    staging._held.release()  # killed: neither finished nor undone
    with pytest.raises(OutputError, match="move its files back"):
        Staging(output, overwrite=True)
