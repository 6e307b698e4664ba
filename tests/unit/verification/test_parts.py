"""The parts of a verification that need no files."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.granularity import DEFAULT_GRANULARITY
from shardrestore.machine.executor import Stopped
from shardrestore.machine.threads import StopSignal
from shardrestore.names import RECORD_FILE
from shardrestore.report.files import RECORD_FORMAT, SCORED_FORMAT
from shardrestore.verification import record, sizing
from shardrestore.verification.rule import Rule
from shardrestore.verification.sizing import Load
from shardrestore.verification.tally import TieTally


def test_the_record_that_is_read_is_the_one_that_is_written() -> None:
    assert (record.RECORD_FILE, record.RECORD_FORMATS) == (
        RECORD_FILE,
        (RECORD_FORMAT, SCORED_FORMAT),
    )


@given(st.data())
def test_turns_are_those_of_the_definition_for_models_of_any_size(data: st.DataObject) -> None:
    ties = data.draw(st.integers(1, 40) | st.integers(1, 2**45 - 1))
    taken = data.draw(st.integers(0, ties))
    first = data.draw(st.integers(0, ties - 1))
    rule = Rule(strategy="top", tie_first=0, tie_keys=1, ties=ties, taken=taken, seed=None)
    count = data.draw(st.integers(0, DEFAULT_GRANULARITY.turns))
    sample = data.draw(st.lists(st.integers(0, max(count - 1, 0)), max_size=20))
    turns = rule.turns(first, count)
    assert turns.size == count
    for place in sample if count else []:
        j = first + place
        assert turns[place] == ((j + 1) * taken // ties > j * taken // ties)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.randoms())
def test_ties_are_numbered_in_canonical_order_whoever_counts_first(
    counts: list[int], random: object
) -> None:
    tally, numbers = TieTally(len(counts)), list(range(len(counts)))
    random.shuffle(numbers)  # type: ignore[attr-defined]
    for number in numbers:
        tally.publish(number, ties=counts[number], beyond=1)
    firsts = [tally.first_tie(number, StopSignal().check) for number in range(len(counts))]
    assert firsts == [sum(counts[:number]) for number in range(len(counts))]
    assert (tally.ties, tally.beyond) == (sum(counts), len(counts))


def test_a_worker_that_waits_goes_on_when_the_counts_before_it_are_known() -> None:
    tally, found = TieTally(3), []
    tally.publish(1, ties=5, beyond=0)
    waiting = threading.Thread(target=lambda: found.append(tally.first_tie(2, StopSignal().check)))
    waiting.start()
    tally.publish(0, ties=2, beyond=0)
    waiting.join(10)
    assert found == [7]


def test_a_worker_that_waits_in_vain_notices_the_stop() -> None:
    stop, tally = StopSignal(), TieTally(2)
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    with pytest.raises(Stopped):
        tally.first_tie(1, stop.check)
    timer.join()


LOAD = Load(
    granularity=DEFAULT_GRANULARITY,
    runtime_bytes=100_003,
    tensors=101,
    header_bytes=1_009,
    document_bytes=10_007,
    files=0,
    tasks=103,
)


@pytest.mark.parametrize(
    ("change", "added"),
    [
        ({"runtime_bytes": 100_004}, 1),
        ({"tensors": 102}, sizing.TENSOR_BYTES),
        ({"header_bytes": 1_010}, sizing.HEADER_FACTOR),
        ({"document_bytes": 10_008}, 1),
        ({"files": 1}, sizing.FILE_BYTES),
        ({"tasks": 104}, sizing.SEGMENT_BYTES + sizing.DIFFERENCE_BYTES),
    ],
)
def test_every_term_is_part_of_the_projection(change: dict[str, int], added: int) -> None:
    before = sizing.project(LOAD, workers=3, block_bytes=4096)
    assert sizing.project(replace(LOAD, **change), workers=3, block_bytes=4096) == before + added


def test_each_worker_adds_its_buffers_and_scratch() -> None:
    one, two = (sizing.project(LOAD, workers=count, block_bytes=4096) for count in (1, 2))
    scratch = DEFAULT_GRANULARITY.compared_elements * sizing.ELEMENT_SCRATCH_BYTES
    turns = DEFAULT_GRANULARITY.turns * sizing.TURN_BYTES
    assert two - one == sizing.WORKER_BYTES + 3 * 4096 + scratch + turns


def test_blocks_shrink_before_workers_go() -> None:
    large = sizing.project(LOAD, workers=2, block_bytes=DEFAULT_GRANULARITY.block_bytes)
    assert sizing.fit(LOAD, max_workers=2, max_memory_bytes=large).workers == 2
    smaller = sizing.fit(LOAD, max_workers=2, max_memory_bytes=large - 1)
    assert (smaller.workers, smaller.block_bytes) == (2, DEFAULT_GRANULARITY.block_bytes // 2)
    one = sizing.project(LOAD, workers=1, block_bytes=DEFAULT_GRANULARITY.smallest_block_bytes)
    assert sizing.fit(LOAD, max_workers=2, max_memory_bytes=one).workers == 1
