"""Scaling is measured from end to end on a tiny pair; a trace accounts for all of the time."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest

from benchmarks import scaling
from benchmarks.harness import page_cache
from benchmarks.harness.process import Cost
from benchmarks.harness.shares import REST, Traced, tabulate_shares
from benchmarks.harness.trace import ACTIVITIES, LAST_SYNC, Trace
from benchmarks.harness.turns import take_turns
from benchmarks.models.pairs import make_pair
from tests.support.tiny import PAIR

TRACED = Traced(
    run_seconds=10,
    wall_seconds={"scan": 4, "restore": 5, LAST_SYNC: 0.5},
    worker_seconds={"scan": 8, "restore": 10},
    seconds={
        "scan": {"read": 2, "score": 2, "count": 2},
        "restore": {"read": 1, "score": 1, "restore": 3, "write": 4, "sync": 2.5},
        LAST_SYNC: {"sync": 0.5},
    },
)


def test_every_question_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "take_turns", partial(take_turns, warm_up=False))
    pair = make_pair(PAIR, tmp_path)
    options = ["--runs", "1", "--workers", "1", "--blocks", "1024", "--percents", "1"]
    places = ["--folder", tmp_path / "work", "--results", tmp_path / "results", "--pair", pair]
    scaling.main([*options, *map(str, places)])  # so small a run may well be slower when traced
    record = json.loads((tmp_path / "results" / "scaling.json").read_text(encoding="utf-8"))
    questions = record["samples"]["questions"]
    assert list(questions) == [
        *("Worker threads", "Block size", "Percents in one run", "Tracing", "Warm page cache"),
        *(("Cold page cache",) if page_cache.AVAILABLE else ()),
    ]
    assert len(record["tables"]) == len(questions) + 1
    [traced] = record["samples"]["traced"]
    assert {"scan", "restore"} <= set(traced["wall_seconds"])
    assert all(traced["seconds"]["restore"][activity] > 0 for activity in ("read", "write"))
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("phase", ["scan", "restore"])
def test_shares_of_the_workers_time_add_up(phase):
    shares = TRACED.activity_shares(phase)
    assert list(shares) == [*ACTIVITIES, REST]
    assert sum(shares.values()) == pytest.approx(1)


def test_shares_of_the_wall_time_add_up():
    assert sum(TRACED.phase_shares().values()) == pytest.approx(1)


def test_where_the_time_goes_is_told_by_phase():
    rows = {row[0]: row[1:] for row in tabulate_shares([TRACED]).rows}
    assert rows["wall time"] == ("40.0 %", "50.0 %")
    assert rows["read"] == ("25.0 %", "10.0 %")
    assert rows[REST] == ("25.0 %", "10.0 %")
    assert rows["beside them: the syncing thread waits for the disk"] == ("0.0 %", "50.0 %")


def test_a_timed_function_does_what_it_did_and_counts_even_when_it_fails():
    trace = Trace()
    trace.phase = "scan"
    assert trace.timed("read", max)(1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        trace.timed("count", lambda: 1 // 0)()
    assert set(trace.seconds()["scan"]) == {"read", "count"}


def test_a_phase_counts_its_wall_time_once_for_each_worker():
    trace = Trace()
    with trace.phased("scan", 3):
        time.sleep(0.01)
    assert trace.worker_seconds["scan"] == pytest.approx(3 * trace.wall_seconds["scan"])
    assert trace.phase == ""


@pytest.mark.parametrize(("traced_seconds", "holds"), [((2.0, 2.08, 9.0), True), ((2.2,), False)])
def test_tracing_may_cost_a_twentieth_of_the_processor_time(traced_seconds, holds):
    samples = {
        name: [
            Cost(wall_seconds=1, cpu_seconds=seconds, peak_bytes=1, other_cores=0, output="")
            for seconds in times
        ]
        for name, times in ((scaling.PLAIN, (2.0, 2.0, 3.0)), (scaling.TRACED, traced_seconds))
    }
    assert scaling.judge_tracing(samples).holds == holds
