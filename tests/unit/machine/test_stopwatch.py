"""A stopwatch measures each phase where it passes, and counts no second twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shardrestore.machine.stopwatch import Stopwatch


def make_clock(*seconds: float) -> Callable[[], float]:
    times: Iterator[float] = iter(seconds)
    return lambda: next(times)


def test_a_phase_that_was_never_entered_has_taken_no_time() -> None:
    assert Stopwatch().seconds("download") == 0.0


def test_a_phase_entered_twice_has_taken_both_times() -> None:
    watch = Stopwatch(make_clock(0, 1, 3, 10, 14))
    for _ in range(2):
        with watch.phase("scan"):
            pass
    assert watch.seconds("scan") == 2 + 4


def test_a_phase_inside_another_one_is_no_part_of_it() -> None:
    watch = Stopwatch(make_clock(0, 1, 3, 7, 8, 9))
    with watch.phase("restore"), watch.phase("upload"):
        pass
    assert (watch.seconds("restore"), watch.seconds("upload")) == (2 + 1, 4)
    assert watch.elapsed == 9


def test_a_phase_that_fails_is_measured_until_it_fails() -> None:
    watch = Stopwatch(make_clock(0, 1, 3, 20))
    with pytest.raises(ValueError, match="lost"), watch.phase("upload"):
        raise ValueError("lost")
    assert watch.seconds("upload") == 2
    assert watch.elapsed == 20
