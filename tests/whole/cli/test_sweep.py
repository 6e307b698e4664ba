"""Several models at once, as a whole process: percents, regions, strategies, targets."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import shardrestore
from shardrestore_cli.summary import describe_sweep
from tests.support.checkpoints import read_tree
from tests.support.scene import Scene, alter, edit, snapshot, zeros

Q0 = "model.layers.0.self_attn.q_proj.weight"


def refuse(scene: Scene, *args: str | Path, status: int = 1, prelude: str = "") -> str:
    """Run, which must be refused and change nothing; return the message on one line."""
    before = snapshot(scene.root)
    done = scene.cli(*args, prelude=prelude)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: " if status == 1 else "Usage: ")
    assert snapshot(scene.root) == before
    return " ".join(done.stderr.split())


def folders(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


# Regions, strategies and percents


def test_every_region_strategy_and_percent_gets_a_folder_of_its_name(scene: Scene) -> None:
    """Given as lists, repeated, or both; in the order of the JSON."""
    document = scene.run(
        *("-k", "1,3", "-k", "5", "--region", "attention, mlp", "--region", "all"),
        *("--strategy", "top", "--strategy", "random,bottom"),
    )
    variants = [
        (region, strategy, percent)
        for region in ("attention", "mlp", "all")
        for strategy in ("top", "random", "bottom")
        for percent in (1, 3, 5)
    ]
    names = [f"restore_{region}_{how}_{percent}pct" for region, how, percent in variants]
    assert document.keys() == {"runs"}
    assert [run["outputs"] for run in document["runs"]] == [[f"out/{name}"] for name in names]
    assert folders(scene.output) == set(names)
    for run, (_, strategy, percent) in zip(document["runs"], variants, strict=True):
        assert run["selected_elements"] == int(run["region_elements"] * percent / 100)
        assert (run["threshold"] is None) == (strategy == "random")


@pytest.mark.parametrize("args", [["--region", "mlp,all"], ["--strategy", "top,random"]])
def test_one_percent_of_several_kinds_is_a_sweep_too(scene: Scene, args: list[str]) -> None:
    scene.run("-k", "7", *args)
    for path in scene.output.iterdir():
        _, region, strategy, _ = path.name.split("_")
        alone = scene.root / "alone" / path.name
        scene.run("-k", "7", "--region", region, "--strategy", strategy, "--output", alone)
        assert read_tree(alone) == read_tree(path)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--region", "attention,head"), "'head' is not one of transformer, attention, mlp"),
        (("--region", "mlp", "--region", "Mlp"), "'Mlp' is not one of"),
        (("--region", "mlp,"), "'' is not one of"),
        (("--strategy", "top,middle"), "'middle' is not one of top, bottom, random"),
        (("--strategy", ""), "'' is not one of"),
        (("-k", "1,x"), "expected numbers"),
    ],
)
def test_one_unknown_choice_among_several_is_wrong_usage(
    scene: Scene, args: tuple[str, ...], says: str
) -> None:
    message = refuse(scene, *args, status=2)
    assert says in message
    assert args[0] in message


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("-k", "1,3", "-k", "3.0"), "percent 3 is asked for twice"),
        (("--region", "mlp,all", "--region", "mlp"), "region mlp is asked for twice"),
        (("--strategy", "top", "--strategy", "top"), "strategy top is asked for twice"),
    ],
)
def test_what_is_asked_for_twice_is_refused(scene: Scene, args: tuple[str, ...], says: str) -> None:
    assert says in refuse(scene, *args)


def test_the_summary_has_a_row_for_each_model_within_80_columns(scene: Scene) -> None:
    done = scene.cli("-k", "0.5,60", "--region", "transformer,all", "--strategy", "bottom,random")
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(r" +", " ", done.stdout)
    assert "wrote 8 models" in text
    for name in folders(scene.output):
        assert re.search(rf"^ {re.escape(name)} [\d,]+ [\d,]+ (–|≤ \S+)$", text, re.MULTILINE)
    for part in ("output out", "unchanged", "zero base", "time", "throughput", "peak memory"):
        assert part in text
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("strategy", ["top", "bottom", "random"])
def test_the_summary_of_a_sweep_of_large_models_fits_80_columns(
    scene: Scene, strategy: str
) -> None:
    (result,) = shardrestore.sweep(
        scene.base, scene.target, scene.output, percents=[0.5], strategy=strategy,
        max_memory="16GiB",  # of a process in which other tests may have loaded torch
    )  # fmt: skip
    large = alter(
        result,
        {
            "figures.cut.region_elements": 70_000_000_000,
            "figures.cut.selected_elements": 42_000_000_000,
            "figures.cut.threshold": None if strategy == "random" else 1.23456789e-05,
            "costs.read_bytes": 564_000_000_000,
            "costs.written_bytes": 141_000_000_000,
        },
    )
    lines = [line for line in describe_sweep([large] * 7).splitlines() if " out" not in line]
    assert [line for line in lines if len(line) > 80] == []


def test_plan_shows_every_model_of_a_sweep(scene: Scene) -> None:
    args = ("-k", "1,60", "--region", "transformer,all", "--strategy", "bottom,random")
    before = snapshot(scene.root)
    done = scene.cli(*args, command="plan")
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(r" +", " ", done.stdout)
    for row in ("184 (1 %) of 18,432, bottom of transformer", "14,841 (60 %) of 24,736, random of"):
        assert row in text
    assert max(map(len, done.stdout.splitlines())) <= 80
    planned = json.loads(scene.cli(*args, "--json", command="plan").stdout)
    assert snapshot(scene.root) == before
    found = scene.run(*args)["runs"]
    assert [model["output"] for model in planned["models"]] == [run["outputs"][0] for run in found]
    selected = [model["selected_elements"] for model in planned["models"]]
    assert selected == [run["selected_elements"] for run in found]


def test_nothing_is_printed_of_a_quiet_sweep(scene: Scene) -> None:
    done = scene.cli("-k", "1,5", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# One folder, several sweeps


def test_a_second_sweep_into_the_same_folders_is_refused_and_the_first_is_intact(
    scene: Scene,
) -> None:
    scene.run("-k", "1,3")
    for args in (("-k", "1,3"), ("-k", "3,5"), ("-k", "5,3", "--strategy", "bottom,top")):
        assert "top_" in (message := refuse(scene, *args))
        assert "not empty" in message
        assert "--overwrite" in message


def test_a_sweep_beside_another_leaves_it_as_it_was(scene: Scene) -> None:
    scene.run("-k", "1,3")
    before = snapshot(scene.output)
    scene.run("-k", "1,3", "--strategy", "bottom")
    assert before.items() <= snapshot(scene.output).items()
    assert len(folders(scene.output)) == 4


@pytest.mark.parametrize("locked", ["1", "3"])
def test_a_sweep_into_a_folder_that_another_run_is_writing_is_refused(
    scene: Scene, locked: str
) -> None:
    folder = scene.output / f"restore_transformer_top_{locked}pct"
    folder.mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        message = refuse(scene, "-k", "1,3,5")
    finally:
        os.close(descriptor)
    assert f"{folder.name}: another run is writing into it" in message
    scene.run("-k", "1,3,5")


# The disk

SMALL_DISK = """
import collections, shutil
shutil.disk_usage = lambda path: collections.namedtuple("Usage", "free")({free})
"""


def read_needs(message: str) -> dict[str, int]:
    """The table of a refusal: what needs how many bytes."""
    rows = re.findall(r"([\d,]+) (out/\S+|work files, meanwhile)", message)
    return {name: int(nbytes.replace(",", "")) for nbytes, name in rows}


def test_a_disk_too_small_for_a_sweep_is_refused_with_every_need(scene: Scene) -> None:
    free = 200_000
    message = refuse(scene, "-k", "1,3,5", prelude=SMALL_DISK.format(free=free))
    found = re.search(r"not enough disk: ([\d,]+) bytes are needed, ([\d,]+) are free", message)
    assert found
    needed, told = (int(number.replace(",", "")) for number in found.groups())
    assert needed > told == free
    needs = read_needs(message)
    names = [f"out/restore_transformer_top_{percent}pct" for percent in (1, 3, 5)]
    assert list(needs) == [*names, "work files, meanwhile"]
    assert sum(needs.values()) == needed
    assert "next step: free some space, ask for fewer at once" in message
    # What is said to suffice does; a byte less is refused.
    refuse(scene, "-k", "1,3,5", prelude=SMALL_DISK.format(free=needed - 1))
    scene.run("-k", "1,3,5", prelude=SMALL_DISK.format(free=needed))


def test_a_disk_too_small_for_all_targets_is_refused_before_the_first(scene: Scene) -> None:
    add_target(scene, "other")
    targets = ("--target", "target", "--target", "other")
    message = refuse(scene, "-k", "1,3", *targets, prelude=SMALL_DISK.format(free=5_000_000))
    needs = read_needs(message)
    assert list(needs) == [
        f"out/{target}/restore_transformer_top_{percent}pct"
        for target in ("target", "other")
        for percent in (1, 3)
    ] + ["work files, meanwhile"]


# Several targets


def add_target(scene: Scene, name: str) -> Path:
    shutil.copytree(scene.target, scene.root / name)
    return scene.root / name


def reshape(folder: Path) -> None:
    edit(folder, lambda name, old: {name: zeros("BF16", 2, 3) if name == Q0 else old})


def poison(folder: Path) -> None:
    nan = bytes.fromhex("c07f")
    edit(folder, lambda name, old: {name: (*old[:2], nan + old[2][2:]) if name == Q0 else old})


def test_each_target_gets_a_folder_with_what_a_run_of_its_own_writes(scene: Scene) -> None:
    other = add_target(scene, "other")
    edit(other, lambda name, old: {name: (*old[:2], old[2][:2] * (len(old[2]) // 2))})
    targets = ("--target", "target", "--target", "./other/")
    document = scene.run("-k", "3,10", *targets, "--output", "deep/out")
    assert document["failures"] == []
    names = [f"restore_transformer_top_{percent}pct" for percent in (3, 10)]
    assert [run["outputs"] for run in document["runs"]] == [
        [f"deep/out/{target}/{name}"] for target in ("target", "other") for name in names
    ]
    assert folders(scene.root / "deep" / "out") == {"target", "other"}
    for target in ("target", "other"):
        scene.run("-k", "3,10", "--target", target, "--output", f"alone/{target}")
        alone = read_tree(scene.root / "alone" / target)
        assert read_tree(scene.root / "deep" / "out" / target) == alone


def test_one_percent_of_several_targets_has_a_folder_for_it_too(scene: Scene) -> None:
    add_target(scene, "other")
    done = scene.cli("-k", "10", "--target", "target", "--target", "other")
    assert (done.returncode, done.stderr) == (0, "")
    for target in ("target", "other"):
        assert folders(scene.output / target) == {"restore_transformer_top_10pct"}
        assert f"out/{target}" in done.stdout
    assert done.stdout.endswith("2 of 2 targets restored\n")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "1 models" not in done.stdout


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (reshape, [f"{Q0}: shape [32, 32] in the base, [2, 3] in the target"]),
        (poison, ["1 weights of 1 tensors of the region are NaN", f"{Q0}: 1"]),
        (shutil.rmtree, ["no such folder"]),
    ],
    ids=["when_planned", "when_scanned", "when_opened"],
)
@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "second", "last"])
def test_a_target_that_fails_does_not_keep_the_others_from_being_restored(
    scene: Scene, spoil: Callable[[Path], object], says: list[str], place: int
) -> None:
    names = ["target", "other"]
    add_target(scene, "other")
    spoil(add_target(scene, "bad"))
    names.insert(place, "bad")
    targets = [word for name in names for word in ("--target", name)]
    done = scene.cli("-k", "5,10", *targets)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: target bad: ")
    assert done.stderr.count("error: ") == 1
    for words in says:
        assert words in done.stderr
    assert done.stdout.endswith("2 of 3 targets restored\n")
    assert folders(scene.output) == {"target", "other"}
    for name in ("target", "other"):
        assert len(folders(scene.output / name)) == 2


def test_json_of_several_targets_has_runs_and_failures(scene: Scene) -> None:
    reshape(add_target(scene, "shape"))
    poison(add_target(scene, "nan"))
    targets = [word for name in ("shape", "target", "nan") for word in ("--target", name)]
    done = scene.cli("-k", "5,10", *targets, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document.keys() == {"runs", "failures"}
    assert [run["selected_elements"] for run in document["runs"]] == [921, 1843]
    failures = document["failures"]
    assert [failure["target"] for failure in failures] == ["shape", "nan"]
    assert Q0 in failures[0]["error"]
    assert "NaN" in failures[1]["error"]
    assert folders(scene.output) == {"target"}


def test_a_target_whose_folder_is_taken_does_not_keep_the_others_from_being_restored(
    scene: Scene,
) -> None:
    add_target(scene, "other")
    taken = scene.output / "other" / "restore_transformer_top_10pct"
    taken.mkdir(parents=True)
    (taken / "keepsake.txt").write_text("mine")
    done = scene.cli("--target", "target", "--target", "other", "--quiet")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: target other: ")
    assert "not empty" in done.stderr
    assert folders(taken) == {"keepsake.txt"}
    assert folders(scene.output / "target") == {"restore_transformer_top_10pct"}


def test_targets_of_one_name_are_refused(scene: Scene) -> None:
    add_target(scene, "a/model")
    add_target(scene, "b/model")
    message = refuse(scene, "--target", "a/model", "--target", "target", "--target", "b/model/")
    assert "two targets are called 'model', a/model and b/model/" in message
    assert "run them one by one" in message
    assert "called 'target'" in refuse(scene, "--target", "target", "--target", "base/../target")


def test_a_profile_is_of_one_target(scene: Scene) -> None:
    add_target(scene, "other")
    args = ("--target", "target", "--target", "other", "--profile", "p")
    message = refuse(scene, *args)
    assert "profile p: is of one target, 2 are named" in message


@pytest.mark.parametrize("output", ["other/new", "other", "target/deep/er", "link/new"])
@pytest.mark.parametrize("order", [("target", "other"), ("other", "target")])
def test_an_output_inside_any_of_the_targets_is_refused(
    scene: Scene, output: str, order: tuple[str, str]
) -> None:
    """Also one that another target is about: it is an input as well."""
    add_target(scene, "other")
    (scene.root / "link").symlink_to("other")
    message = refuse(scene, "--target", order[0], "--target", order[1], "--output", output)
    assert "lies inside the target" in message


def test_an_output_inside_a_target_that_cannot_be_restored_is_refused_too(scene: Scene) -> None:
    reshape(add_target(scene, "other"))
    args = ("--target", "target", "--target", "other", "--output", "other/new")
    refuse(scene, *args, "--quiet")


def test_a_target_that_is_no_usable_path_is_one_message(scene: Scene) -> None:
    (scene.root / "loop").symlink_to("loop")
    for odd in ("~no-such-user/x", "loop", "", "x" * 5000):
        done = scene.cli("--target", odd, "--target", "target", "--overwrite", "--quiet")
        assert (done.returncode, done.stdout) == (1, ""), (odd, done.stderr)
        assert done.stderr.startswith("error: "), odd
        assert "Traceback" not in done.stderr


def test_a_request_that_no_target_can_meet_is_told_once(scene: Scene) -> None:
    add_target(scene, "other")
    targets = ("--target", "target", "--target", "other")
    for args in (("-k", "0"), ("--include", "("), ("--device", "tpu"), ("--output", "")):
        message = refuse(scene, *targets, *args)
        assert message.count("error: ") == 1
    message = refuse(scene, *targets, "--base", "nowhere", "--quiet")
    assert message.count("no such folder") == 1
