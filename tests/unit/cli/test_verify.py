"""``shardrestore verify`` as a command: what it passes on, what it prints, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

import shardrestore
from shardrestore.verification.result import Verification
from shardrestore_cli.verify import verify

GOOD: dict[str, Any] = {
    "output": Path("out"),
    "score": "relative",
    "problems": (),
    "differing_elements": 0,
    "region_elements": 1200,
    "selected_elements": 480,
    "threshold": 0.5,
    "ties": 330,
    "ties_taken": 100,
    "tensors": 5,
    "compared_bytes": 3520,
    "hashed_input_bytes": None,
    "seconds": 0.25,
    "peak_rss_bytes": 160 << 20,
}
PROBLEMS = ("out/model.safetensors: tensor q: element 7 is 0x0001", "and 3 more problems")
BAD = GOOD | {"problems": PROBLEMS, "differing_elements": 4}

Command = Callable[..., tuple[Result, dict[str, Any]]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return what runs the command with a given outcome; it returns its keyword arguments too."""

    def run(outcome: dict[str, Any], *args: str) -> tuple[Result, dict[str, Any]]:
        seen: dict[str, Any] = {}

        def stand_in(output: str, **options: Any) -> Verification:
            seen.update(options, output=output)
            return Verification(**outcome)

        monkeypatch.setattr(shardrestore, "verify", stand_in, raising=False)
        app = typer.Typer()
        app.command()(verify)
        return CliRunner().invoke(app, ["out", *args]), seen

    return run


def test_options_are_passed_on_as_they_are(command: Command) -> None:
    _, seen = command(GOOD)
    del seen["observer"]
    assert seen == {
        "output": "out",
        "base": None,
        "target": None,
        "score": None,
        "inputs": False,
        "workers": None,
        "max_memory": "512MiB",
        "stream": None,
        "follow_links": False,
    }
    _, seen = command(
        GOOD,
        *("--base", "b", "--target", "t", "--score", "relative"),
        *("--workers", "3", "--max-memory", "1GiB"),
    )
    del seen["observer"]
    assert seen == {
        "output": "out",
        "base": "b",
        "target": "t",
        "score": "relative",
        "inputs": False,
        "workers": 3,
        "max_memory": "1GiB",
        "stream": None,
        "follow_links": False,
    }


def test_a_good_model_is_told_in_few_lines(command: Command) -> None:
    done, _ = command(GOOD)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("verified: exactly 480 of 1,200 elements restored")
    assert "330 at the cut, 100 of them restored" in done.stdout


def test_problems_go_to_stderr_and_the_status_is_1(command: Command) -> None:
    done, _ = command(BAD)
    assert done.exit_code == 1
    assert done.stderr == "".join(f"error: {problem}\n" for problem in PROBLEMS)
    assert done.stdout.startswith("NOT verified: ")
    assert "wrong elements: 4" in done.stdout


def test_json_is_one_document_whatever_was_found(command: Command) -> None:
    for outcome, status in ((GOOD, 0), (BAD, 1)):
        done, _ = command(outcome, "--json")
        document = json.loads(done.stdout)
        expected = outcome | {"problems": list(outcome["problems"]), "ok": not status}
        del expected["score"], expected["hashed_input_bytes"]  # the defaults are not named
        assert (done.exit_code, document) == (status, expected | {"output": "out"})


def test_quiet_prints_problems_alone(command: Command) -> None:
    assert command(GOOD, "--quiet")[0].output == ""
    done, _ = command(BAD, "--quiet")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr
