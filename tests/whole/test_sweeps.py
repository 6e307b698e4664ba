"""Sweeps give what single runs give, and runs from a profile what runs without one give."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import assume, given
from hypothesis import strategies as st

import shardrestore
from shardrestore.checkpoint.source import LocalFile
from shardrestore.inputs.reference import open_checkpoint
from shardrestore.machine.threads import ThreadExecutor
from shardrestore.pairing.regions import find_table
from shardrestore.profile.identity import SAMPLE_BYTES
from shardrestore.runs import profiler
from shardrestore.synthetic import write_pair
from tests.support.checkpoints import Layout, read_tree, store, write_checkpoint
from tests.support.examples import examples
from tests.support.library import Library, cut_into
from tests.support.runs import (
    BUDGET,
    PERCENTS,
    PROFILE,
    WAYS,
    Run,
    region_elements,
    runs,
    scratch,
)
from tests.support.scene import SHARD_BYTES, TINY

STRATEGIES = ("top", "bottom", "random")


@st.composite
def sweeps(draw: st.DrawFn, **options: Any) -> tuple[Run, list[str], list[str], list[float]]:
    """Draw a run, and the regions, strategies and percents to ask for instead of its own."""
    run = draw(runs(**options))
    elements = region_elements(run.case)
    regions = st.lists(st.sampled_from(list(elements)), min_size=1, max_size=3, unique=True)
    strategies = st.lists(st.sampled_from(STRATEGIES), min_size=1, unique=True)
    percents = st.lists(PERCENTS, min_size=1, max_size=2, unique=True)
    chosen = draw(regions), draw(strategies), draw(percents)
    assume(all(int(elements[region] * min(chosen[2]) / 100) for region in chosen[0]))
    return run, *chosen


def facts(result: shardrestore.Restoration) -> tuple[Any, ...]:
    """What a result says, except where, how and how fast."""
    return result.figures, result.costs.written_bytes


# Sweeps


@examples(15)
@given(sweeps())
def test_a_sweep_over_regions_strategies_and_percents_writes_what_single_runs_write(
    sweep: tuple[Run, list[str], list[str], list[float]],
) -> None:
    run, regions, strategies, percents = sweep
    variants = [(r, s, p) for r in regions for s in strategies for p in percents]
    with scratch() as folder:
        run.write(folder)
        results = run.sweep(folder, percents, region=regions, strategy=strategies)
        names = [f"restore_{region}_{how}_{percent:g}pct" for region, how, percent in variants]
        assert sorted(path.name for path in (folder / "sweep").iterdir()) == sorted(names)
        assert [result.output for result in results] == [folder / "sweep" / name for name in names]
        for name, result, (region, how, percent) in zip(names, results, variants, strict=True):
            one = replace(run, percent=percent)
            alone = one.restore(folder, name, region=region, strategy=how)
            assert facts(result) == facts(alone)
            assert read_tree(folder / "sweep" / name) == read_tree(folder / name)


@examples(10)
@given(sweeps(), WAYS)
def test_files_blocks_workers_and_kernels_do_not_show_in_a_sweep(
    sweep: tuple[Run, list[str], list[str], list[float]], way: Any
) -> None:
    run, regions, strategies, percents = sweep
    files, granularity, workers, kernels = way
    granularity = replace(granularity, segment_elements=run.granularity.segment_elements)
    other = replace(run, layouts=files, granularity=granularity, workers=workers, kernels=kernels)
    with scratch() as one, scratch() as two:
        run.write(one)
        other.write(two)
        first = run.sweep(one, percents, region=regions, strategy=strategies)
        second = other.sweep(two, percents, region=regions, strategy=strategies)
    written = [[result.figures for result in results] for results in (first, second)]
    assert written[0] == written[1]


@examples(10)
@given(sweeps(), st.booleans())
def test_plan_foretells_every_model_of_a_sweep(
    sweep: tuple[Run, list[str], list[str], list[float]], profiled: bool
) -> None:
    run, regions, strategies, percents = sweep
    changes: dict[str, Any] = {"region": regions, "strategy": strategies}
    with scratch() as folder:
        base, target = run.write(folder)
        if profiled:
            changes["profile"] = run.scan(folder)
        plan = run.library.plan(
            base, target, folder / "sweep", percents=percents, workers=run.workers,
            max_memory=BUDGET, **run.options | changes,
        )  # fmt: skip
        results = run.sweep(folder, percents, **changes)
        sizes = sum(path.stat().st_size for path in folder.glob("sweep/*/*.safetensors"))
    assert [model.output for model in plan.models] == [result.output for result in results]
    assert [model.choice for model in plan.models] == [one.figures.choice for one in results]
    for name in ("region_elements", "selected_elements"):
        planned = [getattr(model, name) for model in plan.models]
        assert planned == [getattr(result, name) for result in results]
    assert plan.output_problem is None
    assert plan.written_bytes == sizes
    assert plan.read_bytes == results[0].costs.read_bytes


# Profiles


@examples(25)
@given(runs(), WAYS)
def test_a_run_from_a_profile_writes_what_a_run_without_writes(run: Run, way: Any) -> None:
    """Whatever granularity, workers and kernels the profile was made with."""
    _, granularity, workers, kernels = way
    granularity = replace(granularity, segment_elements=run.granularity.segment_elements)
    scanner = replace(run, granularity=granularity, workers=workers, kernels=kernels)
    with scratch() as folder:
        run.write(folder)
        fresh = run.restore(folder, "fresh")
        profile = scanner.scan(folder)
        assert sorted(path.name for path in folder.iterdir()) == [
            *("base", "fresh", PROFILE, "target")
        ]
        profiled = run.restore(folder, "profiled", profile=profile)
        assert facts(profiled) == facts(fresh)
        assert read_tree(folder / "profiled") == read_tree(folder / "fresh")
        assert profiled.costs.read_bytes < fresh.costs.read_bytes


@examples(10)
@given(sweeps())
def test_one_profile_serves_every_region_strategy_and_percent(
    sweep: tuple[Run, list[str], list[str], list[float]],
) -> None:
    run, regions, strategies, percents = sweep
    changes: dict[str, Any] = {"region": regions, "strategy": strategies}
    with scratch() as folder:
        run.write(folder)
        run.sweep(folder, percents, "fresh", **changes)
        run.sweep(folder, percents, "profiled", profile=run.scan(folder), **changes)
        assert read_tree(folder / "profiled") == read_tree(folder / "fresh")


def outcome(run: Run, folder: Path, output: str, **changes: Any) -> object:
    """What a run wrote, or how it was refused."""
    try:
        run.restore(folder, output, **changes)
    except shardrestore.ShardRestoreError as error:
        assert not (folder / output).exists()
        return type(error), str(error)
    return read_tree(folder / output)


@examples(15)
@given(runs(nonfinite=None))
def test_a_profile_of_weights_that_are_not_finite_is_as_good_as_a_scan(run: Run) -> None:
    """Scans accept them; runs refuse them with the same message, or go on alike."""
    with scratch() as folder:
        run.write(folder)
        profile = run.scan(folder)
        for allowed in (False, True):
            fresh = outcome(run, folder, f"fresh-{allowed}", allow_nonfinite=allowed)
            profiled = outcome(
                run, folder, f"profiled-{allowed}", allow_nonfinite=allowed, profile=profile
            )
            assert profiled == fresh
            assert allowed or not run.expected.nonfinite or isinstance(fresh, tuple)


@examples(15)
@given(runs(nonfinite=None), WAYS)
def test_a_profile_does_not_depend_on_how_it_was_made(run: Run, way: Any) -> None:
    _, granularity, workers, kernels = way
    granularity = replace(granularity, segment_elements=run.granularity.segment_elements)
    other = replace(run, granularity=granularity, workers=workers, kernels=kernels)
    with scratch() as folder:
        run.write(folder)
        profiles = [run.scan(folder, "one").read_bytes(), other.scan(folder, "two").read_bytes()]
    assert profiles[0] == profiles[1]


@examples(8)
@given(runs(nonfinite=None), st.randoms(use_true_random=False))
def test_a_profile_does_not_depend_on_the_order_in_which_segments_are_done(
    run: Run, shuffle: random.Random
) -> None:
    class Shuffling(ThreadExecutor):
        def run(self, stage: Any, tasks: Any, *rest: Any) -> Any:
            if stage.name == "scan":
                tasks = shuffle.sample(tasks, len(tasks))
            return super().run(stage, tasks, *rest)

    with scratch() as folder:
        run.write(folder)
        usual = run.scan(folder, "usual").read_bytes()
        with mock.patch.object(profiler, "ThreadExecutor", Shuffling):
            shuffled = run.scan(folder, "shuffled").read_bytes()
    assert usual == shuffled


def read_profile(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a profile with safetensors alone: its arrays, and the JSON in its header."""
    with safetensors.safe_open(path, "np") as file:
        text = file.metadata()["shardrestore_profile"]
    return safetensors.numpy.load_file(path), json.loads(text)


@examples(8)
@given(runs(nonfinite=None), WAYS)
def test_the_counts_in_a_profile_do_not_depend_on_files(run: Run, way: Any) -> None:
    with scratch() as one, scratch() as two:
        run.write(one)
        other = replace(run, layouts=way[0])
        other.write(two)
        arrays, contents = read_profile(run.scan(one))
        other_arrays, other_contents = read_profile(other.scan(two))
    assert arrays.keys() == other_arrays.keys()
    assert all(np.array_equal(array, other_arrays[name]) for name, array in arrays.items())
    assert contents.pop("inputs") != other_contents.pop("inputs")  # paths, at least
    assert contents == other_contents


# Passes

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"
FINE = Library(cut_into(segment_elements=61, chunk_elements=16, block_bytes=200, copy_bytes=100))


class Recorder:
    """Notes the stages and their bytes."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.announced: list[int] = []
        self.done: list[int] = []

    def begin(self, stage: str, total_bytes: int) -> None:
        self.stages.append(stage)
        self.announced.append(total_bytes)
        self.done.append(0)

    def advance(self, nbytes: int) -> None:
        self.done[-1] += nbytes

    def end(self) -> None:
        pass


@pytest.fixture
def folder() -> Iterator[Path]:
    """A pair of two formats: 400 bfloat16 and 400 float32 weights."""
    rng = np.random.default_rng(0)
    base = rng.normal(0, 0.02, 400)
    target = base * (1 + rng.normal(0, 0.1, 400))
    with scratch() as folder:
        for side, values in (("base", base), ("target", target)):
            tensors = {Q: store(values, "BF16"), UP: store(values, "F32")}
            write_checkpoint(folder / side, tensors, Layout(2, 3))
        yield folder


def sweep(folder: Path, output: str, **options: Any) -> Recorder:
    recorder = Recorder()
    FINE.sweep(
        folder / "base", folder / "target", folder / output,
        observer=recorder, max_memory=BUDGET, **{"percents": [5, 50]} | options,
    )  # fmt: skip
    assert recorder.announced == recorder.done
    return recorder


@pytest.mark.parametrize(
    ("options", "scanned", "stages"),
    [
        ({"region": "attention"}, 400 * 4, ["restore"]),
        ({"region": ["attention", "transformer"]}, 400 * 12, ["refine", "restore"]),
        ({"region": ["mlp", "all"], "approximate": True}, 400 * 12, ["restore"]),
        (
            {"region": ["all", "mlp", "attention"], "strategy": ["top", "random", "bottom"]},
            400 * 12,
            ["random", "refine", "random", "restore"],
        ),
    ],
    ids=["one", "overlapping", "approximate", "everything"],
)
def test_a_sweep_scans_each_weight_once_and_not_at_all_with_a_profile(
    folder: Path, options: dict[str, Any], scanned: int, stages: list[str]
) -> None:
    fresh = sweep(folder, "fresh", **options)
    assert fresh.stages == ["scan", *stages]
    assert fresh.announced[0] == scanned
    FINE.scan(folder / "base", folder / "target", folder / PROFILE, max_memory=BUDGET)
    profiled = sweep(folder, "profiled", profile=folder / PROFILE, **options)
    assert profiled.stages == stages
    assert profiled.announced == fresh.announced[1:]


def test_a_refining_scan_serves_all_cuts_of_a_sweep(folder: Path) -> None:
    percents = [1, 2, 3, 10, 40, 60, 90]
    several = sweep(folder, "several", percents=percents, strategy=["top", "bottom"])
    assert several.stages == ["scan", "refine", "restore"]
    assert several.announced[1] == 400 * 8  # the float32 weights of both sides, once


def test_seven_percents_from_a_profile_read_each_weight_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, target = write_pair(tmp_path, TINY, shard_bytes=SHARD_BYTES)
    profile = tmp_path / "pair.profile.safetensors"
    shardrestore.scan(base, target, profile, max_memory=BUDGET)
    read: dict[str, list[tuple[int, int]]] = {}
    read_into = LocalFile.read_into

    def note(self: LocalFile, offset: int, buffer: memoryview) -> None:
        read.setdefault(self.where, []).append((offset, len(buffer)))
        read_into(self, offset, buffer)

    monkeypatch.setattr(LocalFile, "read_into", note)
    percents = [1, 3, 5, 10, 20, 40, 60]
    shardrestore.sweep(
        base, target, tmp_path / "out",
        percents=percents, region="all", profile=profile, max_memory=BUDGET,
    )  # fmt: skip
    for side in (base, target):
        with open_checkpoint(side, "side") as checkpoint:
            for shard in checkpoint.shards:
                entries = shard.header.tensors.values()
                sampled = [min(SAMPLE_BYTES, entry.nbytes) for entry in entries]
                weights = [entry.nbytes for entry in entries]
                if side == target:  # what may be tied is looked at: small tensors whole
                    items = shard.header.tensors.items()
                    sampled += [entry.nbytes for name, entry in items if find_table(name)]
                data = [n for at, n in read[shard.source.where] if at >= shard.header.data_start]
                assert sum(data) == sum(weights) + sum(sampled)


def test_a_tied_head_that_differs_is_found_with_a_profile_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    embedding = rng.normal(0, 0.02, (300, 40)).astype(np.float32)
    name, head = "model.embed_tokens.weight", "lm_head.weight"
    config = {"config.json": b'{"model_type": "llama", "tie_word_embeddings": true}'}
    tuned = store(embedding * 1.01, "BF16")
    write_checkpoint(tmp_path / "base", {name: store(embedding, "BF16")}, Layout(0, 0))
    target = tmp_path / "target"
    write_checkpoint(target, {name: tuned, head: tuned}, Layout(0, 0), config)
    sides = tmp_path / "base", target
    profile = tmp_path / "pair.profile.safetensors"
    shardrestore.scan(*sides, profile, max_memory=BUDGET)
    shard = target / "model.safetensors"
    data = bytearray(shard.read_bytes())
    data[-2:] = b"\x80\x3f"  # of the head, far from the sampled bytes
    shard.write_bytes(data)
    for known in (None, profile):
        with pytest.raises(shardrestore.PairingError, match="differs from"):
            shardrestore.restore(
                *sides, tmp_path / "out", percent=10, region="all", profile=known, max_memory=BUDGET
            )
