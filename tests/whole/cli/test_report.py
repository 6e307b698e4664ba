"""``report`` says what it wrote, and keeps what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process.command import run_cli
from tests.support.scene import Scene

PROFILE = "p.profile.safetensors"


@pytest.fixture
def profile(scene: Scene) -> Path:
    done = scene.cli("--output", PROFILE, "--quiet", command="scan")
    assert done.returncode == 0, done.stderr
    return scene.root / PROFILE


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
