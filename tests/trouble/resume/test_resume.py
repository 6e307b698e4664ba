"""What ``--resume`` goes on with, what it refuses, and what it leaves alone."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import shardrestore
from tests.support.checkpoints import read_tree
from tests.support.resume.stage import Driver, Play
from tests.support.scene import INDEX, STAGING, Scene, shard_names, snapshot

JOURNAL = Path(STAGING, ".journal.jsonl")
SCAN = Path(STAGING, ".scan.profile.safetensors")
COSTS = {
    *("download_seconds", "scan_seconds", "restore_seconds", "seconds", "peak_rss_bytes"),
    *("read_bytes", "workers", "projected_bytes"),
}
"""What ``--json`` says of the process, not of the models."""


def rehearsed(driver: Driver, scene: Scene, *args: str) -> Play:
    play = Play(driver, scene, list(args))
    play.rehearse()
    return play


def stop_in_pass_2(play: Play, shards: int = 1) -> None:
    """Kill the run when the journal has told of so many shards."""
    play.reset()
    assert play.reference is not None
    times = play.reference.counts["noting a shard"] // len(shard_names(play.scene.target))
    end = play.run(kill=("noting a shard", times * shards, "after"))
    assert end.status == -signal.SIGKILL
    assert len(told(play, "shard")) == shards


def stop_while_publishing(play: Play) -> None:
    """Kill the run when half of its renames are done."""
    play.reset()
    assert play.reference is not None
    half = play.reference.counts["publishing"] // 2
    assert play.run(kill=("publishing", half, "after")).status == -signal.SIGKILL


def journals(play: Play) -> list[Path]:
    return sorted(play.output.rglob(str(JOURNAL.name)))


def told(play: Play, key: str) -> list[Any]:
    """Return what the lines of the journal say under a key."""
    for path in journals(play):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        if "base" in lines[0]:
            return [line[key] for line in lines if key in line]
    return []


def state(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


class Stages:
    """Notes what a run announces."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}

    def begin(self, stage: str, total_bytes: int) -> None:
        self.begun[stage] = total_bytes

    def advance(self, nbytes: int) -> None: ...

    def end(self) -> None: ...


def refuse(play: Play, *args: str, says: str) -> str:
    """The command is refused with this difference, and everything is as it was."""
    before = snapshot(play.output)
    end = play.driver.run(play.scene, args)
    assert (end.status, end.stdout, "Traceback" in end.stderr) == (1, "", False), end
    message = re.sub(r"\s+", " ", end.stderr)
    assert re.search(says, message), message
    assert snapshot(play.output) == before
    return message


# What is kept


def test_finished_shards_are_published_as_they_were_written(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play, shards=2)
    names = [name for name, *_ in told(play, "shard")]
    before = {name: state(play.output / STAGING / name) for name in names}
    play.check_finished(play.resume())
    assert {name: state(play.output / name) for name in names} == before
    assert len(names) == 2


def test_pass_1_is_not_repeated_and_only_unfinished_shards_are_written(
    driver: Driver, scene: Scene
) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play, shards=2)
    (done,) = {*shard_names(scene.target)} - {name for name, *_ in told(play, "shard")}
    stages = Stages()
    result = shardrestore.restore(
        scene.base, scene.target, play.output, percent=10, resume=True, max_memory="16GiB",
        observer=stages,
    )  # fmt: skip
    assert list(stages.begun) == ["restore"]
    size = (scene.target / done).stat().st_size
    assert 0 < stages.begun["restore"] <= 2 * size
    assert read_tree(play.output) == play.whole
    assert (
        result.selected_elements
        == json.loads(play.whole["shardrestore.json"])["cut"]["selected_elements"]
    )


@pytest.mark.parametrize("args", [[], ["--strategy", "random", "-k", "5,50"]])
def test_a_resumed_run_tells_the_figures_of_an_uninterrupted_one(
    driver: Driver, scene: Scene, args: list[str]
) -> None:
    play = rehearsed(driver, scene, "--json", *args)
    assert play.reference is not None
    stop_in_pass_2(play)
    assert figures(play.resume().stdout) == figures(play.reference.stdout)


def test_a_run_killed_between_renames_only_renames(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene, "--json")
    assert play.reference is not None
    stop_while_publishing(play)
    end = play.resume()
    play.check_finished(end)
    assert not {"pass 1", "pass 2", "side files", "index"} & end.counts.keys()
    assert figures(end.stdout) == figures(play.reference.stdout)


def test_files_of_any_name_are_among_the_renames(driver: Driver, scene: Scene) -> None:
    (scene.target / "odd\u00a0na\tme.txt").write_bytes(b"of nobody's business")
    play = rehearsed(driver, scene)
    stop_while_publishing(play)
    play.check_finished(play.resume())
    assert "odd\u00a0na\tme.txt" in play.whole


@pytest.mark.parametrize("options", [["--workers", "3"], ["--max-memory", "1GiB"], ["--quiet"]])
def test_workers_memory_and_noise_may_differ(
    driver: Driver, scene: Scene, options: list[str]
) -> None:
    play = rehearsed(driver, scene, "--workers", "1")
    stop_in_pass_2(play)
    shards = [name for name, *_ in told(play, "shard")]
    before = [state(play.output / STAGING / name) for name in shards]
    play.args = options
    play.check_finished(play.resume())
    assert [state(play.output / name) for name in shards] == before


def test_a_moved_pair_is_the_same_pair(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    scene.base.rename(scene.root / "elsewhere")
    play.args = ["--base", "elsewhere"]
    assert play.resume().status == 0
    found = read_tree(play.output)
    assert [name for name in play.whole if found.pop(name) != play.whole[name]] == [
        "README.md",  # which names the base
        "shardrestore.json",  # which says where it was
    ]
    assert not found


# What is refused


OTHER_OPTIONS = [
    (["-k", "20"], "percent was 10.0, it is 20.0"),
    (["--region", "mlp"], 'region was "transformer", it is "mlp"'),
    (["--strategy", "bottom"], 'strategy was "top", it is "bottom"'),
    (["--dtype", "fp16"], 'dtype was "auto", it is "fp16"'),
    (["--exclude", "q_proj"], r'exclude was \[\], it is \["q_proj"\]'),
    (["--include", "proj"], r"include was \[\]"),
    (["--rename", "^xx=yy"], r'rename was \[\], it is \["\^xx=yy"\]'),
    (["--approximate"], "approximate was false, it is true"),
    (["--allow-nonfinite"], "allow_nonfinite was false, it is true"),
    (["--checksum"], "checksum was false, it is true"),
]


@pytest.mark.parametrize("publishing", [False, True], ids=["pass_2", "publishing"])
@pytest.mark.parametrize(("other", "says"), OTHER_OPTIONS, ids=[o[0][0] for o in OTHER_OPTIONS])
def test_other_options_are_refused_and_named(
    driver: Driver, scene: Scene, other: list[str], says: str, publishing: bool
) -> None:
    play = rehearsed(driver, scene)
    (stop_while_publishing if publishing else stop_in_pass_2)(play)
    message = refuse(play, *other, "--resume", says=says)
    assert "to continue:" not in message  # with the command that was just refused
    assert "unfinished run of other inputs or options" in message
    assert "--overwrite" in message
    play.check_finished(play.resume())


def test_another_seed_is_refused_where_it_decides(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene, "--strategy", "random")
    stop_in_pass_2(play)
    args = ["--strategy", "random", "--seed", "5", "--resume"]
    refuse(play, *args, says="seed was 32, it is 5")
    play.check_finished(play.resume())


def touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def keep_time(path: Path, change: Callable[[Path], object]) -> None:
    status = path.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def lengthen(path: Path) -> None:
    """The same tensors behind a longer header: another size."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes((end).to_bytes(8, "little") + data[8:end] + b" " * 8 + data[end:])


def relabel(path: Path) -> None:
    """Another header of the same length."""
    data = path.read_bytes()
    assert data.count(b'"format":"pt"') == 1
    path.write_bytes(data.replace(b'"format":"pt"', b'"format":"tp"'))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (touch, r"mtime_ns was \d+, it is \d+"),
        (lambda path: keep_time(path, lengthen), r"bytes was \d+, it is \d+"),
        (
            lambda path: keep_time(path, relabel),
            r'header_sha256 was "[0-9a-f]+", it is "[0-9a-f]+"',
        ),
    ],
    ids=["time", "size", "header"],
)
@pytest.mark.parametrize("side", ["base", "target"])
def test_an_input_that_changed_is_refused_and_named(
    driver: Driver, scene: Scene, side: str, change: Callable[[Path], object], says: str
) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    shard = shard_names(scene.root / side)[1]
    change(scene.root / side / shard)
    refuse(play, "--resume", says=f"{side} shards {shard} {says}")
    assert driver.run(scene, ["--overwrite"]).status == 0
    assert driver.run(scene, ["--output", "again"]).status == 0
    assert read_tree(play.output) == read_tree(scene.root / "again")


def test_a_side_file_that_changed_is_refused_and_named(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    (scene.target / "tokenizer.model").write_bytes(b"other")
    refuse(play, "--resume", says="target side_files tokenizer.model bytes was 256, it is 5")


def rewrite(path: Path) -> None:
    """Change a file's last byte; its size stays."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_side_file_that_was_rewritten_at_its_size_is_refused_and_named(
    driver: Driver, scene: Scene
) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    rewrite(scene.target / "tokenizer.model")
    refuse(play, "--resume", says="target side_files tokenizer.model mtime_ns was")


def test_a_shard_that_was_changed_at_its_size_is_made_again(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    ((name, *_),) = told(play, "shard")
    rewrite(play.output / STAGING / name)
    play.check_finished(play.resume())


def test_a_shard_that_was_changed_before_it_got_its_name_is_not_published(
    driver: Driver, scene: Scene
) -> None:
    play = rehearsed(driver, scene)
    play.reset()
    assert play.run(kill=("publishing", 1, "before")).status == -signal.SIGKILL
    rewrite(play.output / STAGING / shard_names(scene.target)[0])
    refuse(play, "--resume", says="was changed since the run that was killed completed it")
    assert driver.run(scene, ["--overwrite"]).status == 0
    play.check_finished(driver.run(scene, ["--overwrite"]))


def test_another_format_of_the_journal_is_refused_and_named(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    path = play.output / JOURNAL
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps(json.loads(first) | {"format": 99}) + "\n", *rest]))
    refuse(play, "--resume", says="format was 99, it is 3")


def test_a_run_that_is_still_alive_is_not_resumed(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    with locked(play.output):
        refuse(play, "--resume", says="another run is writing into it: wait for it")
    play.check_finished(play.resume())


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Have the output, as a run in another process has it."""
    descriptor = os.open(output, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


# Damage


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_line_that_a_crash_cut_short_counts_as_not_written(
    driver: Driver, scene: Scene, cut: int
) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play, shards=2)
    first, second = (name for name, *_ in told(play, "shard"))
    before = {name: state(play.output / STAGING / name) for name in (first, second)}
    path = play.output / JOURNAL
    path.write_bytes(path.read_bytes()[:-cut])
    play.check_finished(play.resume())
    assert state(play.output / first) == before[first]
    assert state(play.output / second) != before[second]


def test_zeros_that_a_crash_left_at_the_end_count_as_not_written(
    driver: Driver, scene: Scene
) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play, shards=2)
    with open(play.output / JOURNAL, "ab") as file:
        file.write(bytes(300))
    for _ in range(2):  # a shard that is noted behind them is found
        assert play.resume(kill=("side files", 1, "before")).status == -signal.SIGKILL
        assert len(told(play, "shard")) == 3
    play.check_finished(play.resume())


def test_a_journal_without_a_whole_line_is_none(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    (play.output / JOURNAL).write_bytes(b'{"form')
    play.check_finished(play.resume())


@pytest.mark.parametrize("line", [0, 1, 2], ids=["identity", "shard", "last"])
@pytest.mark.parametrize(
    "damage",
    [lambda text: b"?" + text[1:], lambda text: text[:20] + text[21:], lambda text: b"[1]\n"],
    ids=["changed", "shorter", "no_object"],
)
def test_a_damaged_journal_is_told_and_never_half_believed(
    driver: Driver, scene: Scene, line: int, damage: Callable[[bytes], bytes]
) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play, shards=2)
    path = play.output / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = damage(lines[line])
    path.write_bytes(b"".join(lines))
    message = refuse(play, "--resume", says=r"\.journal\.jsonl.*damaged")
    assert "--overwrite" in message
    play.check_finished(play.run("--overwrite"))


@pytest.mark.parametrize("line", [1, -1])
def test_a_damaged_journal_never_costs_the_model_that_was_to_be_replaced(
    driver: Driver, scene: Scene, line: int
) -> None:
    """Killed while it publishes: the old weights are only in the hidden folder then."""
    assert driver.run(scene, ["-k", "70"]).status == 0
    play = rehearsed(driver, scene, "--overwrite")
    stop_while_publishing(play)
    path = play.output / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = b"?" + lines[line][1:]
    path.write_bytes(b"".join(lines))
    refuse(play, "--overwrite", "--resume", says="journal")
    refuse(play, "--overwrite", says="holds the model that a killed run was about to replace")


@pytest.mark.parametrize("where", [0.001, 0.3, 0.7, 0.999])
def test_a_damaged_scan_is_scanned_again(driver: Driver, scene: Scene, where: float) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    path = play.output / SCAN
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 4
    path.write_bytes(data)
    end = play.resume()
    play.check_finished(end)
    assert end.counts["pass 1"]


@pytest.mark.parametrize("cut", [None, 0, 100])
def test_a_scan_that_is_gone_or_cut_short_is_scanned_again(
    driver: Driver, scene: Scene, cut: int | None
) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play)
    if cut is None:
        (play.output / SCAN).unlink()
    else:
        os.truncate(play.output / SCAN, cut)
    play.check_finished(play.resume())


# Without --resume, and where there is nothing to go on with


@pytest.mark.parametrize("publishing", [False, True], ids=["pass_2", "publishing"])
def test_unfinished_work_is_refused_without_resume(
    driver: Driver, scene: Scene, publishing: bool
) -> None:
    play = rehearsed(driver, scene)
    (stop_while_publishing if publishing else stop_in_pass_2)(play)
    message = refuse(play, says="holds the work of an unfinished run")
    assert "--resume" in message
    assert "--overwrite" in message
    play.check_finished(play.resume())


def test_unfinished_work_is_begun_anew_with_overwrite(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    stop_in_pass_2(play, shards=2)
    end = play.run("--overwrite")
    play.check_finished(end)
    assert end.counts["pass 1"]


def test_resume_where_nothing_was_started_runs(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    play.check_finished(play.resume())
    play.reset()
    play.output.mkdir()
    play.check_finished(play.resume())


def test_resume_does_not_write_over_what_was_there(driver: Driver, scene: Scene) -> None:
    play = rehearsed(driver, scene)
    play.output.mkdir()
    (play.output / "notes.txt").write_text("mine")
    refuse(play, "--resume", says="not empty, it holds notes.txt")


def figures(stdout: str) -> Any:
    document = json.loads(stdout)
    return [
        {name: value for name, value in run.items() if name not in COSTS}
        for run in document.get("runs", [document])
    ]


@pytest.mark.parametrize(
    "args", [[], ["--strategy", "random,top", "-k", "5,50"], ["--checksum", "--dtype", "fp16"]]
)
def test_a_finished_run_tells_its_figures_again_and_touches_nothing(
    driver: Driver, scene: Scene, args: list[str]
) -> None:
    play = rehearsed(driver, scene, "--json", *args)
    first = play.run()
    before = snapshot(play.output)
    times = {path: path.stat().st_mtime_ns for path in play.output.rglob("*")}
    again = play.resume()
    assert (again.status, again.stderr) == (0, "")
    assert figures(again.stdout) == figures(first.stdout)
    assert snapshot(play.output) == before
    assert {path: path.stat().st_mtime_ns for path in play.output.rglob("*")} == times
    assert "pass 1" not in again.counts


@pytest.mark.parametrize("spoil", ["shard", INDEX, "shardrestore.json", "SHA256SUMS"])
def test_a_model_that_lacks_a_file_is_not_taken_for_finished(
    driver: Driver, scene: Scene, spoil: str
) -> None:
    play = rehearsed(driver, scene, "--checksum")
    assert play.run().status == 0
    (play.output / (shard_names(scene.target)[1] if spoil == "shard" else spoil)).unlink()
    refuse(play, "--checksum", "--resume", says="not empty")
    play.check_finished(play.resume("--overwrite"))


def test_a_finished_model_of_other_options_is_not_taken_for_finished(
    driver: Driver, scene: Scene
) -> None:
    play = rehearsed(driver, scene)
    assert play.run().status == 0
    for other in (["-k", "20"], ["--checksum"], ["--strategy", "random"]):
        refuse(play, *other, "--resume", says="not empty")


def test_unfinished_work_beside_a_finished_model_is_kept_from_its_command(
    driver: Driver, scene: Scene
) -> None:
    """The model is of one percent, what was to replace it of another."""
    assert driver.run(scene, ["-k", "70"]).status == 0
    play = rehearsed(driver, scene, "--overwrite")
    stop_in_pass_2(play)
    refuse(play, "-k", "70", "--resume", says="percent was 10.0, it is 70.0")
    play.check_finished(play.resume())


# Sweeps and several targets


SWEEP = ["-k", "5,20,50"]


def test_the_outputs_of_an_unfinished_sweep_are_kept_from_other_runs(
    driver: Driver, scene: Scene
) -> None:
    play = rehearsed(driver, scene, *SWEEP)
    stop_in_pass_2(play)
    assert len(journals(play)) == 3
    for percent in ("5", "20", "50"):
        output = ["--output", f"out/restore_transformer_top_{percent}pct", "-k", percent]
        refuse(play, *output, says="holds the work of an unfinished run")
        refuse(play, *output, "--resume", says="unfinished run")
    refuse(play, "-k", "5,20", "--resume", says="models was")
    refuse(play, "-k", "20,50", "--resume", says="unfinished run")
    play.check_finished(play.resume())


def two_targets(scene: Scene) -> list[str]:
    shutil.copytree(scene.target, scene.root / "second")
    return ["--target", "target", "--target", "second"]


@pytest.mark.parametrize("phase", ["pass 1", "pass 2", "publishing", "clean-up"])
@pytest.mark.parametrize("percents", ["10", "10,40"])
@pytest.mark.parametrize("which", [0.2, 0.8], ids=["in_the_first", "in_the_second"])
def test_several_targets_are_resumed_where_they_stopped(
    driver: Driver, scene: Scene, phase: str, percents: str, which: float
) -> None:
    play = rehearsed(driver, scene, *two_targets(scene), "-k", percents, "--json")
    assert play.reference is not None
    number = int(play.reference.counts[phase] * which)
    assert play.run(kill=(phase, number, "after")).status == -signal.SIGKILL
    play.check_left()
    end = play.resume()
    play.check_finished(end)
    assert figures(end.stdout) == figures(play.reference.stdout)
    assert json.loads(end.stdout)["failures"] == []


def test_a_finished_target_is_not_touched_when_the_next_is_resumed(
    driver: Driver, scene: Scene
) -> None:
    play = rehearsed(driver, scene, *two_targets(scene))
    assert play.reference is not None
    number = int(play.reference.counts["pass 2"] * 0.8)
    assert play.run(kill=("pass 2", number, "after")).status == -signal.SIGKILL
    before = snapshot(play.output / "target")
    time.sleep(0.01)
    play.check_finished(play.resume())
    assert snapshot(play.output / "target") == before


class TestDisk:
    """What an unfinished run has written already needs no more room."""

    @staticmethod
    def go_on(play: Play, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        shardrestore.restore(
            play.scene.base, play.scene.target, play.output,
            percent=10, resume=True, max_memory="16GiB",
        )  # fmt: skip

    def test_a_disk_with_room_for_the_last_shard_is_large_enough(
        self, driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        play = rehearsed(driver, Scene.make(root), "-k", "10")
        sides = play.scene.base, play.scene.target
        whole = shardrestore.plan(*sides, percent=10, max_memory="16GiB").disk_needed_bytes
        stop_in_pass_2(play, shards=2)
        staged = sum(path.stat().st_size for path in (play.output / STAGING).glob("model*"))
        assert staged > 30_000
        left = shardrestore.plan(
            *sides, play.output, percent=10, resume=True, max_memory="16GiB"
        ).disk_needed_bytes
        assert left <= whole - staged
        with pytest.raises(shardrestore.OutputError, match="not enough disk"):
            self.go_on(play, monkeypatch, whole - staged - 30_000)
        self.go_on(play, monkeypatch, whole - staged)
        assert read_tree(play.output) == play.whole

    def test_a_full_disk_is_large_enough_for_the_last_renames(
        self, driver: Driver, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        play = rehearsed(driver, Scene.make(root), "-k", "10")
        stop_while_publishing(play)
        self.go_on(play, monkeypatch, 0)
        assert read_tree(play.output) == play.whole


def test_a_model_older_than_its_inputs_is_not_taken_for_finished(
    driver: Driver, root: Path
) -> None:
    play = rehearsed(driver, Scene.make(root), "-k", "10")
    assert play.run().status == 0
    shard = play.scene.target / shard_names(play.scene.target)[0]
    data = bytearray(shard.read_bytes())
    data[-2:] = b"\x80\x3f"  # trained again, in place
    shard.write_bytes(data)
    assert "not empty" in play.resume().stderr
    assert play.resume("--overwrite").status == 0
    assert shardrestore.verify(play.output, max_memory="16GiB").ok


def test_a_staged_shard_that_has_vanished_is_written_again(driver: Driver, root: Path) -> None:
    play = rehearsed(driver, Scene.make(root), "-k", "10")
    stop_in_pass_2(play, shards=2)
    next((play.output / STAGING).glob("model*")).unlink()
    play.check_finished(play.resume())


def test_an_older_model_that_was_moved_aside_is_never_cleared_away(
    driver: Driver, root: Path
) -> None:
    play = Play(driver, Scene.make(root), ["--overwrite"])
    assert driver.run(play.scene, ["-k", "70"]).status == 0
    play.rehearse()
    stop_while_publishing(play)
    aside = read_tree(play.output / STAGING / ".replaced")
    assert aside
    (play.output / JOURNAL).unlink()
    for more in ([], ["--resume"]):
        assert "move its files back" in play.run(*more).stderr
        assert read_tree(play.output / STAGING / ".replaced") == aside


def test_a_journal_is_not_touched_while_another_run_has_the_lock(
    driver: Driver, root: Path
) -> None:
    play = rehearsed(driver, Scene.make(root), "-k", "10")
    stop_in_pass_2(play)
    with open(play.output / JOURNAL, "ab") as journal:
        journal.write(b'{"shard": ["half a li')
    before = (play.output / JOURNAL).read_bytes()
    lock = os.open(play.output, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert "another run" in play.resume().stderr
        assert (play.output / JOURNAL).read_bytes() == before
    finally:
        os.close(lock)
    play.check_finished(play.resume())
