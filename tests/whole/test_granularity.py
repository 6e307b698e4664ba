"""The sizes and kernels that a request names are those that its work is done with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardrestore.errors import ProfileError
from shardrestore.kernels import cpu, reference
from shardrestore.plan.tasks import CopyTask, plan_tasks
from shardrestore.request import make_request
from shardrestore.runs.session import Session
from tests.support.checkpoints import Layout, Stored, store, write_checkpoint
from tests.support.library import Library, cut_into
from tests.support.modules import build
from tests.support.runs import BUDGET, scratch

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"
SEGMENT, CHUNK, BLOCK, COPY = 61, 16, 96, 40
FINE = cut_into(SEGMENT, CHUNK, BLOCK, COPY)
MEANS: dict[str, Any] = {"max_memory": BUDGET, "device": "cpu", "workers": 1}

Task = Callable[[Library, Path], object]


def tensors(seed: int) -> dict[str, Stored]:
    values = np.random.default_rng(seed).normal(0, 0.02, (2, 400))
    return {Q: store(values[0], "BF16"), UP: store(values[1], "F32")}


@pytest.fixture(scope="module")
def pair() -> Iterator[Path]:
    with scratch() as folder:
        write_checkpoint(folder / "base", tensors(0))
        extra = {"model.embeddings.position_ids": Stored("I64", (40,), bytes(320))}
        write_checkpoint(folder / "target", tensors(1) | extra, Layout(2, 7))
        yield folder


def restore(library: Library, pair: Path, output: str = "out", **options: Any) -> None:
    sides = pair / "base", pair / "target"
    library.restore(*sides, pair / output, report=False, overwrite=True, **MEANS, **options)


def draw(library: Library, pair: Path) -> None:
    restore(library, pair, strategy="random")


def cast(library: Library, pair: Path) -> None:
    restore(library, pair, dtype="fp16", region="mlp")


def scan(library: Library, pair: Path) -> None:
    library.scan(pair / "base", pair / "target", pair / "profile", overwrite=True, **MEANS)


def verify(library: Library, pair: Path) -> None:
    assert library.verify(pair / "made", max_memory_bytes=16 << 30, workers=1).ok


def edit(library: Library, pair: Path) -> None:
    library.restore_module(build(tensors(1)), pair / "base", workers=1)


TASKS = [restore, draw, cast, scan, verify, edit]


@pytest.fixture(scope="module")
def made(pair: Path) -> Path:
    restore(Library(FINE), pair, "made")
    return pair


def test_work_is_planned_in_the_pieces_that_are_asked_for(made: Path) -> None:
    request = replace(make_request([10], {"region": "mlp", **MEANS}), granularity=FINE)
    with Session(made / "base", made / "target", request) as session:
        work = session.work
        tasks = plan_tasks(session.target, work.shards, work.segments, FINE, workers=1)
    assert [segment.elements for segment in work.segments] == [SEGMENT] * 6 + [400 - 6 * SEGMENT]
    assert [segment.start for segment in work.segments] == [*range(0, 400, SEGMENT)]
    copies = [task.nbytes for task in tasks if isinstance(task, CopyTask)]
    assert sum(copies) == 400 * 2 + 40 * 8
    assert set(copies) == {COPY}
    assert work.sizing.block_bytes == BLOCK


@pytest.mark.parametrize("kernel_set", ["cpu", "reference"])
@pytest.mark.parametrize("task", TASKS)
def test_chunks_go_through_the_kernels_that_are_named(
    made: Path, monkeypatch: pytest.MonkeyPatch, task: Task, kernel_set: str
) -> None:
    seen: dict[str, list[int]] = {"cpu": [], "reference": []}

    def spy(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any) -> Any:
            seen[name].append(arguments[-1].size)
            return kernel(*arguments)

        return note

    for name, kernels in (("cpu", cpu), ("reference", reference)):
        for kernel in ("score_keys", "random_keys"):
            monkeypatch.setattr(kernels, kernel, spy(name, getattr(kernels, kernel)))
    task(Library(FINE, kernel_set), made)
    (other,) = {"cpu", "reference"} - {kernel_set}
    assert seen[other] == []
    assert max(seen[kernel_set]) == CHUNK


def test_a_profile_of_other_segments_is_refused_with_both_numbers(pair: Path) -> None:
    profile = pair / "61.profile.safetensors"
    Library(FINE).scan(pair / "base", pair / "target", profile, **MEANS)
    with pytest.raises(ProfileError, match=r"its segments have 61 elements.*has 67108864: scan"):
        restore(Library(), pair, profile=profile)
    with pytest.raises(ProfileError, match=r"its segments have 61 elements.*has 60: scan"):
        restore(Library(cut_into(60)), pair, profile=profile)
    assert not (pair / "out" / "model.safetensors").exists()
