"""A job and its tasks can be pickled: workers may be processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardrestore.machine.executor import Executor
from shardrestore.machine.serial import SerialExecutor
from shardrestore.machine.stopwatch import Stopwatch
from shardrestore.machine.threads import ThreadExecutor
from shardrestore.request import make_request
from shardrestore.runs.runner import run
from shardrestore.runs.session import Session
from tests.support.checkpoints import Layout, read_tree, store, write_checkpoint
from tests.support.processes import ProcessExecutor

NAMES = {
    "model.layers.0.self_attn.q_proj.weight": "F32",
    "model.layers.0.mlp.down_proj.weight": "BF16",
    "model.layers.1.mlp.up_proj.weight": "F32",
    "model.embed_tokens.weight": "F32",
}
WORKERS = 2


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(WORKERS) as executor:
        yield executor


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float32 and bfloat16 weights, a tied head, tensors outside the region; several shards."""
    folder, random = tmp_path_factory.mktemp("pair"), np.random.default_rng(0)
    base, target = {}, {}
    for name, dtype in NAMES.items():
        values = random.normal(0, 0.02, (40, 50)).astype(np.float32)
        changes = random.normal(0, 1e-3, (40, 50)).astype(np.float32)
        base[name], target[name] = store(values, dtype), store(values + changes, dtype)
    base["lm_head.weight"] = base["model.embed_tokens.weight"]
    target["lm_head.weight"] = target["model.embed_tokens.weight"]
    target["rotary.inv_freq"] = store(random.normal(0, 1, 32).astype(np.float32))
    write_checkpoint(folder / "base", base, Layout(2, 1))
    side_files = {"config.json": b'{"tie_word_embeddings": true}'}
    write_checkpoint(folder / "target", target, Layout(3, 2), side_files)
    return folder


def restore(
    pair: Path, output: Path, executor: Executor, options: dict[str, Any]
) -> dict[str, Any]:
    """Write models with an executor; return every file of them."""
    means = {"device": "cpu", "workers": WORKERS, "max_memory": "16GiB", "report": False}
    request = make_request([3, 40], {"strategy": ["top", "random"], **means, **options})
    with Session(pair / "base", pair / "target", request) as session:
        run(
            session,
            [output / name for name in request.names],
            None,
            Stopwatch(),
            executor=executor,
        )
    return read_tree(output)


@pytest.mark.parametrize("dtype", ["auto", "bf16"])
@pytest.mark.parametrize("region", ["all", "mlp"])
def test_workers_in_processes_of_their_own_write_the_same_bytes(
    pair: Path, tmp_path: Path, processes: ProcessExecutor, dtype: str, region: str
) -> None:
    options = {"dtype": dtype, "region": region, "checksum": True}
    on_threads = restore(pair, tmp_path / "threads", ThreadExecutor(), options)
    assert restore(pair, tmp_path / "processes", processes, options) == on_threads
    assert restore(pair, tmp_path / "serial", SerialExecutor(), options) == on_threads
    assert len(processes.processes) == WORKERS
    assert not processes.torch_imported
