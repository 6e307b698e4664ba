"""The comparison runs from end to end on a tiny pair, and leaves out what is not there."""

from __future__ import annotations

import sys
from functools import partial

import pytest

from benchmarks.compare import describe
from benchmarks.contenders import contest
from benchmarks.contenders.contest import (
    FLOOR,
    FRESH_SWEEP,
    IN_MEMORY,
    MERGES,
    OURS,
    Contest,
    run_contest,
)
from benchmarks.contenders.mergekit import HOW_TO_GET, configure, find_version
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.process import Cost
from benchmarks.harness.turns import take_turns
from tests.support.tiny import PAIR


def make_cost(wall_seconds: float) -> Cost:
    return Cost(
        wall_seconds=wall_seconds, cpu_seconds=1, peak_bytes=100 << 20, other_cores=0, output=""
    )


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contest, "take_turns", partial(take_turns, warm_up=False))
        yield run_contest(Contest(folder, PAIR, PAIR), runs=1, in_memory_runs=0, mergekit=None)
    assert not (folder / "output").exists()


def test_every_contender_takes_its_turns(samples):
    assert {label: len(costs) for label, costs in samples.items()} == {
        **dict.fromkeys((FLOOR, OURS, contest.SMALL), 1),
        **dict.fromkeys((contest.SWEEP_FLOOR, contest.SWEEP), 1),
        **dict.fromkeys((contest.FRESH_FLOOR, FRESH_SWEEP), 1),
        **dict.fromkeys((contest.HELP, contest.TYPER), 3),
    }


def test_without_mergekit_its_rows_are_left_out_and_the_reader_is_told_how_to_get_it(samples):
    results = describe(samples, None)
    assert results.remarks == (HOW_TO_GET,)
    assert "mergekit" not in results.tables[0].markdown()
    assert results.versions == {}


def test_with_mergekit_its_ratios_stand_beside_ours(samples):
    merged = {label: [make_cost(30), make_cost(10)] for label in MERGES.values()}
    ours = {OURS: [make_cost(2)]}
    results = describe({**samples, **merged, **ours}, "0.1.5")
    rows = {row[0]: row[1] for row in results.tables[0].rows}
    assert rows["mergekit breadcrumbs / shardrestore run"] == "10.0"
    assert results.remarks == ()
    assert results.versions == {"mergekit": "0.1.5"}


def test_contenders_that_select_differently_are_an_error(tmp_path):
    rivals = Contest(tmp_path, PAIR, PAIR)
    rivals.selections = {OURS: (5, 0.1), IN_MEMORY: (5, 0.2)}
    with pytest.raises(BenchmarkError, match="disagree"):
        rivals.check_agreement()


def test_an_interpreter_without_mergekit_is_refused():
    with pytest.raises(BenchmarkError, match="cannot import mergekit: name the interpreter"):
        find_version(sys.executable)


def test_a_merge_is_of_the_pair_alone(tmp_path):
    text = configure("breadcrumbs", tmp_path)
    assert text.count(str(tmp_path / "base")) == 1
    assert text.count(str(tmp_path / "target")) == 1
    assert '"gamma": 0.1' in text
