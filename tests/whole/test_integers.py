"""Integers that both sides hold alike are no weights: they pass through, and a note says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import shardrestore
from tests.support.checkpoints import store, write_checkpoint
from tests.support.oracle import Stored, load

UP = "model.layers.0.mlp.up_proj.weight"
TABLE = "model.layers.0.ple.multipliers"
rng = np.random.default_rng(0)
WEIGHTS = rng.normal(0, 0.02, (20, 20))


def integers(kind: str, count: int = 50_000, last: int = 0) -> Stored:
    types = {"I64": np.int64, "I32": np.int32, "U8": np.uint8, "BOOL": np.uint8}
    values = np.arange(count) % 2
    values[-1] = last
    return Stored(kind, (count,), values.astype(types[kind]).tobytes())


def write(folder: Path, base: Stored, target: Stored) -> tuple[Path, Path]:
    write_checkpoint(folder / "base", {UP: store(WEIGHTS, "BF16"), TABLE: base})
    write_checkpoint(folder / "target", {UP: store(WEIGHTS * 1.05, "BF16"), TABLE: target})
    return folder / "base", folder / "target"


@pytest.mark.parametrize("kind", ["I64", "I32", "U8", "BOOL"])
@pytest.mark.parametrize("region", ["transformer", "all"])
def test_integers_that_both_sides_hold_pass_through(tmp_path: Path, kind: str, region: str) -> None:
    sides = write(tmp_path, integers(kind), integers(kind))
    result = shardrestore.restore(*sides, tmp_path / "out", percent=100, region=region)
    assert result.region_elements == 400
    (note,) = result.notes
    assert (note.kind, TABLE in note.text) == ("integers", True)
    assert load(tmp_path / "out")[TABLE] == integers(kind)
    assert shardrestore.verify(tmp_path / "out").ok


@pytest.mark.parametrize(
    ("base", "target"),
    [
        (integers("I64"), integers("I64", last=1)),
        (integers("I64"), integers("I32")),
        (integers("I64"), integers("I64", count=49_999)),
    ],
    ids=["another value", "another format", "another shape"],
)
def test_other_integers_are_refused(tmp_path: Path, base: Stored, target: Stored) -> None:
    sides = write(tmp_path, base, target)
    with pytest.raises(shardrestore.PairingError, match=f"{TABLE}: I"):
        shardrestore.plan(*sides)
