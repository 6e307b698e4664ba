"""A journal keeps the steps of a run, in lines that earlier versions wrote and can read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shardrestore.errors import OutputError
from shardrestore.passes.restore import Restored
from shardrestore.runs.journal import Entry, Journal, Prepared, ShardFinished, ShardsLost
from shardrestore.selection.histogram import Histogram

MOVES = [[("model.safetensors", ".replaced/model.safetensors")], [("a", "b")]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".journal.jsonl"


def begin(path: Path) -> Journal:
    journal = Journal(path)
    journal.begin({"format": 3})
    return journal


def test_a_journal_begins_with_what_the_run_is(path: Path) -> None:
    assert not Journal(path).begun
    begin(path)
    assert Journal(path).identity == {"format": 3}
    assert Journal(path).begun


def test_each_step_is_a_line_of_one_key_and_is_read_as_it_was_noted(path: Path) -> None:
    journal = begin(path)
    steps = [
        ShardFinished(name="s", parts=[{"selected": {"w": 3}}], stamps=[[7, 11]]),
        ShardsLost(names=("s",)),
        Prepared(moves=MOVES),
        Entry(key="uploaded", value={"name": "s"}),
    ]
    for step in steps:
        journal.note(step)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"format": 3},
        {"shard": ["s", [{"selected": {"w": 3}}], [[7, 11]]]},
        {"lost": ["s"]},
        {"publish": [[list(move) for move in moves] for moves in MOVES]},
        {"uploaded": {"name": "s"}},
    ]
    assert list(Journal(path).steps()) == steps


def test_what_was_done_in_a_shard_is_kept_with_the_scores_of_random_cuts(path: Path) -> None:
    scores = Histogram.empty()
    scores.exact[[0, 7]] = 5, 2**40
    scores.binned[-1] = 1
    begin(path).note(ShardFinished.of("s", [Restored(selected={"w": 6}, scores=scores)], []))
    (step,) = Journal(path).steps()
    assert isinstance(step, ShardFinished)
    (part,) = step.result()
    assert part.selected == {"w": 6}
    assert part.scores is not None
    assert np.array_equal(part.scores.exact, scores.exact)
    assert np.array_equal(part.scores.binned, scores.binned)


def test_lost_shards_take_back_what_was_prepared_and_entries_do_not(path: Path) -> None:
    journal = begin(path)
    assert journal.prepared is None
    journal.note(Prepared(moves=MOVES))
    journal.note(Entry(key="commit", value={}))
    assert journal.prepared == Prepared(moves=MOVES)
    journal.note(ShardsLost(names=("s",)))
    assert journal.prepared is None
    journal.note(Prepared(moves=MOVES[:1]))
    assert Journal(path).prepared == Prepared(moves=MOVES[:1])


def test_entries_are_not_read_by_the_journal(path: Path) -> None:
    journal = begin(path)
    journal.note(Entry(key="commit", value=None))
    journal.note(Entry(key="of a later version", value=[1]))
    assert journal.prepared is None
    assert [step.key for step in journal.steps() if isinstance(step, Entry)] == [
        "commit",
        "of a later version",
    ]


@pytest.mark.parametrize("line", ['{"publish":5}', '{"publish":[[["a",5]]]}', '{"lost":5}'])
def test_a_line_that_cannot_be_meant_is_damaged(path: Path, line: str) -> None:
    begin(path)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(OutputError, match=r"jsonl: damaged: start anew with --overwrite"):
        _ = Journal(path).prepared
