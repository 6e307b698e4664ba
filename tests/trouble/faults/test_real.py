"""Real disks that fill up, real limits, and inputs that really change under a run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shardrestore.errors import CheckpointError, InputChangedError, OutputError
from shardrestore.names import STAGING_FOLDER
from tests.support.checkpoints import read_tree
from tests.support.inject import visible
from tests.support.library import Library, cut_into
from tests.support.process.command import run_cli
from tests.support.runs import BUDGET, scratch
from tests.support.scene import INDEX, SINGLE, Scene, shard_names, snapshot

FINE = Library(
    cut_into(segment_elements=2048, chunk_elements=256, block_bytes=1024, copy_bytes=1024)
)
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, or become nobody")


class AtMoment:
    """An observer that does something once, at a moment of a run."""

    def __init__(self, stage: str, event: str, action: Callable[[], object], share: float = 0):
        self._stage, self._event, self._action, self._share = stage, event, action, share
        self._now, self._total, self._done = "", 0, 0
        self.hit = False

    def begin(self, stage: str, total_bytes: int) -> None:
        self._now, self._total, self._done = stage, total_bytes, 0
        self._maybe("begin")

    def advance(self, nbytes: int) -> None:
        self._done += nbytes
        if self._done >= self._share * self._total:
            self._maybe("advance")

    def end(self) -> None:
        self._maybe("end")

    def _maybe(self, event: str) -> None:
        if not self.hit and (self._now, event) == (self._stage, self._event):
            self.hit = True
            self._action()


def restore(scene: Scene, output: Path, observer: AtMoment | None = None, **options: Any) -> None:
    FINE.restore(
        scene.base,
        scene.target,
        output,
        percent=30,
        observer=observer,
        **{"workers": 1, "max_memory": BUDGET} | options,
    )
    assert observer is None or observer.hit


def expected_tree(scene: Scene) -> dict[str, bytes]:
    restore(scene, scene.root / "reference")
    return read_tree(scene.root / "reference")


@contextmanager
def small_disk(place: Path, nbytes: int) -> Iterator[Path]:
    """Mount a file system in memory of `nbytes`."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


DISK_BYTES = 4 << 20


@as_root
@pytest.mark.parametrize(
    ("stage", "event", "share", "named"),
    [
        ("restore", "advance", 0.1, "model-00001-of-00003.safetensors"),
        ("restore", "advance", 0.9, "model-00003-of-00003.safetensors"),
        ("restore", "end", 0, ".tsv"),
    ],
    ids=["first shard", "last shard", "reports"],
)
def test_a_disk_that_fills_up_is_one_message_and_a_larger_one_lets_the_run_go_on(
    scene: Scene, stage: str, event: str, share: float, named: str
) -> None:
    expected = expected_tree(scene)
    with small_disk(scene.root / "disk", DISK_BYTES) as disk:
        full = AtMoment(stage, event, lambda: fill(disk), share)
        with pytest.raises(OutputError) as caught:
            restore(scene, disk / "out", full)
        message = str(caught.value)
        assert named in message
        assert "No space left on device: the file needs" in message
        assert "free some space" in message
        assert visible(disk / "out") == {}
        remount(disk, f"size={2 * DISK_BYTES}")
        read = AtMoment("restore", "begin", lambda: None)
        restore(scene, disk / "out", read, resume=True)
        assert read_tree(disk / "out") == expected


@as_root
def test_a_disk_that_is_full_during_the_scan_is_one_message_that_names_the_work_file(
    scene: Scene,
) -> None:
    expected = expected_tree(scene)
    with small_disk(scene.root / "disk", DISK_BYTES) as disk:
        with pytest.raises(OutputError, match="histograms: cannot be written: No space left"):
            restore(scene, disk / "out", AtMoment("scan", "begin", lambda: fill(disk)))
        assert sorted(path.name for path in disk.iterdir()) == ["ballast"]
        with pytest.raises(OutputError, match="not enough disk"):
            restore(scene, disk / "out", resume=True)
        (disk / "ballast").unlink()
        restore(scene, disk / "out", resume=True)
        assert read_tree(disk / "out") == expected


@as_root
def test_a_disk_that_is_just_large_enough_by_the_plan_is_large_enough(scene: Scene) -> None:
    document = scene.cli("--percent", "30", "--json", command="plan")
    assert document.returncode == 0, document.stderr
    needed = json.loads(document.stdout)["disk_needed_bytes"]
    # A file system rounds every file up to its blocks, and folders take one each.
    rounding = 4096 * 32
    with small_disk(scene.root / "disk", needed + rounding) as disk:
        restore(scene, disk / "out")
        assert visible(disk / "out")


@as_root
def test_a_disk_that_becomes_read_only_is_one_message_and_the_run_goes_on_later(
    scene: Scene,
) -> None:
    expected = expected_tree(scene)
    with small_disk(scene.root / "disk", DISK_BYTES) as disk:
        locked = AtMoment("restore", "end", lambda: remount(disk, "ro"))
        with pytest.raises(OutputError, match=r"cannot be written: Read-only file system"):
            restore(scene, disk / "out", locked)
        with pytest.raises(OutputError, match="is read-only"):
            restore(scene, disk / "out", resume=True)
        remount(disk, "rw")
        restore(scene, disk / "out", resume=True)
        assert read_tree(disk / "out") == expected


@pytest.mark.parametrize(
    ("call", "limit", "kept"), [("write_models", 10_000, True), ("scan_weights", 300, False)]
)
def test_a_limit_on_file_sizes_is_one_message_and_without_it_the_run_goes_on(
    scene: Scene, call: str, limit: int, kept: bool
) -> None:
    """10,000 bytes are too few for a shard, 300 for the scan's work file."""
    scene.run("--percent", "30", "--output", "reference")
    prelude = (
        "import resource\n"
        "from shardrestore.runs import runner\n"
        f"real = runner.{call}\n"
        "def limited(*args, **named):\n"
        f"    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "    return real(*args, **named)\n"
        f"runner.{call} = limited"
    )
    failed = scene.cli("--percent", "30", "--quiet", prelude=prelude)
    assert (failed.returncode, failed.stdout) == (1, "")
    message, *rest = failed.stderr.splitlines()
    assert message.startswith("error: out/.shardrestore-partial/")
    assert "File too large: the file needs" in message
    assert "raise the limit on file sizes (`ulimit -f`)" in message
    assert visible(scene.output) == {}
    arguments = [*scene.words("--percent", "30", "--quiet", "--resume")]
    if kept:
        assert rest[0] == "finished work is kept; to continue:"
        assert shlex.split(rest[1])[2:] == arguments
    else:
        assert rest == []
    resumed = run_cli("run", *arguments, cwd=scene.root)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert read_tree(scene.output) == read_tree(scene.root / "reference")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\0")


def write_in_place(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\1\2")


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def replace(path: Path) -> None:
    """As a download that writes beside the file does; size and time stay the same."""
    new = path.with_suffix(".new")
    shutil.copy2(path, new)
    os.replace(new, path)


def remove(path: Path) -> None:
    path.unlink()


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


CHANGES = [truncate, append, write_in_place, touch, replace, remove, remove_folder]
MOMENTS = [("scan", "advance", 0.5), ("restore", "begin", 0.0), ("restore", "advance", 0.95)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", ["base", "target"])
@pytest.mark.parametrize(("stage", "event", "share"), MOMENTS)
def test_an_input_that_changes_is_named_and_nothing_is_published_or_kept(
    scene: Scene, change: Callable[[Path], None], side: str, stage: str, event: str, share: float
) -> None:
    folder = scene.root / side
    path = folder / shard_names(folder)[-1]
    observer = AtMoment(stage, event, lambda: change(path), share)
    with pytest.raises(CheckpointError) as caught:
        restore(scene, scene.output, observer)
    assert isinstance(caught.value, InputChangedError)
    assert str(folder) in str(caught.value)
    assert not scene.output.exists()


@pytest.mark.parametrize("change", [truncate, append, remove])
def test_an_input_that_changes_leaves_the_older_model_as_it_was(
    scene: Scene, change: Callable[[Path], None]
) -> None:
    restore(scene, scene.output, seed=1)
    before = read_tree(scene.output)
    path = scene.target / shard_names(scene.target)[0]
    observer = AtMoment("restore", "advance", lambda: change(path), 0.5)
    with pytest.raises(InputChangedError):
        restore(scene, scene.output, observer, overwrite=True)
    assert read_tree(scene.output) == before


@pytest.mark.parametrize("change", [truncate, append, remove])
def test_a_side_file_that_changes_size_or_vanishes_is_named_and_nothing_is_published(
    scene: Scene, change: Callable[[Path], None]
) -> None:
    path = scene.target / "tokenizer.model"
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        restore(scene, scene.output, AtMoment("restore", "end", lambda: change(path)))
    assert not scene.output.exists() or visible(scene.output) == {}


@pytest.mark.parametrize("moment", [("scan", "begin"), ("restore", "end")])
@pytest.mark.parametrize("name", ["target/tokenizer.model", f"target/{INDEX}", "base/config.json"])
def test_a_file_beside_the_shards_that_is_rewritten_at_its_size_is_noticed(
    scene: Scene, name: str, moment: tuple[str, str]
) -> None:
    path = scene.root / name

    def rewrite() -> None:
        path.write_bytes(path.read_bytes())

    with pytest.raises(InputChangedError, match=re.escape(path.name)):
        restore(scene, scene.output, AtMoment(*moment, rewrite))
    assert not scene.output.exists() or visible(scene.output) == {}


def test_a_file_that_appears_in_the_output_during_a_run_is_kept(scene: Scene) -> None:
    def appear() -> None:
        (scene.output / "config.json").write_text("mine")

    with pytest.raises(OutputError, match=r"config\.json: was not there when the run began"):
        restore(scene, scene.output, AtMoment("restore", "begin", appear))
    assert visible(scene.output) == {"config.json": b"mine"}
    (scene.output / "config.json").unlink()
    restore(scene, scene.output, resume=True)
    assert read_tree(scene.output) == expected_tree(scene)


# Mounts ----------------------------------------------------------------------------------


@contextmanager
def mounted(place: Path, at: Path) -> Iterator[None]:
    """Have a file or folder at a second place."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.touch() if place.is_file() else at.mkdir()
    made = subprocess.run(
        ["mount", "--bind", place, at], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"nothing can be mounted: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@as_root
@pytest.mark.parametrize(
    ("place", "at", "output", "says"),
    [
        ("target", "out", "out", "is the target"),
        ("base", "other", "other/new", "lies inside the base"),
        ("target/templates", "out/templates", "out", "has, as templates, templates of the target"),
        ("base/config.json", "out/config.json", "out", "has, as config.json, config.json of the"),
    ],
)
def test_an_input_that_is_mounted_where_the_output_is_is_refused(
    scene: Scene, place: str, at: str, output: str, says: str
) -> None:
    before = snapshot(scene.base), snapshot(scene.target)
    with (
        mounted(scene.root / place, scene.root / at),
        pytest.raises(OutputError, match=f"{output}: {says}"),
    ):
        restore(scene, scene.root / output, overwrite=True)
    assert (snapshot(scene.base), snapshot(scene.target)) == before


def test_an_output_whose_file_is_another_name_of_an_inputs_is_written(scene: Scene) -> None:
    scene.output.mkdir()
    os.link(scene.target / "tokenizer.model", scene.output / "tokenizer.model")
    before = snapshot(scene.target)
    restore(scene, scene.output, overwrite=True)
    assert snapshot(scene.target) == before


def test_a_target_that_is_changed_after_the_failure_is_not_resumed_into(scene: Scene) -> None:
    with pytest.raises(KeyboardInterrupt):
        restore(scene, scene.output, AtMoment("restore", "advance", interrupt, 0.9))
    touch(scene.target / shard_names(scene.target)[0])
    with pytest.raises(OutputError, match="unfinished run of other inputs or options: target"):
        restore(scene, scene.output, resume=True)
    assert visible(scene.output) == {}


def interrupt() -> None:
    raise KeyboardInterrupt


def remove(folder: Path) -> None:
    """Remove a folder into which others still write."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("hidden", [False, True], ids=["output", "hidden folder"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_output_that_is_removed_mid_run_is_an_error_and_can_be_made_anew(
    scene: Scene, hidden: bool, share: float
) -> None:
    expected = expected_tree(scene)
    gone = scene.output / STAGING_FOLDER if hidden else scene.output
    observer = AtMoment("restore", "advance", lambda: remove(gone), share)
    with pytest.raises(OutputError, match=str(scene.output)):
        restore(scene, scene.output, observer)
    assert not scene.output.exists() or visible(scene.output) == {}
    restore(scene, scene.output, resume=True)
    assert read_tree(scene.output) == expected


@pytest.fixture
def anyones() -> Iterator[Scene]:
    """A pair that every user may read: pytest's own folders are closed to others."""
    with scratch() as root:
        root.chmod(0o755)
        yield Scene.make(root)


@as_root
def test_permission_that_is_lost_mid_run_is_one_message_and_the_run_goes_on_later(
    anyones: Scene,
) -> None:
    scene = anyones
    expected = expected_tree(scene)
    scene.output.mkdir()
    os.chown(scene.output, NOBODY, NOBODY)

    def lose() -> None:
        for folder in (scene.output, scene.output / STAGING_FOLDER):
            folder.chmod(0o500)

    os.seteuid(NOBODY)
    try:
        with pytest.raises(OutputError, match="cannot be written: Permission denied"):
            restore(scene, scene.output, AtMoment("restore", "advance", lose, 0.3))
        for folder in (scene.output, scene.output / STAGING_FOLDER):
            folder.chmod(0o700)
        assert visible(scene.output) == {}
        restore(scene, scene.output, resume=True)
        assert read_tree(scene.output) == expected
    finally:
        os.seteuid(0)


def test_the_pair_has_several_shards_so_that_some_are_finished_before_others(
    scene: Scene,
) -> None:
    assert len(shard_names(scene.target)) == 3
    assert not (scene.target / SINGLE).exists()
