"""``report`` is one call into the library, and says what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import shardrestore
from shardrestore_cli.main import app
from tests.support.process.command import run_cli
from tests.support.scene import Scene

PROFILE = "p.profile.safetensors"


@pytest.fixture
def profile(scene: Scene) -> Path:
    done = scene.cli("--output", PROFILE, "--quiet", command="scan")
    assert done.returncode == 0, done.stderr
    return scene.root / PROFILE


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            [],
            {"percents": None, "region": None, "strategy": None, "png": False, "overwrite": False},
        ),
        (
            ["-k", "1,3", "--region", "mlp", "--strategy", "bottom", "--png", "--overwrite"],
            {
                "percents": [1.0, 3.0],
                "region": ["mlp"],
                "strategy": ["bottom"],
                "png": True,
                "overwrite": True,
            },
        ),
    ],
    ids=["defaults", "all options"],
)
def test_report_is_one_call_into_the_library(
    monkeypatch: pytest.MonkeyPatch, args: list[str], expected: dict[str, object]
) -> None:
    calls: list[object] = []

    def record(*positional: object, **named: object) -> tuple[()]:
        calls.append((positional, named))
        raise shardrestore.RequestError("recorded")

    monkeypatch.setattr(shardrestore, "write_report", record)
    result = CliRunner().invoke(app, ["report", "P", "--output", "O.html", *args])
    assert result.exit_code == 1, result.output
    assert calls == [(("P", "O.html"), expected)]


def test_report_prints_each_file_with_its_size(scene: Scene, profile: Path) -> None:
    done = run_cli("report", profile, "--png", cwd=scene.root)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    names = ["report.html", "report.distribution.png", "report.layers.png"]
    assert [line[0] for line in lines] == names
    assert [line[-1] for line in lines] == ["kB", "kB", "kB"]
    assert all((scene.root / name).is_file() for name in names)


def test_a_report_that_is_there_is_kept(scene: Scene, profile: Path) -> None:
    (scene.root / "report.html").write_text("mine")
    done = run_cli("report", profile, cwd=scene.root)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: report.html: exists: choose another --output, or pass --overwrite\n"
    )
    assert (scene.root / "report.html").read_text() == "mine"
