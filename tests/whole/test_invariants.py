"""Whole runs against an oracle that holds everything in memory: the design's invariants.

Small checkpoints are cut into many segments, blocks and chunks by making those pieces small.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import safe_open

import shardrestore
from tests.support import oracle
from tests.support.checkpoints import read_tree
from tests.support.examples import examples
from tests.support.runs import (
    BUDGET,
    PERCENTS,
    WAYS,
    Run,
    assert_same_tensors,
    runs,
    scratch,
)

REPORTS = {"diff_summary.tsv", "restore_stats.tsv", "selected_param_stats.json"}


@examples(30)
@given(runs())
def test_every_output_byte_is_the_oracles(run: Run) -> None:
    with scratch() as folder:
        run.write(folder)
        run.restore(folder)
        assert_same_tensors(oracle.load(folder / "output"), run.expected.tensors)


@examples(15)
@given(runs(nonfinite=None))
def test_nan_ranks_highest_when_it_is_allowed(run: Run) -> None:
    with scratch() as folder:
        run.write(folder)
        result = run.restore(folder)
        assert_same_tensors(oracle.load(folder / "output"), run.expected.tensors)
        assert result.figures.changes.nonfinite == sum(run.expected.nonfinite.values())


@examples(10)
@given(runs(nonfinite=None, allow_nonfinite=False))
def test_nonfinite_weights_are_listed_and_counted_before_anything_is_written(run: Run) -> None:
    assume(run.expected.nonfinite)
    with scratch() as folder:
        run.write(folder)
        with pytest.raises(shardrestore.NonFiniteError) as error:
            run.restore(folder)
        for name, count in run.expected.nonfinite.items():
            assert f"{name}: {count:,}" in str(error.value)
        assert not (folder / "output").exists()


@examples(10)
@given(runs(nonfinite=None, allow_nonfinite=False, dtype="fp16"))
def test_finite_weights_that_a_cast_would_make_infinite_are_refused(run: Run) -> None:
    expected = run.expected
    assume((expected.overflows or expected.outside_overflows) and not expected.nonfinite)
    with scratch() as folder:
        run.write(folder)
        with pytest.raises(shardrestore.NonFiniteError, match="too large for") as error:
            run.restore(folder)
        for name, count in expected.overflows.items():
            assert f"{name}: {count:,}" in str(error.value)
        assert not (folder / "output").exists()


@examples(15)
@given(runs())
def test_counts_are_the_oracles(run: Run) -> None:
    expected = run.expected
    with scratch() as folder:
        run.write(folder)
        result = run.restore(folder)
    scores = expected.all_scores()
    assert result.region_elements == expected.elements == scores.size
    assert result.selected_elements == expected.selected
    assert sum(tensor.restored for tensor in result.tensors) == expected.selected
    assert {tensor.name: (tensor.elements, tensor.restored) for tensor in result.tensors} == {
        name: (taken.size, np.count_nonzero(taken)) for name, taken in expected.taken.items()
    }
    assert result.unchanged_share == np.count_nonzero(scores == 0) / scores.size
    assert result.zero_base_share == expected.zero_base / scores.size
    assert result.figures.changes.nonfinite == 0


@examples(15)
@given(runs(approximate=False))
def test_threshold_and_ties_are_the_oracles(run: Run) -> None:
    expected = run.expected
    with scratch() as folder:
        run.write(folder)
        result = run.restore(folder)
    ties = result.figures.ties
    assert (ties.count, ties.taken) == (expected.ties, expected.ties_taken)
    assert result.threshold == expected.threshold


@examples(15)
@given(runs())
def test_statistics_are_the_oracles_to_half_a_bin(run: Run) -> None:
    with scratch() as folder:
        run.write(folder)
        result = run.restore(folder)
    scores = run.expected.all_scores().astype(np.float64)
    assume(np.isfinite(scores).all())
    taken = scores[run.expected.all_taken()]
    for found, values in (
        (result.figures.scores.total, scores),
        (result.figures.scores.selected, taken),
    ):
        # An approximate cut takes its bin evenly, not in the order that the sums assume.
        close = {"rel": 1 / 128 if run.options["approximate"] else 1 / 255, "abs": 1e-40}
        assert found.sum == pytest.approx(values.sum(), **close)
        assert found.mean == pytest.approx(values.mean(), **close)
        assert found.min == pytest.approx(values.min(), **close)
        assert found.max == pytest.approx(values.max(), **close)
        assert found.median == pytest.approx(np.sort(values)[(values.size - 1) // 2], **close)
    for tensor in result.tensors:
        own = run.expected.scores[tensor.name].astype(np.float64)
        mean = own.mean() if own.size else 0.0
        assert tensor.mean_score == pytest.approx(mean, rel=1 / 255, abs=1e-40)


@examples(10)
@given(runs())
def test_reports_repeat_the_result(run: Run) -> None:
    with scratch() as folder:
        run.write(folder)
        result = run.restore(folder)
        files = {name: (folder / "output" / name).read_text() for name in REPORTS}
        record = json.loads((folder / "output" / "shardrestore.json").read_text())
    table = [line.split("\t") for line in files["restore_stats.tsv"].splitlines()]
    assert table[0] == ["param_name", "layer_name", "restored_numel", "numel", "restored_ratio"]
    assert [(row[0], int(row[2]), int(row[3])) for row in table[1:]] == [
        (name, np.count_nonzero(taken), taken.size) for name, taken in run.expected.taken.items()
    ]
    for *_, restored, elements, ratio in table[1:]:
        share = int(restored) / int(elements) if int(elements) else 0
        assert float(ratio) == pytest.approx(share, abs=1e-8)
    table = [line.split("\t") for line in files["diff_summary.tsv"].splitlines()]
    assert table[0] == ["param_name", "layer_name", "average_mean_diff", "numel"]
    for row, (name, scores) in zip(table[1:], run.expected.scores.items(), strict=True):
        layer = name.split(".")[2] if ".layers." in name else ""
        assert (row[0], row[1], int(row[3])) == (name, layer, scores.size)
    stats = json.loads(files["selected_param_stats.json"])
    assert stats["k_count"] == run.expected.selected
    assert stats["strategy"] == run.options["strategy"]
    assert set(stats["selected_rel_diffs"]) == {"max", "median", "mean", "min", "sum"}
    assert stats["total_rel_diffs"]["sum"] == (
        result.figures.scores.total.sum if math.isfinite(result.figures.scores.total.sum) else None
    )
    assert record["cut"]["selected_elements"] == run.expected.selected
    assert record["cut"]["ties_taken"] == run.expected.ties_taken


@examples(15)
@given(runs(), WAYS)
def test_files_blocks_workers_and_kernels_do_not_show(run: Run, way: Any) -> None:
    files, granularity, workers, kernels = way
    # The segment is part of what a random key is.
    if run.options["strategy"] == "random":
        granularity = replace(granularity, segment_elements=run.granularity.segment_elements)
    other = replace(run, layouts=files, granularity=granularity, workers=workers, kernels=kernels)
    with scratch() as one, scratch() as two:
        run.write(one)
        other.write(two)
        run.restore(one)
        other.restore(two)
        first, second = read_tree(one / "output"), read_tree(two / "output")
        assert oracle.load(one / "output") == oracle.load(two / "output")
    # Mean scores are sums of floats, whose order and grouping follow the segments.
    assert first["restore_stats.tsv"] == second["restore_stats.tsv"]
    assert first["selected_param_stats.json"] == second["selected_param_stats.json"]


@examples(8)
@given(runs(), st.integers(1, 4), st.sampled_from(["cpu", "reference"]))
def test_repeating_a_run_repeats_every_file(run: Run, workers: int, kernels: str) -> None:
    other = replace(run, workers=workers, kernels=kernels)
    with scratch() as folder:
        run.write(folder)
        run.restore(folder, "one")
        other.restore(folder, "two")
        assert read_tree(folder / "one") == read_tree(folder / "two")


@examples(15)
@given(runs(dtype="auto", nonfinite=None))
def test_selection_is_visible_in_the_output_alone(run: Run) -> None:
    """Invariants 1 to 3 without the oracle's cut: only its scores and both inputs are used."""
    assume(run.options["strategy"] != "random")
    with scratch() as folder:
        run.write(folder)
        result = run.restore(folder)
        output = oracle.load(folder / "output")
    taken, left = [], []
    least = most = 0
    for name, scores in run.expected.scores.items():
        base, target = run.case.base.get(name), run.case.target[name]
        base = base or run.case.base["model.embed_tokens.weight"]
        rounded = base.values().to(oracle.TORCH_DTYPES[target.dtype])
        ours = oracle.codes_of(oracle.Stored(target.dtype, (), oracle._codes(rounded).tobytes()))
        theirs, found = oracle.codes_of(target), oracle.codes_of(output[name])
        quiet = np.isnan(rounded.float().numpy()) & np.isnan(output[name].values().float().numpy())
        is_base, is_target = (found == ours) | quiet, found == theirs
        assert (is_base | is_target).all()
        keys = oracle._rising(scores) >> (16 if run.options["approximate"] else 0)
        taken.append(keys[~is_target])
        left.append(keys[~is_base])
        least += np.count_nonzero(~is_target)
        most += np.count_nonzero(is_base)
    assert least <= result.selected_elements <= most
    taken_keys, left_keys = np.concatenate(taken), np.concatenate(left)
    if taken_keys.size and left_keys.size:
        if run.options["strategy"] == "top":
            assert taken_keys.min() >= left_keys.max()
        else:
            assert taken_keys.max() <= left_keys.min()


@examples(15)
@given(runs(approximate=True, dtype="auto"))
def test_an_approximate_cut_is_off_by_less_than_a_bin(run: Run) -> None:
    assume(run.options["strategy"] != "random")
    with scratch() as folder:
        run.write(folder)
        result = run.restore(folder)
        output = oracle.load(folder / "output")
    assert sum(tensor.restored for tensor in result.tensors) == run.expected.selected
    taken, left = [np.empty(0)], [np.empty(0)]
    for name, scores in run.expected.scores.items():
        target = run.case.target[name]
        if name not in run.case.base or run.case.base[name].dtype != target.dtype:
            continue
        base, theirs = oracle.codes_of(run.case.base[name]), oracle.codes_of(target)
        found = oracle.codes_of(output[name])
        taken.append(scores[(base != theirs) & (found == base)])
        left.append(scores[(base != theirs) & (found == theirs)])
    above, below = np.concatenate(taken), np.concatenate(left)
    if run.options["strategy"] == "bottom":
        above, below = below, above
    if above.size and below.size and np.isfinite(below).all():
        assert below.max() <= above.min() * (1 + 1 / 128)


@examples(15)
@given(runs(dtype="auto"))
def test_headers_and_tensors_outside_the_region_are_the_targets_bytes(run: Run) -> None:
    with scratch() as folder:
        run.write(folder)
        run.restore(folder)
        files = {path.name for path in (folder / "target").glob("*.safetensors")}
        assert files == {path.name for path in (folder / "output").glob("*.safetensors")}
        output = oracle.load(folder / "output")
        for file in files:
            old, new = (folder / "target" / file).read_bytes(), (folder / "output" / file)
            length = 8 + int.from_bytes(old[:8], "little")
            assert new.read_bytes()[:length] == old[:length]
            assert new.stat().st_size == len(old)
    for name, stored in run.case.target.items():
        if name not in run.expected.taken and name not in run.case.twins:
            assert output[name].data == stored.data


@examples(12)
@given(runs())
def test_every_output_opens_with_safetensors_and_its_index_is_true(run: Run) -> None:
    with scratch() as folder:
        run.write(folder)
        run.restore(folder)
        output = folder / "output"
        home = {}
        for path in output.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                has_note = (file.metadata() or {}).get("note") == "été"
                assert has_note == run.layouts[1].metadata
                for name in file.keys():  # noqa: SIM118
                    home[name] = path.name
                    piece = file.get_slice(name)
                    expected = run.expected.tensors[name]
                    assert (piece.get_dtype(), tuple(piece.get_shape())) == (
                        expected.dtype,
                        expected.shape,
                    )
        assert home.keys() == run.expected.tensors.keys()
        index_file = output / "model.safetensors.index.json"
        assert index_file.exists() == bool(run.layouts[1].shards)
        if run.layouts[1].shards:
            index = json.loads(index_file.read_bytes())
            assert index["weight_map"] == home
            assert index["metadata"]["total_size"] == sum(
                len(stored.data) for stored in run.expected.tensors.values()
            )


@examples(8)
@given(runs(dtype="auto"))
def test_side_files_are_copied_and_nothing_else_appears(run: Run) -> None:
    with scratch() as folder:
        run.write(folder)
        run.restore(folder)
        output = read_tree(folder / "output")
        weights = {name for name in read_tree(folder / "target") if ".safetensors" in name}
    for name, content in run.case.side_files.items():
        assert output[name] == content
    own = REPORTS | {"shardrestore.json", "README.md"}
    assert output.keys() == weights | run.case.side_files.keys() | own


@examples(8)
@given(runs(nonfinite=None))
def test_inputs_are_never_modified(run: Run) -> None:
    with scratch() as folder:
        run.write(folder)
        before = read_tree(folder / "base"), read_tree(folder / "target")
        run.restore(folder)
        assert (read_tree(folder / "base"), read_tree(folder / "target")) == before


@examples(10)
@given(runs(), st.lists(PERCENTS, min_size=1, max_size=3, unique=True))
def test_a_sweep_writes_what_single_runs_write(run: Run, others: list[float]) -> None:
    assume(run.percent not in others)
    percents = [*others, run.percent]
    assume(all(int(run.expected.elements * percent / 100) for percent in percents))
    with scratch() as folder:
        run.write(folder)
        results = run.sweep(folder, percents)
        names = [
            f"restore_{run.options['region']}_{run.options['strategy']}_{percent:g}pct"
            for percent in percents
        ]
        assert sorted(path.name for path in (folder / "sweep").iterdir()) == sorted(names)
        assert [result.percent for result in results] == percents
        for name, percent in zip(names, percents, strict=True):
            replace(run, percent=percent).restore(folder, name)
            assert read_tree(folder / "sweep" / name) == read_tree(folder / name)


@examples(8)
@given(runs(strategy="random", approximate=False), st.integers(4, 99))
def test_another_seed_selects_as_many_others(run: Run, seed: int) -> None:
    assume(0 < run.expected.selected < run.expected.elements and run.expected.elements > 200)
    assume(min(run.expected.selected, run.expected.elements - run.expected.selected) > 20)
    expected = oracle.expect(
        run.case.base,
        run.case.target,
        percent=run.percent,
        segment_elements=run.granularity.segment_elements,
        twins=run.case.twins,
        **(run.options | {"seed": seed, "exclude": ["quantised"]}),
    )
    other = replace(run, options=run.options | {"seed": seed}, expected=expected)
    assert not np.array_equal(expected.all_taken(), run.expected.all_taken())
    with scratch() as folder:
        other.write(folder)
        other.restore(folder)
        assert_same_tensors(oracle.load(folder / "output"), expected.tensors)


@examples(8)
@given(runs(), st.integers(1, 3))
def test_plan_foretells_counts_and_sizes(run: Run, workers: int) -> None:
    with scratch() as folder:
        base, target = run.write(folder)
        plan = shardrestore.plan(
            base,
            target,
            folder / "output",
            percent=run.percent,
            workers=workers,
            max_memory=BUDGET,
            **run.options,
        )
        assert not (folder / "output").exists()
        result = run.restore(folder)
        weights = sum(path.stat().st_size for path in (folder / "output").glob("*.safetensors"))
    (model,) = plan.models
    assert model == shardrestore.PlannedModel(
        output=folder / "output",
        choice=shardrestore.Choice(
            region=run.options["region"],
            strategy=run.options["strategy"],
            percent=run.percent,
            score=run.options.get("score", "relative"),
        ),
        region_elements=run.expected.elements,
        selected_elements=run.expected.selected,
    )
    (chosen,) = [survey for survey in plan.regions if survey.region == model.choice.region]
    assert (chosen.tensors, chosen.elements) == (len(run.expected.taken), model.region_elements)
    assert plan.written_bytes == weights == result.costs.written_bytes
    assert plan.side_files == tuple(sorted(run.case.side_files))
