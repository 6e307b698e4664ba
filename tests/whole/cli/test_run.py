"""What a good run does, as a whole process: its output, its streams, its folders, its end."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import shardrestore
from shardrestore_cli.main import app
from shardrestore_cli.summary import describe
from tests.support.process.command import offline, run_cli
from tests.support.scene import (
    GROWING,
    INDEX,
    SIDE_FILES,
    SINGLE,
    STAGING,
    Scene,
    alter,
    edit,
    make_large_pair,
    read_tensors,
    shard_names,
    snapshot,
    start,
    stop_at,
    write_index,
    write_shard,
)

REPORTS = {
    "README.md",
    "diff_summary.tsv",
    "restore_stats.tsv",
    "selected_param_stats.json",
    "shardrestore.json",
    "report.html",
}
ELEMENTS = 18_432  # of the tiny pair's blocks
RUN = ["run", "--base", "base", "--target", "target", "--output", "out"]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def data_of(folder: Path) -> dict[str, bytes]:
    """Return a model's weight files, index included."""
    return {path.name: path.read_bytes() for path in folder.glob("model*.safetensors*")}


# Streams ----------------------------------------------------------------------------------


def test_json_is_one_document_with_the_promised_keys_and_exactly_k(scene: Scene) -> None:
    before = {side: snapshot(scene.root / side) for side in ("base", "target")}
    document = scene.run("-k", "7.3")
    assert document["region_elements"] == ELEMENTS
    assert document["selected_elements"] == int(ELEMENTS * 7.3 / 100)
    assert 0 < document["ties_taken"] <= document["ties"]
    assert 0 < document["threshold"] < 1
    assert 0 < document["unchanged_share"] < 1
    assert 0 <= document["zero_base_share"] < 1
    assert document["outputs"] == ["out"]
    assert 0 < document["seconds"] < 60
    assert 0 < document["peak_rss_bytes"] <= document["projected_bytes"] <= 512 << 20
    assert {side: snapshot(scene.root / side) for side in before} == before


def test_the_selected_elements_are_those_of_the_files(scene: Scene) -> None:
    document = scene.run("-k", "100", "--region", "all")
    base, target, output = map(read_tensors, (scene.base, scene.target, scene.output))
    assert output == base != target
    assert document["selected_elements"] == document["region_elements"] > ELEMENTS


def test_a_complete_model_folder_comes_out(scene: Scene) -> None:
    scene.run()
    weights = {*shard_names(scene.target), INDEX}
    assert files(scene.output) == weights | {"config.json", *SIDE_FILES} | REPORTS
    for name in ("config.json", *SIDE_FILES):
        assert (scene.output / name).read_bytes() == (scene.target / name).read_bytes()
    maps = [
        json.loads((side / INDEX).read_text())["weight_map"]
        for side in (scene.output, scene.target)
    ]
    assert maps[0] == maps[1]
    for name in files(scene.output):
        assert (scene.output / name).stat().st_mode & 0o444 == 0o444, f"{name} is not readable"


def test_a_single_file_gives_a_single_file_and_the_same_weights(scene: Scene) -> None:
    scene.run()
    sharded = read_tensors(scene.output)
    write_shard(scene.target / SINGLE, read_tensors(scene.target))
    for name in (*shard_names(scene.target), INDEX):
        if name != SINGLE:
            (scene.target / name).unlink()
    scene.run("--output", "single")
    assert set(data_of(scene.root / "single")) == {SINGLE}
    assert read_tensors(scene.root / "single") == sharded


def test_the_summary_has_every_promised_part_within_80_columns(scene: Scene) -> None:
    done = scene.cli()
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(r"\s+", " ", done.stdout)
    for part in (
        "restored 1,843 of 18,432 elements",
        "output out",
        "threshold relative change ≥ 0.",
        "tie",
        "unchanged",
        "zero base",
        "module kind elements restored share",
        "attention 6,144",
        "mlp 12,288",
        "time",
        "throughput",
        "peak memory",
        "MiB",
    ):
        assert part in text
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_run_of_local_folders_says_nothing_about_downloads(scene: Scene) -> None:
    assert scene.run()["download_seconds"] == 0
    done = scene.cli("--overwrite")
    assert done.returncode == 0
    assert "download" not in done.stdout


@pytest.mark.parametrize("strategy", ["top", "bottom", "random"])
def test_the_summary_of_a_large_model_fits_80_columns(scene: Scene, strategy: str) -> None:
    result = shardrestore.restore(
        scene.base, scene.target, scene.output, percent=10, strategy=strategy,
        max_memory="8GiB",  # of a process in which other tests may have loaded torch
    )  # fmt: skip
    large = alter(
        result,
        {
            "outputs": (Path("out"),),
            "figures.cut.region_elements": 70_000_000_000,
            "figures.cut.selected_elements": 7_000_000_000,
            "figures.cut.exact": False,
            "figures.ties": shardrestore.TieFigures(count=123_456_789, taken=98_765_432),
            "figures.changes.nonfinite": 123_456_789,
            "costs.read_bytes": 564_000_000_000,
            "costs.written_bytes": 141_000_000_000,
            "costs.seconds": 1234.5,
            "costs.times": shardrestore.Times(scan_seconds=600.25, restore_seconds=634.25),
        },
    )
    assert [line for line in describe(large).splitlines() if len(line) > 80] == []


def test_quiet_prints_nothing(scene: Scene) -> None:
    done = scene.cli("--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert INDEX in files(scene.output)


def on_a_terminal(scene: Scene, *args: str) -> tuple[int, str, str]:
    """Run with stderr on a terminal; return status, stdout and what the terminal got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "shardrestore_cli.main", *RUN, *args],
        cwd=scene.root,
        env=offline(),
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux reports the other side's end this way
            break
        if not part:
            break
        seen += part
    os.close(ours)
    stdout, _ = process.communicate(timeout=60)
    return process.returncode, stdout.decode(), seen.decode()


def test_a_terminal_shows_one_bar_in_bytes_for_each_pass(scene: Scene) -> None:
    status, stdout, terminal = on_a_terminal(scene, "--json")
    assert status == 0
    assert json.loads(stdout)["selected_elements"] == 1843
    for title in (r"pass 1:? scan", r"pass 2:? restore"):
        assert re.search(rf"{title}\s*: 100%.*B/s", terminal), terminal
    assert "refine" not in terminal


def test_a_float32_pair_shows_the_refining_scan_too(tmp_path: Path) -> None:
    status, _, terminal = on_a_terminal(Scene.make(tmp_path, "F32"))
    assert status == 0
    assert re.search(r"pass 1:? refine\s*: 100%", terminal), terminal


def test_quiet_shows_no_bar_on_a_terminal(scene: Scene) -> None:
    assert on_a_terminal(scene, "--quiet") == (0, "", "")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_reader_that_goes_away_is_no_error(scene: Scene, command: str) -> None:
    """As in ``shardrestore plan | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = scene.cli(command=command, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_closed_stdout_is_no_error(scene: Scene, command: str) -> None:
    """As in ``shardrestore run >&-``."""
    done = scene.cli(command=command, prelude="import os, sys; os.close(1); sys.stdout = None")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("args", [[], ["--json"]], ids=["text", "json"])
def test_results_that_cannot_be_printed_are_one_message(scene: Scene, args: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = scene.cli(*args, command="plan", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# plan and demo ------------------------------------------------------------------------------


def test_plan_writes_nothing_and_shows_every_region(scene: Scene) -> None:
    before = snapshot(scene.root)
    done = scene.cli("-k", "10", command="plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(scene.root) == before
    text = re.sub(r" +", " ", done.stdout)
    for row in (
        "transformer * 14 18,432 1,843",
        "attention 8 6,144 614",
        "mlp 6 12,288 1,228",
        "embedding 2 6,144 614",
        "all 21 24,736 2,473",
        "1,843 (10 %) of 18,432",
        "blocks language: layers 0, 1",
    ):
        assert row in text
    assert re.search(r"disk [\d.]+ MB needed, [\d.]+ [TGM]B free", text)
    assert re.search(r"memory \d+ MiB of 512 MiB", text)


def test_plan_fits_80_columns_with_the_percents_of_the_paper(scene: Scene) -> None:
    done = scene.cli("-k", "1,3,5,10,20,40,60", command="plan")
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_plan_says_how_often_weights_are_read(scene: Scene) -> None:
    scene.cli("--output", "p.safetensors", command="scan")
    for args, times in (
        ([], "twice"),
        (["--dtype", "fp32"], "up to 3 times"),
        (["--dtype", "fp32", "--approximate"], "twice"),
        (["--profile", "p.safetensors"], "once"),
    ):
        done = scene.cli(*args, command="plan")
        assert f"B: the region's weights are read {times}, others once\n" in done.stdout


def test_plan_json_is_what_the_run_then_does(scene: Scene) -> None:
    done = scene.cli("-k", "10", "--json", command="plan")
    assert (done.returncode, done.stderr) == (0, "")
    planned = json.loads(done.stdout)
    found = scene.run("-k", "10")
    assert [region["region"] for region in planned["regions"]] == [
        "transformer",
        "attention",
        "mlp",
        "embedding",
        "all",
    ]
    (model,) = planned["models"]
    assert model == {
        "output": "out",
        "region": "transformer",
        "strategy": "top",
        "percent": 10,
        "region_elements": found["region_elements"],
        "selected_elements": found["selected_elements"],
    }
    for key in ("read_bytes", "written_bytes", "workers", "projected_bytes", "device"):
        assert planned[key] == found[key]
    assert set(planned["side_files"]) == {"config.json", *SIDE_FILES}
    written = sum(path.stat().st_size for path in scene.output.rglob("*") if path.is_file())
    assert written <= planned["disk_needed_bytes"] < planned["disk_free_bytes"]


def test_plan_says_what_cannot_be_paired_outside_the_region(scene: Scene) -> None:
    tensors = read_tensors(scene.target)
    tensors["lm_head.weight"] = ("BF16", (2, 3), bytes(12))
    write_shard(scene.target / SINGLE, tensors)
    done = scene.cli("--json", command="plan")
    unpaired = {
        region["region"]: region["unpaired"] for region in json.loads(done.stdout)["regions"]
    }
    assert unpaired["transformer"] == []
    assert [problem["name"] for problem in unpaired["embedding"]] == ["lm_head.weight"]


def test_demo_works_twice_and_makes_its_models_once(tmp_path: Path) -> None:
    first = run_cli("demo", "d", cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    models = snapshot(tmp_path / "d" / "base") | snapshot(tmp_path / "d" / "target")
    output = data_of(tmp_path / "d" / "restored")
    second = run_cli("demo", "d", cwd=tmp_path)
    assert (second.returncode, second.stderr) == (0, "")
    assert snapshot(tmp_path / "d" / "base") | snapshot(tmp_path / "d" / "target") == models
    assert data_of(tmp_path / "d" / "restored") == output
    assert "restored" in second.stdout
    assert "peak memory" in second.stdout
    shutil.rmtree(tmp_path / "d")


# Several percents -----------------------------------------------------------------------------


def test_several_percents_make_a_folder_each(scene: Scene) -> None:
    document = scene.run("-k", "1,5", "-k", "0.5")
    names = [f"restore_transformer_top_{percent}pct" for percent in ("1", "5", "0.5")]
    assert [run["outputs"] for run in document["runs"]] == [[f"out/{name}"] for name in names]
    counts = [run["selected_elements"] for run in document["runs"]]
    assert counts == [int(ELEMENTS * percent / 100) for percent in (1, 5, 0.5)]
    assert {path.name for path in scene.output.iterdir()} == set(names)
    for percent, name in zip(("1", "5", "0.5"), names, strict=True):
        alone = scene.root / f"alone{percent}"
        scene.run("-k", percent, "--output", alone)
        assert files(alone) == files(scene.output / name)
        assert data_of(alone) == data_of(scene.output / name)


def test_folders_are_named_after_region_strategy_and_percent(scene: Scene) -> None:
    scene.run("-k", "60,100", "--region", "mlp", "--strategy", "bottom")
    assert {path.name for path in scene.output.iterdir()} == {
        "restore_mlp_bottom_60pct",
        "restore_mlp_bottom_100pct",
    }


def test_percents_that_are_close_do_not_share_a_folder(scene: Scene) -> None:
    document = scene.run("-k", "33.3333333,33.3333334")
    assert len({run["outputs"][0] for run in document["runs"]}) == 2
    for run in document["runs"]:
        assert INDEX in files(scene.root / run["outputs"][0])


# Folders and links ----------------------------------------------------------------------------


def test_overwrite_leaves_no_stale_shard_or_index(scene: Scene) -> None:
    stale = scene.output / "model-00001-of-00009.safetensors"
    scene.output.mkdir()
    write_shard(stale, {"old": ("F32", (1,), bytes(4))})
    write_index(scene.output)
    write_shard(scene.output / SINGLE, {"old": ("F32", (1,), bytes(4))})
    (scene.output / "notes.txt").write_text("mine")
    done = scene.cli("--overwrite")
    assert done.returncode == 0
    assert re.search(r"out: notes.txt: no part of the new\s+model", done.stderr)
    assert set(data_of(scene.output)) == {*shard_names(scene.target), INDEX}
    assert (scene.output / "notes.txt").read_text() == "mine"


def test_overwriting_a_sharded_model_by_a_single_file_leaves_no_index(scene: Scene) -> None:
    scene.run()
    write_shard(scene.target / SINGLE, read_tensors(scene.target))  # counts before the index
    scene.run("--overwrite")
    assert set(data_of(scene.output)) == {SINGLE}


def test_links_in_the_output_are_replaced_never_written_through(scene: Scene) -> None:
    """The output folder was once filled by huggingface_hub: links into its cache."""
    blobs = scene.root / "cache" / "blobs"
    blobs.mkdir(parents=True)
    scene.output.mkdir()
    names = [*shard_names(scene.target), INDEX, "config.json", "shardrestore.json"]
    for name in names:
        (blobs / name).write_bytes(b"precious")
        (scene.output / name).symlink_to(f"../cache/blobs/{name}")
    before = snapshot(blobs)
    scene.run("--overwrite")
    assert snapshot(blobs) == before
    assert not any((scene.output / name).is_symlink() for name in names)


def test_a_linked_subfolder_of_the_output_is_not_written_through(scene: Scene) -> None:
    elsewhere = scene.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "extra.jinja").write_text("precious")
    scene.output.mkdir()
    (scene.output / "templates").symlink_to("../elsewhere")
    before = snapshot(elsewhere)
    done = scene.cli("--overwrite")
    assert "Traceback" not in done.stderr
    assert snapshot(elsewhere) == before
    if done.returncode == 0:
        assert not (scene.output / "templates").is_symlink()
        name = "templates/extra.jinja"
        assert (scene.output / name).read_bytes() == SIDE_FILES[name]
    else:
        assert done.stderr.startswith("error: ")
        assert not data_of(scene.output)


def test_shards_in_a_linked_subfolder_are_not_written_through_either(scene: Scene) -> None:
    weights = scene.target / "weights"
    weights.mkdir()
    document = json.loads((scene.target / INDEX).read_text())
    for name in shard_names(scene.target):
        (scene.target / name).rename(weights / name)
    places = {name: f"weights/{shard}" for name, shard in document["weight_map"].items()}
    (scene.target / INDEX).write_text(json.dumps({"weight_map": places}))
    elsewhere = scene.root / "elsewhere"
    elsewhere.mkdir()
    scene.output.mkdir()
    (scene.output / "weights").symlink_to("../elsewhere")
    done = scene.cli("--overwrite")
    assert done.returncode == 1
    assert done.stderr.startswith("error: out/weights: a symbolic link")
    assert list(elsewhere.iterdir()) == []
    (scene.output / "weights").unlink()
    scene.run("--overwrite")
    assert {f"weights/{path.name}" for path in weights.iterdir()} <= files(scene.output)


def test_a_folder_in_the_place_of_a_file_loses_nothing(scene: Scene) -> None:
    scene.run()
    (scene.output / "config.json").unlink()
    (scene.output / "config.json" / "deep").mkdir(parents=True)
    before = snapshot(scene.root)
    done = scene.cli("-k", "20", "--overwrite")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "config.json" in done.stderr
    assert snapshot(scene.root) == before


def hub_cache(folder: Path) -> Path:
    """Turn a checkpoint into a snapshot of the Hub's cache; return the snapshot."""
    repository = folder.with_name(f"models--acme--{folder.name}")
    snapshot_folder = repository / "snapshots" / ("0123456789" * 4)
    (repository / "blobs").mkdir(parents=True)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        link = snapshot_folder / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot_folder


def test_snapshots_of_the_hub_cache_are_read_and_regular_files_come_out(scene: Scene) -> None:
    expected = Scene.make(scene.root / "plain")
    expected.run()
    base, target = hub_cache(scene.base), hub_cache(scene.target)
    before = snapshot(base.parents[1]) | snapshot(target.parents[1])
    scene.run("--base", base, "--target", target)
    assert files(scene.output) == files(expected.output)
    assert data_of(scene.output) == data_of(expected.output)
    assert not any(path.is_symlink() for path in scene.output.rglob("*"))
    for name, content in SIDE_FILES.items():
        assert (scene.output / name).read_bytes() == content
    assert snapshot(base.parents[1]) | snapshot(target.parents[1]) == before


def test_an_output_that_links_to_an_empty_folder_is_filled(scene: Scene) -> None:
    (scene.root / "disk2").mkdir()
    scene.output.symlink_to("disk2")
    scene.run()
    assert scene.output.is_symlink()
    assert INDEX in files(scene.root / "disk2")


# The end: interrupted and killed -----------------------------------------------------------------


@pytest.mark.parametrize("stage", ["scan", "restore"])
def test_ctrl_c_exits_with_130_and_leaves_at_most_what_can_be_resumed(
    scene: Scene, stage: str
) -> None:
    make_large_pair(scene)
    before = {path: path.lstat() for path in scene.root.rglob("*")}
    milestone = scene.output / STAGING / (GROWING if stage == "restore" else "")
    status, stdout, stderr = stop_at(milestone, signal.SIGINT, lambda: start(scene))
    assert (status, stdout) == (130, "")
    assert "Traceback" not in stderr
    left = {
        path.relative_to(scene.root).parts[:2] for path in set(scene.root.rglob("*")) - {*before}
    }
    if stage == "restore":
        assert left == {("out",), ("out", STAGING)}
        assert stderr.startswith(
            "interrupted\nfinished work is kept; to continue:\n  shardrestore run"
        )
    else:
        assert left == set()
        assert stderr == "interrupted: no unfinished file was left behind\n"
    for path, status_before in before.items():
        if path.is_file():
            assert path.lstat().st_mtime_ns == status_before.st_mtime_ns


def test_ctrl_c_leaves_the_old_model_as_it_was(scene: Scene) -> None:
    scene.run()
    make_large_pair(scene)
    before = snapshot(scene.output)
    milestone = scene.output / STAGING / GROWING
    status, _, stderr = stop_at(
        milestone, signal.SIGINT, lambda: start(scene, "--overwrite", "-k", "20")
    )
    assert (status, "Traceback" in stderr) == (130, False)
    after = snapshot(scene.output)
    assert {name: seen for name, seen in after.items() if Path(name).parts[0] != STAGING} == before


def test_what_a_killed_run_leaves_behind_does_not_block_the_next(scene: Scene) -> None:
    milestone = scene.output / STAGING
    status, _, _ = stop_at(milestone, signal.SIGKILL, lambda: start(scene))
    assert status == -signal.SIGKILL
    assert os.listdir(scene.output) == [STAGING]
    (milestone / SINGLE).write_bytes(b"half a shard")
    scene.run()
    assert STAGING not in os.listdir(scene.output)
    assert set(data_of(scene.output)) == {*shard_names(scene.target), INDEX}


# A thin command line ---------------------------------------------------------------------------

RUN_OPTIONS: list[tuple[list[str], str, Any]] = [
    (["--region", "mlp"], "region", ["mlp"]),
    (["--include", "a", "--include", "b"], "include", ["a", "b"]),
    (["--exclude", "c"], "exclude", ["c"]),
    (["--rename", "x=y"], "rename", ["x=y"]),
    (["--strategy", "random"], "strategy", ["random"]),
    (["--seed", "7"], "seed", 7),
    (["--profile", "P"], "profile", "P"),
    (["--device", "cpu"], "device", "cpu"),
    (["--workers", "3"], "workers", 3),
    (["--max-memory", "1GiB"], "max_memory", "1GiB"),
    (["--max-device-memory", "2GiB"], "max_device_memory", "2GiB"),
    (["--approximate"], "approximate", True),
    (["--dtype", "fp16"], "dtype", "fp16"),
    (["--score", "absolute"], "score", "absolute"),
    (["--allow-nonfinite"], "allow_nonfinite", True),
    (["--overwrite"], "overwrite", True),
    (["--stream", "both"], "stream", "both"),
    (["--resume"], "resume", True),
    (["--checksum"], "checksum", True),
    (["--no-report"], "report", False),
]
RUN_DEFAULTS = {
    one.keyword: [one.default] if one.several and isinstance(one.default, str) else one.default
    for one in shardrestore.command_arguments("run")
    if one.in_python
}
"""What the option table says; a new option needs no line here."""


def call(
    monkeypatch: pytest.MonkeyPatch, function: str, args: list[str]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Run in this process with one function of the library replaced; return its arguments."""
    calls = []

    def record(*positional: object, **named: object) -> tuple[()]:
        calls.append((positional, named))
        raise shardrestore.RequestError("recorded")

    monkeypatch.setattr(shardrestore, function, record)
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 1, result.output
    assert len(calls) == 1
    return calls[0]


PATHS = ["--base", "B", "--target", "T", "--output", "O"]


@pytest.mark.parametrize("given", [False, True], ids=["defaults", "all_options"])
@pytest.mark.parametrize(
    ("percents", "function", "argument"),
    [
        ([], "restore", {"percent": 10.0}),
        (["-k", "2.5"], "restore", {"percent": 2.5}),
        (["-k", "1,3", "--percent", "5"], "sweep", {"percents": [1.0, 3.0, 5.0]}),
    ],
)
def test_run_is_one_call_into_the_library(
    monkeypatch: pytest.MonkeyPatch,
    given: bool,
    percents: list[str],
    function: str,
    argument: dict[str, object],
) -> None:
    args = [word for words, _, _ in RUN_OPTIONS for word in words] if given else []
    chosen = {name: value for _, name, value in RUN_OPTIONS} if given else {}
    positional, named = call(monkeypatch, function, ["run", *PATHS, *percents, *args])
    assert positional == ("B", "T", "O")
    assert type(named.pop("observer")).__name__ == "ProgressBars"
    assert named == RUN_DEFAULTS | chosen | argument


def test_several_regions_or_strategies_are_one_call_too(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ["--region", "mlp,all", "--strategy", "top", "--strategy", "bottom, random"]
    positional, named = call(monkeypatch, "sweep", ["run", *PATHS, *args])
    assert positional == ("B", "T", "O")
    assert named.pop("observer")
    chosen = {"region": ["mlp", "all"], "strategy": ["top", "bottom", "random"]}
    assert named == RUN_DEFAULTS | chosen | {"percents": [10.0]}


def test_several_targets_are_one_call_too(monkeypatch: pytest.MonkeyPatch) -> None:
    positional, named = call(monkeypatch, "sweep_targets", ["run", *PATHS, "--target", "U"])
    assert positional == ("B", ["T", "U"], "O")
    assert named.pop("observer")
    assert named == RUN_DEFAULTS | {"percents": [10.0]}


PUSH_OPTIONS: list[tuple[list[str], str, Any]] = [
    (["--public"], "public", True),
    (["--revision", "v1"], "revision", "v1"),
    (["--delete-after-upload"], "delete_after_upload", True),
]
PUSH_DEFAULTS = {"public": False, "revision": None, "delete_after_upload": False}


@pytest.mark.parametrize("given", [False, True], ids=["defaults", "all_options"])
def test_push_is_one_call_into_the_library(monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    args = [word for words, _, _ in PUSH_OPTIONS for word in words] if given else []
    expected = {name: value for _, name, value in PUSH_OPTIONS} if given else PUSH_DEFAULTS
    positional, named = call(monkeypatch, "push", ["push", "O", "acme/restored", *args])
    assert positional == ("O", "acme/restored")
    assert type(named.pop("observer")).__name__ == "ProgressBars"
    assert named == expected


def test_a_run_that_pushes_checks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ["run", *PATHS, "--push-to", "acme/restored", "--revision", "v1"]
    monkeypatch.setattr(shardrestore, "restore", None)  # it must not come so far
    positional, named = call(monkeypatch, "check_push", args)
    assert (positional, named) == (("acme/restored",), {"revision": "v1"})


@pytest.mark.parametrize("given", [False, True], ids=["defaults", "all_options"])
def test_plan_is_one_call_into_the_library(monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    args = [word for words, _, _ in RUN_OPTIONS for word in words] if given else []
    chosen = {name: value for _, name, value in RUN_OPTIONS} if given else {}
    positional, named = call(monkeypatch, "plan", ["plan", *PATHS, "-k", "1,3", *args])
    assert positional == ("B", "T", "O")
    models = {"percent": [1.0, 3.0], "delete_after_upload": False}
    assert named == RUN_DEFAULTS | chosen | models


def test_a_plan_of_a_push_checks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ["plan", *PATHS, "--push-to", "acme/restored", "--revision", "v1"]
    args += ["--delete-after-upload"]
    assert call(monkeypatch, "check_push", args) == (("acme/restored",), {"revision": "v1"})
    monkeypatch.setattr(shardrestore, "check_push", lambda *_, **__: None)
    assert call(monkeypatch, "plan", args)[1]["delete_after_upload"] is True


def test_a_plan_is_of_one_target() -> None:
    done = run_cli("plan", *PATHS, "--target", "T2")
    assert done.returncode == 2
    assert "plan one target at a time" in done.stderr


def test_every_promised_option_is_in_the_help() -> None:
    push = {words[0] for words, _, _ in PUSH_OPTIONS}
    plan = {words[0] for words, _, _ in RUN_OPTIONS} | push
    plan |= {"--base", "--target", "--output", "-k", "--percent", "--push-to", "--json"}
    run = plan | {"--quiet"}
    push |= {"--quiet", "--json"}
    for command, options in {"run": run, "plan": plan, "push": push, "demo": {"[DIR]"}}.items():
        done = run_cli(command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        words = set(re.findall(r"[\[\w\]-]+", done.stdout))
        assert options - words == set()
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_and_version_list_the_commands() -> None:
    done = run_cli("--help")
    for command in ("run", "plan", "report", "push", "demo"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)
    assert run_cli("--version").stdout == f"shardrestore {shardrestore.__version__}\n"


def test_the_command_line_takes_inline_flags_of_a_renaming(scene: Scene) -> None:
    edit(scene.base, lambda name, tensor: {name.replace("model.", "MoDeL.", 1): tensor})
    assert scene.run("--rename", r"(?i)^mOdEl\.=model.")["region_elements"] == 18_432


# What is imported ----------------------------------------------------------------------------

HEAVY = {"numpy", "torch", "numba", "huggingface_hub", "transformers", "safetensors", "tqdm"}


def test_the_table_is_reached_without_numpy() -> None:
    code = """
import sys
from shardrestore import Options, command_arguments, parse_size
print(sorted({"numpy", "numba", "torch", "huggingface_hub"} & set(sys.modules)))
import shardrestore.plan.memory
print(shardrestore.plan.__name__, callable(shardrestore.plan))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\nplan True\n"


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["run", "--resum"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "shardrestore_cli.main", *args],
        env=offline(),
        capture_output=True,
        check=False,
        text=True,
    )
    imported = {
        line.split("|")[-1].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "typer" in imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_a_run_needs_no_torch(tmp_path: Path, dtype: str) -> None:
    scene = Scene.make(tmp_path, dtype)
    blocked = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # importing either fails from here on
import shardrestore
shardrestore.restore("base", "target", "out", percent=10, dtype="bf16")
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "transformers")))
"""
    done = subprocess.run(
        [sys.executable, "-c", blocked],
        cwd=scene.root,
        env=offline(),
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.stderr, done.stdout) == ("", "['torch', 'transformers']\n")
