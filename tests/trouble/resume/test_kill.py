"""Runs that are killed at random moments: resumed, they end as if nothing had been.

The moments are drawn from a seed that is printed; ``SHARDRESTORE_TEST_SEED`` repeats them.
The thorough profile draws ten times as many: `tests.support.examples`.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.examples import TIMES
from tests.support.resume.stage import SEED, Driver, End, Play
from tests.support.scene import INDEX, Scene

ALWAYS = {
    "pass 1": 2,
    "saving the scan": 2,
    "pass 2": 4,
    "noting a shard": 1,
    "side files": 1,
    "index": 1,
    "noting the renames": 1,
    "publishing": 3,
    "clean-up": 3,
}
"""Kills in each phase of every run."""

RUNS: dict[str, tuple[str, list[str], dict[str, int]]] = {
    "bfloat16": ("BF16", ["--workers", "1"], {"start": 1}),
    "float32": ("F32", ["--workers", "2", "-k", "20"], {"refinement": 3}),
    "sweep": (
        "BF16",
        ["--region", "mlp,attention", "--strategy", "random", "-k", "3,30", "--workers", "2"],
        {"refinement": 2, "publishing": 5, "clean-up": 5},
    ),
    "overwrite": ("BF16", ["--overwrite"], {"publishing": 8, "clean-up": 4}),
    "cast": ("F32", ["--dtype", "bf16", "--strategy", "bottom"], {}),
    "checksum": ("BF16", ["--checksum"], {"checksums": 2}),
}
"""For each run: its pair's dtype, its options, and kills in further phases."""


def make_play(driver: Driver, root: Path, name: str) -> Play:
    dtype, args, _ = RUNS[name]
    play = Play(driver, Scene.make(root, dtype), args)
    if name == "overwrite":  # of a model with other values, and one more shard
        end = driver.run(play.scene, ["-k", "70"])
        assert end.status == 0, end.stderr
        (play.output / "model.safetensors").write_bytes(b"old weights, in no index")
        (play.output / "notes.txt").write_bytes(b"no part of any model")
    return play


@pytest.fixture
def seed() -> int:
    print(f"SHARDRESTORE_TEST_SEED={SEED}")
    return SEED


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_in_any_phase_is_resumed_to_the_identical_tree(
    driver: Driver, root: Path, name: str, seed: int
) -> None:
    dice = random.Random(f"{seed} {name}")
    play = make_play(driver, root, name)
    reference = play.rehearse()
    wanted = Counter({phase: n * TIMES for phase, n in (ALWAYS | RUNS[name][2]).items()})
    assert wanted.keys() <= reference.counts.keys()
    hit: Counter[str] = Counter()
    for phase in wanted.elements():
        play.reset()
        kill = draw_kill(dice, phase, reference)
        end = play.run(kill=kill)
        check_killed(play, end, [seed, kill])
        assert end.phase == phase
        hit[phase] += 1
        # Some of the runs that resume are killed themselves.
        again: list[object] = []
        while dice.random() < 0.3 and len(again) < 2:
            again.append(draw_kill(dice, dice.choice(sorted(wanted)), reference))
            check_killed(play, play.resume(kill=again[-1]), [seed, kill, *again], or_done=True)
        check_resumed(play, [seed, kill, *again])
    assert hit == wanted


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_any_time_is_resumed_to_the_identical_tree(
    driver: Driver, root: Path, name: str, seed: int
) -> None:
    dice = random.Random(f"{seed} {name} time")
    play = make_play(driver, root, name)
    seconds = play.rehearse().seconds
    for _ in range(4 * TIMES):
        play.reset()
        delays = [dice.uniform(0, seconds) for _ in range(dice.choice([1, 1, 2, 3]))]
        end = play.run(kill_after_seconds=delays[0])
        check_killed(play, end, [seed, delays], or_done=True)
        for delay in delays[1:]:
            end = play.resume(kill_after_seconds=delay)
            check_killed(play, end, [seed, delays], or_done=True)
        check_resumed(play, [seed, delays])


def test_an_index_is_the_last_file_to_get_its_name_and_the_first_to_lose_it(
    driver: Driver, root: Path
) -> None:
    """Killed between any two renames: what has an index is one complete model."""
    play = make_play(driver, root, "overwrite")
    renames = play.rehearse().counts["publishing"]
    seen = set()
    for number in range(1, renames + 1):
        play.reset()
        check_killed(play, play.run(kill=("publishing", number, "after")), [number])
        seen.add((play.output / INDEX).exists())
        check_resumed(play, [number])
    assert seen == {True, False}


def draw_kill(dice: random.Random, phase: str, reference: End) -> tuple[str, int, str]:
    number = dice.randint(1, reference.counts[phase])
    return phase, number, dice.choice(["before", "after"])


def check_killed(play: Play, end: End, how: object, *, or_done: bool = False) -> None:
    allowed = {-signal.SIGKILL, 0} if or_done else {-signal.SIGKILL}
    assert end.status in allowed, (how, end.stderr)
    try:
        play.check_left()
    except AssertionError as error:
        raise AssertionError(f"{how}: {error}") from error


def check_resumed(play: Play, how: object) -> None:
    try:
        play.check_finished(play.resume())
    except AssertionError as error:
        raise AssertionError(f"{how}: {error}") from error
