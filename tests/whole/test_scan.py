"""Weights that the output's format cannot hold are found by the scan, before any is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardrestore
from shardrestore import NonFiniteError
from tests.support import oracle
from tests.support.checkpoints import Layout, store, write_checkpoint
from tests.support.scene import snapshot

BUDGET = "16GiB"
Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("layout", [Layout(0, 0), Layout(2, 1)])
def test_a_base_too_large_for_the_targets_format_is_refused_unless_allowed(
    tmp_path: Path, layout: Layout
) -> None:
    base = np.linspace(1, 2, 200).astype(np.float32)
    base[:3] = 1e5, -1e5, 65519.99  # the last rounds to 65504
    write_checkpoint(tmp_path / "base", {Q: store(base), UP: store(np.ones(9))}, layout)
    target = {Q: store(np.ones(200), "F16"), UP: store(np.ones(9), "F16")}
    write_checkpoint(tmp_path / "target", target, layout)
    sides = tmp_path / "base", tmp_path / "target"
    before = snapshot(tmp_path)
    with pytest.raises(NonFiniteError) as error:
        shardrestore.restore(*sides, tmp_path / "out", percent=10, max_memory=BUDGET)
    message = str(error.value)
    assert "2 weights of 1 tensors of the region are too large for the output's format" in message
    assert f"{Q}: 2\n" in message
    assert "--exclude" in message
    assert "--allow-nonfinite (they then become infinite)" in message
    assert snapshot(tmp_path) == before

    result = shardrestore.restore(
        *sides, tmp_path / "out", percent=10, max_memory=BUDGET, allow_nonfinite=True
    )
    assert (result.selected_elements, result.figures.changes.nonfinite) == (20, 0)
    written = np.frombuffer(oracle.load(result.output)[Q].data, np.float16)
    assert list(written[:3]) == [np.inf, -np.inf, 65504]
    assert np.isfinite(written[2:]).all()


@pytest.mark.parametrize("options", [{"dtype": "fp32"}, {"dtype": "bf16"}, {"exclude": ["q_proj"]}])
def test_the_other_advice_on_weights_too_large_works(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    write_checkpoint(tmp_path / "base", {Q: store([1e5] * 9), UP: store([1.0] * 9)})
    target = {Q: store([1.0] * 9, "F16"), UP: store([2.0] * 9, "F16")}
    write_checkpoint(tmp_path / "target", target)
    shardrestore.restore(
        tmp_path / "base", tmp_path / "target", tmp_path / "out",
        percent=100, max_memory=BUDGET, **options,
    )  # fmt: skip
    assert len(oracle.load(tmp_path / "out")) == 2
