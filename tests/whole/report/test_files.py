"""Reports stay tables whatever the names in them, and are known as reports afterwards."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import shardrestore
from tests.support import oracle
from tests.support.checkpoints import Layout, store, write_checkpoint

ODD = [
    "model.layers.0.mlp.up\tproj.weight",
    "model.layers.0.mlp.down\nproj.weight",
    "model.layers.1.mlp.gate\r\nproj.weight",
    "model.layers.1.mlp.\x00\x1b[31m\x7f.weight",
    "model.layers.2.mlp.\u2028\u2029\x85\x0b\x0c\x1c.weight",
    'model.layers.2.mlp."quoted" ünïcode 模型.weight',
    "model.layers.3.self_attn.q_proj.weight",
]


@pytest.mark.parametrize("shards", [0, 2])
def test_odd_names_leave_tables_rectangular(tmp_path: Path, shards: int) -> None:
    base = {name: store([1.0, 2.0, 3.0]) for name in ODD}
    target = {name: store([1.5, 2.0, 3.0]) for name in ODD}
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target, Layout(shards, 3))
    output = tmp_path / "output"
    result = shardrestore.restore(
        tmp_path / "base", tmp_path / "target", output, percent=100 / 3, max_memory="16GiB"
    )
    assert sorted(tensor.name for tensor in result.tensors) == sorted(ODD)
    for name, columns in (("diff_summary.tsv", 4), ("restore_stats.tsv", 5)):
        text = (output / name).read_bytes().decode()
        assert len(text.splitlines()) == len(ODD) + 1
        rows = list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
        assert {len(row) for row in rows} == {columns}
        cells = [row[0] for row in rows[1:]]
        assert len(set(cells)) == len(ODD)
        assert all(cell.isprintable() for cell in cells)
        assert {r"model.layers.0.mlp.up\tproj.weight", ODD[5], ODD[6]} <= set(cells)
        assert {row[1] for row in rows[1:]} == {"0", "1", "2", "3"}
    assert oracle.load(output) == base
    if shards:
        index = json.loads((output / "model.safetensors.index.json").read_text())
        assert sorted(index["weight_map"]) == sorted(ODD)
