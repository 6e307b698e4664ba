"""What must not be missed is in every place in which a user may look."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardrestore
from shardrestore.notes import Note
from shardrestore_cli import plan as plan_command
from shardrestore_cli import show as show_command
from shardrestore_cli import summary
from tests.support.checkpoints import store, write_checkpoint

NAMES = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight")


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.02, (16, 16)) for name in NAMES}
    for role, change in (("base", 0.0), ("target", 0.05)):
        tensors = {
            name: store(one * (1 + change * rng.normal(size=one.shape)), "BF16")
            for name, one in weights.items()
        }
        write_checkpoint(tmp_path / role, tensors)
    return tmp_path / "base", tmp_path / "target"


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every pairing has a note that names its region."""
    from shardrestore.pairing.matching import match

    def match_with_note(base: Any, target: Any, admitted: Any, *more: Any) -> Any:
        note = Note(kind="trial", text=f"region {admitted.region} <b>is</b> one of a trial.")
        return replace(match(base, target, admitted, *more), notes=(note,))

    monkeypatch.setattr(import_module("shardrestore.plan.work"), "match", match_with_note)
    return monkeypatch


def expected(region: str) -> tuple[Note, ...]:
    return (Note(kind="trial", text=f"region {region} <b>is</b> one of a trial."),)


def test_a_note_is_in_the_plan_the_result_the_record_the_page_and_the_card(
    sides: tuple[Path, Path], noted: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    (note,) = expected("transformer")
    listed = [{"kind": "trial", "text": note.text}]
    planned = shardrestore.plan(*sides, output)
    result = shardrestore.restore(*sides, output)
    shown = shardrestore.show(output)
    assert planned.notes == result.notes == shown.notes == (note,)
    for document in (planned, result, shown):
        assert shardrestore.summarize(document)["notes"] == listed
    assert json.loads((output / "shardrestore.json").read_bytes())["notes"] == listed
    assert note.text in (output / "README.md").read_text()
    assert '"notes":["region transformer \\u003cb>' in (output / "report.html").read_text()
    printed = (
        plan_command.describe(planned),
        summary.describe_notes([result]),
        show_command.describe(shown),
    )
    assert all(text.split("\n")[-1] == f"NOTE: {note.text}" for text in printed)


def test_a_model_that_is_finished_already_still_has_its_notes(
    sides: tuple[Path, Path], noted: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shardrestore.restore(*sides, tmp_path / "output")
    noted.undo()
    again = shardrestore.restore(*sides, tmp_path / "output", resume=True)
    assert again.notes == expected("transformer")


def test_each_model_of_a_sweep_has_its_own_notes(
    sides: tuple[Path, Path], noted: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    regions = ["transformer", "embedding"]
    results = shardrestore.sweep(*sides, tmp_path / "output", percents=[10], region=regions)
    assert [result.notes for result in results] == [expected(region) for region in regions]
    assert summary.describe_notes(results).replace("\n  ", " ").split("\n") == [
        f"NOTE (restore_{region}_top_10pct): {expected(region)[0].text}" for region in regions
    ]


def test_without_anything_to_note_nothing_is_said(sides: tuple[Path, Path], tmp_path: Path) -> None:
    result = shardrestore.restore(*sides, tmp_path / "output")
    assert result.notes == ()
    assert summary.describe_notes([result]) == ""
    assert "## Notes" not in (tmp_path / "output" / "README.md").read_text()
