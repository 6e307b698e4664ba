"""What ``show`` and ``scan`` print: the same figures, in tables that fit, or one message."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shardrestore
from shardrestore_cli.distribution import describe_distribution, format_score
from shardrestore_cli.show import describe
from tests.support.process.command import offline, run_cli
from tests.support.scene import Scene, shard_names, snapshot

PROFILE = "p.profile.safetensors"
ELEMENTS = 18_432  # of the tiny pair's blocks


def scan(scene: Scene, *args: str) -> subprocess.CompletedProcess[str]:
    return scene.cli("--output", PROFILE, "--overwrite", *args, command="scan")


def show(scene: Scene, *args: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return run_cli("show", *args, **{"cwd": scene.root} | options)


@pytest.fixture
def profile(scene: Scene) -> Path:
    """A profile of the tiny pair."""
    done = scan(scene, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return scene.root / PROFILE


def shown(scene: Scene, *args: str | Path) -> str:
    """Show, which must succeed; return the text with single spaces."""
    done = show(scene, *args)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and "/" not in line] == []
    return re.sub(r" +", " ", done.stdout)


# scan -----------------------------------------------------------------------------------------


def test_scan_prints_the_distribution_within_80_columns(scene: Scene) -> None:
    done = scan(scene)
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(r" +", " ", done.stdout)
    for part in (
        "scored 24,736 elements of 21 tensors",
        "region elements mean p50 p90 p99 max un- zero",
        "transformer 18.4 k",
        "embedding 6,144",
        "kind elements",
        "norm 160",
        "layer elements",
        "outside 6,176",
    ):
        assert part in text
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and "/" not in line] == []


def test_scan_gives_the_distribution_as_json(scene: Scene) -> None:
    done = scan(scene, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert [group["label"] for group in document["regions"]] == [
        "transformer",
        "attention",
        "mlp",
        "embedding",
        "all",
    ]
    assert [group["label"] for group in document["layers"]] == ["0", "1", "outside"]
    for group in (*document["regions"], *document["kinds"], *document["layers"]):
        assert 0 < group["mean_score"] <= group["max_score"]
        assert list(group["quantiles"].values()) == sorted(group["quantiles"].values())
        assert 0 <= group["unchanged_share"] < 1
        assert 0 <= group["zero_base_share"] < 1
    assert (document["cuts"], document["tensors"][0]["restored"]) == ([], [])


# show -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["top", "bottom"])
def test_a_profile_shows_what_runs_then_do(scene: Scene, profile: Path, strategy: str) -> None:
    asked = ["-k", "1,10", "-k", "50", "--region", "mlp", "--strategy", strategy]
    before = snapshot(scene.root)
    done = show(scene, PROFILE, *asked, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(scene.root) == before
    document = json.loads(done.stdout)
    runs = scene.run(*asked)["runs"]
    assert len(runs) == len(document["cuts"]) == 3
    for number, (cut, run) in enumerate(zip(document["cuts"], runs, strict=True)):
        for key in ("region", "strategy", "percent", "region_elements", "selected_elements"):
            assert cut[key] == run[key]
        assert (cut["threshold"], cut["exact"]) == (run["threshold"], True)
        table = (scene.root / run["outputs"][0] / "restore_stats.tsv").read_text()
        restored = {
            cells[0]: int(cells[2]) for cells in map(str.split, table.splitlines()[1:])
        }  # no layer is empty, so no cell is
        assert restored == {
            tensor["name"]: tensor["restored"][number]
            for tensor in document["tensors"]
            if tensor["restored"][number] is not None
        }


def test_a_profile_shows_tables_of_layers_by_kinds(scene: Scene, profile: Path) -> None:
    text = shown(scene, PROFILE, "-k", "10,20")
    for part in (
        f"profile {PROFILE}",
        "scored 24,736 elements of 21 tensors",
        "mean relative change\n\n layer attention mlp norm embedding all\n 0 0.",
        "restored: most changed 10 % of transformer\n 1,843 of 18,432 elements\n relative change ≥",
        "restored: most changed 20 % of transformer\n 3,686 of 18,432 elements\n relative change ≥",
        "\n outside ",
    ):
        assert part in text
    assert len(re.findall(r"\n layer attention mlp all\n", text)) == 2
    assert len(re.findall(r"\n all .* 10\.00 %\n", text)) == 1
    assert text == shown(scene, PROFILE, "-k", "10", "--percent", "20", "--region", "transformer")


def test_ten_percent_of_the_blocks_most_changed_is_what_is_shown_unasked(
    scene: Scene, profile: Path
) -> None:
    text = shown(scene, PROFILE)
    assert text == shown(scene, PROFILE, "-k", "10", "--region", "transformer", "--strategy", "top")


def test_several_regions_and_strategies_are_shown_at_once(scene: Scene, profile: Path) -> None:
    text = shown(scene, PROFILE, "--region", "mlp,attention", "--strategy", "top,bottom")
    assert re.findall(r"restored: (.*)", text) == [
        "most changed 10 % of mlp",
        "least changed 10 % of mlp",
        "most changed 10 % of attention",
        "least changed 10 % of attention",
    ]


@pytest.mark.parametrize("strategy", ["top", "random"])
def test_a_finished_model_shows_its_own_cut(scene: Scene, strategy: str) -> None:
    scene.run("-k", "7.3", "--strategy", strategy)
    text = shown(scene, "out")
    chosen = {"top": "most changed", "random": "random"}[strategy]
    assert "model out\n" in text
    assert f"restored: {chosen} 7.3 % of transformer\n 1,345 of 18,432 elements" in text
    assert ("relative change ≥" in text) == (strategy == "top")
    done = show(scene, "out", "--json")
    assert json.loads(done.stdout)["cuts"][0]["selected_elements"] == 1345


def test_float32_scores_are_said_to_be_approximate(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path, "F32")
    assert scan(scene).returncode == 0
    assert re.search(r"relative change ≥ [\d.]+ \(approximate\)", shown(scene, PROFILE))


# Terminals ------------------------------------------------------------------------------------


def test_a_narrow_terminal_changes_nothing(scene: Scene, profile: Path) -> None:
    wide, narrow = (show(scene, PROFILE, env=offline(COLUMNS=width)) for width in ("80", "20"))
    assert (narrow.returncode, narrow.stderr, narrow.stdout) == (0, "", wide.stdout)


def test_a_terminal_without_such_letters_gets_others(scene: Scene, profile: Path) -> None:
    done = show(scene, PROFILE, env=offline(PYTHONIOENCODING="latin-1"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "relative change ? 0." in done.stdout


@pytest.mark.parametrize("args", [[], ["--json"]], ids=["text", "json"])
def test_a_reader_that_goes_away_is_no_error(scene: Scene, profile: Path, args: list[str]) -> None:
    """As in ``shardrestore show F | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = show(scene, PROFILE, *args, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_of_every_tower_and_kind_fits_80_columns(scene: Scene, profile: Path) -> None:
    """Labels and figures as wide as they get; no row is wider than its table."""
    overview = shardrestore.show(profile, percents=[0.123456], region="all")
    widest = {"mean_score": 0.01234, "max_score": 123456.0}
    groups = tuple(
        dataclasses.replace(
            group,
            label=label,
            elements=999_940_000_000,
            quantiles=dict.fromkeys(group.quantiles, 1.2e-5),
            unchanged_share=1.0,
            zero_base_share=1e-7,
            **widest,
        )
        for group, label in zip(
            overview.regions, ["transformer", "projector 12", "vision 127", "outside", "7"],
            strict=True,
        )
    )  # fmt: skip
    cell = dataclasses.replace(overview.cells[0], mean_score=0.01234, ranked=(9,), restored=(9,))
    cells = tuple(
        dataclasses.replace(cell, tower=tower, layer=layer, kind=kind)
        for tower, layer in (("language", 126), ("vision", 127), ("projector", 12))
        for kind in ("attention", "mlp", "norm", "embedding", "other")
    )
    (cut,) = overview.cuts
    figures = dataclasses.replace(cut.figures, region_elements=671_026_404_352, exact=False)
    cuts = (dataclasses.replace(cut, figures=figures),)
    large = dataclasses.replace(
        overview, source=Path("p"), inputs={}, elements=671_026_404_352, regions=groups,
        kinds=groups, layers=groups, cells=cells, cuts=cuts, nonfinite=671_026_404_352,
        unpaired=dict.fromkeys(map(str, range(46_000)), "no"),
    )  # fmt: skip
    for text in (describe_distribution(large), describe(large)):
        assert "projector 12" in text
        assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.0, "0"),
        (0.0123456, "0.0123"),
        (0.123456, "0.123"),
        (0.01, "0.01"),
        (0.00999, "0.01"),
        (0.00123, "0.0012"),
        (0.000999, "1.0e-3"),
        (1.2e-5, "1.2e-5"),
        (1.0, "1"),
        (999.4, "999"),
        (999.6, "1.0e3"),
        (1234567.0, "1.2e6"),
        (9.96e9, "1.0e10"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_scores_are_short(score: float, text: str) -> None:
    assert format_score(score) == text
    assert len(text) <= 6


# What cannot be shown ---------------------------------------------------------------------------


def refused(scene: Scene, *args: str | Path, status: int = 1) -> str:
    """Show, which must fail with one message; return it."""
    before = snapshot(scene.root)
    done = show(scene, *args)
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr
    if status == 1:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    assert snapshot(scene.root) == before
    return done.stderr


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, -1], ids=str)
def test_a_truncated_profile_is_refused(scene: Scene, profile: Path, keep: float) -> None:
    content = profile.read_bytes()
    length = int(len(content) * keep) if isinstance(keep, float) else keep
    profile.write_bytes(content[:length])
    assert PROFILE in refused(scene, PROFILE)


@pytest.mark.parametrize("at", [0.1, 0.5, 0.999])
def test_a_profile_with_an_edited_byte_is_refused(scene: Scene, profile: Path, at: float) -> None:
    content = bytearray(profile.read_bytes())
    content[int(len(content) * at)] ^= 1
    profile.write_bytes(content)
    message = refused(scene, PROFILE)
    assert "scan again" in message or "safetensors" in message


def test_a_shard_of_a_model_is_no_profile(scene: Scene) -> None:
    message = refused(scene, scene.target / shard_names(scene.target)[0])
    assert "a safetensors file, but no profile" in message


def test_a_folder_that_is_no_finished_model_is_refused(scene: Scene) -> None:
    assert "no shardrestore.json in it" in refused(scene, "base")


def test_a_sweep_is_refused_with_a_model_to_name(scene: Scene) -> None:
    scene.run("-k", "1,5")
    assert "restore_transformer_top_1pct" in refused(scene, "out")


def test_a_path_that_is_not_there_is_refused(scene: Scene) -> None:
    assert "nowhere: no such file or folder" in refused(scene, "nowhere")
    assert "empty" in refused(scene, "")


def test_a_finished_model_answers_for_no_other_cut(scene: Scene) -> None:
    scene.run()
    for option, value in (("-k", "10"), ("--region", "mlp"), ("--strategy", "top")):
        assert "its own cut only" in refused(scene, "out", option, value)


def test_a_finished_model_without_a_report_is_refused(scene: Scene) -> None:
    scene.run()
    (scene.output / "diff_summary.tsv").unlink()
    assert "diff_summary.tsv" in refused(scene, "out")


def test_random_weights_are_not_in_a_profile(scene: Scene, profile: Path) -> None:
    assert "choose top or bottom" in refused(scene, PROFILE, "--strategy", "random")


@pytest.mark.parametrize(
    "args", [["-k", "x"], ["--region", "heads"], ["--strategy", "best"]], ids=str
)
def test_wrong_usage_is_told_before_anything_is_opened(scene: Scene, args: list[str]) -> None:
    assert args[1] in refused(scene, "nowhere", *args, status=2)


def test_a_copied_profile_shows_without_its_models(scene: Scene, profile: Path) -> None:
    wanted = shown(scene, PROFILE)
    for side in (scene.base, scene.target):
        shutil.rmtree(side)
    assert shown(scene, PROFILE) == wanted


def test_showing_needs_no_kernels(scene: Scene, profile: Path) -> None:
    """It starts at once: numba is not even imported."""
    program = f"""
import sys
import shardrestore
shardrestore.show({PROFILE!r})
print([name for name in ("numba", "torch") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=scene.root, env=offline(), capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert (done.stderr, done.stdout) == ("", "[]\n")
