"""``shardrestore scan`` as a whole process: where its file may stand, and that it is whole."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.checkpoints import read_tree
from tests.support.scene import SINGLE, Scene, make_large_pair, shard_names, snapshot, start

PROFILE = "pair.profile.safetensors"


def scan(scene: Scene, *args: str | Path) -> None:
    """Scan, which must succeed and print nothing."""
    done = scene.cli("--quiet", *args, command="scan")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def refuse(scene: Scene, *args: str | Path, prelude: str = "") -> str:
    """Scan, which must be refused and change nothing; return the message."""
    before = snapshot(scene.root)
    done = scene.cli(*args, command="scan", prelude=prelude)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert snapshot(scene.root) == before
    return done.stderr


def test_a_scan_makes_one_file_and_its_missing_parents(scene: Scene) -> None:
    before = snapshot(scene.root)
    scan(scene, "--output", f"deep/er/{PROFILE}")
    after = snapshot(scene.root)
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {"deep", "deep/er", f"deep/er/{PROFILE}"}
    assert (scene.root / "deep/er" / PROFILE).stat().st_mode & 0o444 == 0o444


def test_a_run_from_the_file_writes_what_a_run_without_it_writes(scene: Scene) -> None:
    scan(scene, "--output", PROFILE)
    sweep = ("-k", "1,10", "--region", "mlp,all", "--strategy", "top,random")
    scene.run(*sweep)
    document = scene.run(*sweep, "--profile", PROFILE, "--output", "again")
    assert len(document["runs"]) == 8
    assert read_tree(scene.root / "again") == read_tree(scene.output)


def test_a_file_that_exists_is_kept_unless_it_may_be_replaced(scene: Scene) -> None:
    (scene.root / PROFILE).write_text("mine")
    message = refuse(scene, "--output", PROFILE)
    assert f"{PROFILE}: exists: choose another --output, or pass --overwrite" in message
    scan(scene, "--output", PROFILE, "--overwrite")
    assert (scene.root / PROFILE).read_bytes() != b"mine"


def test_scanning_twice_makes_the_same_file(scene: Scene) -> None:
    scan(scene, "--output", "one")
    scan(scene, "--output", "two", "--workers", "1", "--max-memory", "300MiB")
    assert (scene.root / "one").read_bytes() == (scene.root / "two").read_bytes()


def test_a_link_is_replaced_never_written_through(scene: Scene) -> None:
    (scene.root / "precious").write_text("mine")
    for place in ("precious", "gone"):
        (scene.root / PROFILE).unlink(missing_ok=True)
        (scene.root / PROFILE).symlink_to(place)
        assert "exists" in refuse(scene, "--output", PROFILE)
    (scene.root / PROFILE).unlink()
    (scene.root / PROFILE).symlink_to("precious")
    scan(scene, "--output", PROFILE, "--overwrite")
    assert not (scene.root / PROFILE).is_symlink()
    assert (scene.root / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (f"base/{PROFILE}", "lies inside the base"),
        (f"target/deep/{PROFILE}", "lies inside the target"),
        (f"base/{SINGLE}", "lies inside the base"),
        ("base/../target/config.json", "lies inside the target"),
        ("base", "is a folder"),
        (".", "is a folder"),
        ("link", "is a folder|is the target"),
        ("shard", "lies inside the target"),
        ("file/profile", "Not a directory|no folder"),
        ("x" * 300, "too long"),
        ("", "--output is empty"),
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_one_is_refused(scene: Scene, output: str, says: str) -> None:
    (scene.root / "file").write_text("mine")
    (scene.root / "link").symlink_to("target")
    (scene.root / "shard").symlink_to(f"target/{shard_names(scene.target)[0]}")
    message = refuse(scene, "--output", output, "--overwrite")
    assert any(words in message for words in says.split("|")), message


@pytest.mark.parametrize("side", ["base", "target"])
def test_a_file_that_an_input_links_to_is_not_replaced(scene: Scene, side: str) -> None:
    """As in a cache of the Hub: the weights are links to blobs."""
    name = shard_names(scene.root / side)[0]
    blob = scene.root / "blobs" / "0123"
    blob.parent.mkdir()
    (scene.root / side / name).rename(blob)
    (scene.root / side / name).symlink_to("../blobs/0123")
    message = refuse(scene, "--output", "blobs/0123", "--overwrite", "--follow-links")
    assert f"{name} of the {side}" in message


@pytest.mark.parametrize("work_file", [True, False], ids=["scan", "profile"])
def test_a_disk_that_fills_up_midway_leaves_nothing_and_loses_nothing(
    scene: Scene, work_file: bool
) -> None:
    """No file may grow beyond a limit: a full disk, seen from the writer."""
    scan(scene, "--output", PROFILE)  # the compiled kernels need their disk too
    limit = 1000 if work_file else (scene.root / PROFILE).stat().st_size - 1
    prelude = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({limit}, {limit}))"
    message = refuse(scene, "--output", PROFILE, "--overwrite", prelude=prelude)
    assert ("histograms" if work_file else PROFILE) in message
    assert "the file needs" in message
    assert "raise the limit on file sizes (`ulimit -f`)" in message
    assert "--resume" not in message  # which a scan does not have


SMALL_DISK = """
import collections, shutil
shutil.disk_usage = lambda path: collections.namedtuple("Usage", "free")(999)
"""


def test_a_disk_too_small_is_refused_with_both_numbers(scene: Scene) -> None:
    message = refuse(scene, "--output", f"new/{PROFILE}", prelude=SMALL_DISK)
    assert "not enough disk" in message
    assert "999 are free" in message


def test_a_budget_too_small_is_refused_with_both_numbers(scene: Scene) -> None:
    message = refuse(scene, "--max-memory", "64MiB")
    assert "--max-memory allows 64 MiB: raise it to" in message


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--base", "nowhere"), "no such folder"),
        (("--exclude", ""), "matches no tensor"),
        (("--include", "("), "not a valid regular expression"),
        (("--rename", "abc"), "expected REGEX=REPL"),
        (("--workers", "0"), "at least 1"),
        (("--device", "cuda:99"), "--device cpu"),
        (("--rename", "^=x."), "only the target has it"),
    ],
)
def test_a_scan_that_cannot_be_meant_is_refused(
    scene: Scene, args: tuple[str, ...], says: str
) -> None:
    assert says in refuse(scene, *args)


@pytest.mark.parametrize("args", [("--region", "mlp"), ("-k", "5"), ("surplus",)])
def test_a_scan_is_of_everything_and_takes_no_share(scene: Scene, args: tuple[str, ...]) -> None:
    before = snapshot(scene.root)
    done = scene.cli(*args, command="scan")
    assert (done.returncode, done.stdout) == (2, "")
    assert snapshot(scene.root) == before


@pytest.mark.parametrize("kept", [False, True], ids=["new_file", "overwrite"])
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_scan_leaves_nothing_and_loses_nothing(
    scene: Scene, sent: signal.Signals, status: int, kept: bool
) -> None:
    make_large_pair(scene)
    folder = scene.root / "new"
    if kept:
        folder.mkdir()
        (folder / PROFILE).write_text("mine")
    before = {path: path.lstat().st_mtime_ns for path in scene.root.rglob("*") if path.is_file()}
    names = set(scene.root.rglob("*"))
    for _ in range(5):
        process = start(scene, "--output", f"new/{PROFILE}", "--overwrite", command="scan")
        while process.poll() is None and not (folder.is_dir() and work_folders(folder)):
            time.sleep(0.001)
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=60)
        if process.returncode:
            break
        shutil.rmtree(folder)  # the scan was faster
        if kept:
            pytest.skip("the scan was done before the signal came")
    assert (process.returncode, stdout) == (status, ""), stderr
    assert stderr.startswith("interrupted")
    assert "Traceback" not in stderr
    assert set(scene.root.rglob("*")) == names
    assert {path: path.lstat().st_mtime_ns for path in before} == before


def work_folders(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name != PROFILE]
