"""Every score of the table on the command line: run, profile, report, card and check.

That the weights are the right ones is the claim of the property tests, which draw their score.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import shardrestore
from shardrestore.scores import DEFAULT_SCORE, SCORES
from tests.support.oracle import expect, load
from tests.support.process.command import run_cli
from tests.support.runs import assert_same_tensors
from tests.support.scene import Scene

EACH_SCORE = pytest.mark.parametrize("score", SCORES)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.make(tmp_path)


@EACH_SCORE
def test_a_run_is_ranked_by_the_score_and_every_report_says_so(scene: Scene, score: str) -> None:
    plan = scene.cli("-k", "10", "--score", score, command="plan")
    assert plan.returncode == 0, plan.stderr
    document = scene.run("-k", "10", "--score", score)
    expected = expect(load(scene.base), load(scene.target), percent=10, score=score)
    assert_same_tensors(load(scene.output), expected.tensors)
    named = score if score != DEFAULT_SCORE else None  # as before there were several
    record = json.loads((scene.output / "shardrestore.json").read_text())
    assert (document.get("score"), record["options"].get("score")) == (named, named)
    summary = scene.cli("-k", "10", "--score", score, "--strategy", "random", "--output", "random")
    for text in (plan.stdout, summary.stdout):
        said = re.search(rf"^  score +{SCORES[score].label}, ", text, re.MULTILINE)
        assert (said is not None) == (named is not None)
    card = (scene.output / "README.md").read_text()
    assert f"| {SCORES[score].label} | ≥ " in card
    assert (f"--score {score}" in card) == (named is not None)
    page = (scene.output / "report.html").read_text()
    assert json.dumps(SCORES[score].definition)[1:-1] in page
    checked = run_cli("verify", "out", "--score", score, cwd=scene.root)
    assert checked.returncode == 0, checked.stderr
    assert f"{SCORES[score].label} {document['threshold']:.6g}" in checked.stdout


@EACH_SCORE
def test_a_profile_holds_its_score_and_gives_the_same_model(scene: Scene, score: str) -> None:
    scene.run("-k", "10", "--score", score)
    done = scene.cli("--output", "p.safetensors", "--score", score, "--quiet", command="scan")
    assert done.returncode == 0, done.stderr
    scene.run(*("-k", "10", "--score", score, "--profile", "p.safetensors", "--output", "profiled"))
    assert load(scene.root / "profiled") == load(scene.output)
    overview = shardrestore.show(scene.root / "p.safetensors")
    assert (overview.score, overview.score_label) == (score, SCORES[score].label)


def test_what_was_made_with_another_score_is_refused_by_name(scene: Scene) -> None:
    made, asked = "absolute", DEFAULT_SCORE
    scene.run("-k", "10", "--score", made)
    done = scene.cli("--output", "p.safetensors", "--score", made, "--quiet", command="scan")
    assert done.returncode == 0, done.stderr
    page = ["--output", "page.html"]
    for words in (
        ["show", "p.safetensors"],
        ["show", "out"],
        ["report", "p.safetensors", *page],
        ["report", "out", *page],
        ["verify", "out"],
    ):
        done = run_cli(*words, "--score", asked, cwd=scene.root)
        assert done.returncode == 1
        assert f"{words[1]}: was made with --score {made}, but {asked} is asked for" in done.stderr
    done = scene.cli("--output", "other", "--profile", "p.safetensors")  # the default score
    assert done.returncode == 1
    assert made in done.stderr
    assert asked in done.stderr
    assert not (scene.root / "other").exists()
