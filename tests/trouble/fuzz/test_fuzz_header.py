"""The fuzz target itself: it runs where atheris is not, and it would notice a difference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shardrestore.errors import CheckpointError
from tests.trouble.fuzz import fuzz_header

SCRIPT = Path(fuzz_header.__file__)


def test_it_runs_without_atheris() -> None:
    options = ["--without-atheris", "-max_total_time=0.5", "-seed=1"]
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no difference" in done.stdout


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CheckpointError("f: no"), AssertionError),  # a file that safetensors accepts
        (CheckpointError("f: \x1b"), AssertionError),
        (CheckpointError("f: " + "x" * 1000), AssertionError),
        (RecursionError(), RecursionError),
    ],
)
def test_it_notices_what_must_not_be(
    error: Exception,
    expected: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(fuzz_header, "parse_header", refuse)
    with pytest.raises(expected):
        fuzz_header.fuzz_by_mutation(5, 1, tmp_path)
