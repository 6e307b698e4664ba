"""``report`` is one call into the library, and says what it wrote."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import shardrestore
from shardrestore_cli.main import app


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            [],
            {
                "percents": None,
                "region": None,
                "strategy": None,
                "score": None,
                "max_memory": "512MiB",
                "png": False,
                "overwrite": False,
            },
        ),
        (
            [
                "-k",
                "1,3",
                "--region",
                "mlp",
                "--strategy",
                "bottom",
                "--score",
                "relative",
                "--max-memory",
                "1GiB",
                "--png",
                "--overwrite",
            ],
            {
                "percents": [1.0, 3.0],
                "region": ["mlp"],
                "strategy": ["bottom"],
                "score": "relative",
                "max_memory": "1GiB",
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
