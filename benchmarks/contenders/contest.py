"""Who is compared, on which pair, and in which order they take their turns."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..harness.errors import BenchmarkError
from ..harness.process import Cost, measure
from ..harness.tool import COMMAND, make_profile, measure_run
from ..harness.turns import Samples, take_turns
from ..models.pairs import BILLION, TENTH, Pair, make_pair
from .mergekit import METHODS, measure_merge

PERCENTS = "1,3,5,10,20,40,60"
COPIES = 7

FLOOR = "I/O floor"
OURS = "shardrestore run"
SMALL = "shardrestore run, pair ten times smaller"
IN_MEMORY = "in-memory torch"
LEAN = "in-memory torch without statistics"
MERGES = {method: f"mergekit {method}" for method in METHODS}
SWEEP_FLOOR = "I/O floor of a sweep: one read, seven copies"
SWEEP = "shardrestore run, seven percents, profile at hand"
FRESH_FLOOR = "I/O floor of a sweep with its scan: two reads, seven copies"
FRESH_SWEEP = "shardrestore run, seven percents"
HELP = "shardrestore --help"
TYPER = "python -c 'import typer'"


class Contest:
    """The pairs and the contenders; every turn takes place in one folder.

    Parameters
    ----------
    folder : Path
        Keeps the pairs.
    big, small : Pair
    """

    def __init__(self, folder: Path, big: Pair = BILLION, small: Pair = TENTH) -> None:
        self.big = make_pair(big, folder)
        self.small = make_pair(small, folder)
        self.output = folder / "output"
        self.profile = Path()
        """Of the big pair, once it has been made."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.selections: dict[str, tuple[int, float]] = {}
        """Count and threshold, of each contender that reports them."""

    def floor(self, *, reads: int = 2, copies: int = 1) -> Cost:
        """Take the floor's turn."""
        return measure_floor(self.big, self.output, reads=reads, copies=copies)

    def ours(self) -> Cost:
        """Take the command line's turn."""
        cost, result = measure_run(self.big, self.output)
        self.selections[OURS] = (result["selected_elements"], result["threshold"])
        return cost

    def sweep(self) -> Cost:
        """Take the turn of a sweep whose scores are known."""
        options = ["--profile", str(self.profile)]
        return measure_run(self.big, self.output, options, percents=PERCENTS)[0]

    def fresh_sweep(self) -> Cost:
        """Take the turn of a sweep that scans first."""
        return measure_run(self.big, self.output, percents=PERCENTS)[0]

    def ours_small(self) -> Cost:
        """Take the command line's turn on the small pair."""
        return measure_run(self.small, self.output)[0]

    def in_memory(self, *options: str) -> Cost:
        """Take the in-memory algorithm's turn."""
        cost = measure_in_memory(self.big, self.output, *options)
        result = cost.document()
        self.selections[IN_MEMORY] = (result["selected_elements"], result["threshold"])
        return cost

    def check_agreement(self) -> None:
        """Raise ``BenchmarkError`` if the contenders have not selected the same."""
        if len(set(self.selections.values())) > 1:
            raise BenchmarkError(
                f"the contenders disagree on (count, threshold): {self.selections}"
            )


def measure_floor(pair: Path, output: Path, *, reads: int = 2, copies: int = 1) -> Cost:
    """Measure the I/O floor of a pair; the copies are removed afterwards."""
    options = ["--reads", str(reads), "--copies", str(copies)]
    return _measure_module("floor", output, str(pair), str(output), *options)


def measure_in_memory(pair: Path, output: Path, *options: str) -> Cost:
    """Measure the in-memory algorithm on a pair; the output is removed afterwards."""
    sides = str(pair / "base"), str(pair / "target")
    return _measure_module("in_memory", output, *sides, str(output), "--percent", "10", *options)


def _measure_module(module: str, output: Path, *arguments: str) -> Cost:
    try:
        return measure([sys.executable, "-m", f"benchmarks.contenders.{module}", *arguments])
    finally:
        shutil.rmtree(output, ignore_errors=True)


def run_contest(
    contest: Contest, *, runs: int, in_memory_runs: int, mergekit: str | None
) -> Samples:
    """Measure everything.

    Parameters
    ----------
    contest : Contest
    runs : int
        Counted rounds.
    in_memory_runs : int
        Rounds of what takes long: the in-memory algorithm, and mergekit.
    mergekit : str or None
        Interpreter that has mergekit; without one it is left out.
    """
    samples = _run_others(contest, in_memory_runs, mergekit)
    samples |= take_turns({FLOOR: contest.floor, OURS: contest.ours}, runs)
    samples |= take_turns({SMALL: contest.ours_small}, runs)
    contest.profile = make_profile(contest.big, contest.output.parent)
    sweeps: dict[str, Callable[[], Cost]] = {
        SWEEP_FLOOR: partial(contest.floor, reads=1, copies=COPIES),
        SWEEP: contest.sweep,
        FRESH_FLOOR: partial(contest.floor, reads=2, copies=COPIES),
        FRESH_SWEEP: contest.fresh_sweep,
    }
    samples |= take_turns(sweeps, runs)
    bare = [sys.executable, "-c", "import typer"]
    starts = {HELP: partial(measure, [*COMMAND, "--help"]), TYPER: partial(measure, bare)}
    samples |= take_turns(starts, 3 * runs)
    contest.check_agreement()
    return samples


def _run_others(contest: Contest, runs: int, mergekit: str | None) -> Samples:
    """Measure what is not ours.

    It goes first: it takes so much memory that it drives the pair out of the page cache,
    into which a floor before each turn brings it back.
    """
    if not runs:
        return {}
    measure_in_memory(contest.small, contest.output)  # its libraries come into the page cache
    others: dict[str, Callable[[], Cost]] = {
        IN_MEMORY: contest.in_memory,
        LEAN: partial(contest.in_memory, "--lean"),
    }
    if mergekit:
        for method, label in MERGES.items():
            measure_merge(mergekit, method, contest.small, contest.output)
            others[label] = partial(measure_merge, mergekit, method, contest.big, contest.output)

    def after_floor(turn: Callable[[], Cost]) -> Cost:
        contest.floor()
        return turn()

    turns = {label: partial(after_floor, turn) for label, turn in others.items()}
    return take_turns(turns, runs, warm_up=False)
