"""shardrestore beside the I/O floor and the in-memory algorithm, in one run.

``python -m benchmarks.compare``: 10 % of a 1.1-billion-parameter bfloat16 pair, and a
sweep over seven percents of it; 2 workers, warm page cache. Everything is a whole
process, and what is compared takes turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .pairs import BILLION, TENTH, add_folder_option, make_pair
from .process import Cost, measure
from .table import MIB, Spread, markdown, summarize, write_results
from .tool import COMMAND, make_profile, measure_run

Samples = dict[str, list[Cost]]

PERCENTS = "1,3,5,10,20,40,60"
COPIES = 7

TITLE = (
    "10 % of a 1.1-billion-parameter bfloat16 pair, and a sweep of it, 2 workers, warm page cache"
)

FLOOR = "I/O floor"
OURS = "shardrestore run"
SMALL = "shardrestore run, pair ten times smaller"
IN_MEMORY = "in-memory torch"
LEAN = "in-memory torch without statistics"
SWEEP_FLOOR = "I/O floor of a sweep: one read, seven copies"
SWEEP = "shardrestore run, seven percents, profile at hand"
FRESH_FLOOR = "I/O floor of a sweep with its scan: two reads, seven copies"
FRESH_SWEEP = "shardrestore run, seven percents"
HELP = "shardrestore --help"
TYPER = "python -c 'import typer'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A measured figure and what is asked of it, if anything."""

    label: str
    measured: Spread
    unit: str
    digits: int
    limit: float | None
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the median is on the right side of the limit."""
        if self.limit is None:
            return True
        median = self.measured.median
        return median >= self.limit if self.at_least else median <= self.limit

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        figures = _cells(self.label, self.measured, self.unit, self.digits)
        if self.limit is None:
            return (*figures, "", "")
        sign = "≥" if self.at_least else "≤"
        verdict = "yes" if self.holds else "**no**"
        return (*figures, f"{sign} {self.limit:g}{self.unit}", verdict)


class Contest:
    """The pairs and the contenders; every turn takes place in one folder."""

    def __init__(self, folder: Path) -> None:
        self.big = make_pair(BILLION, folder)
        self.small = make_pair(TENTH, folder)
        self.output = folder / "output"
        self.profile = Path()
        """Of the big pair, once it has been made."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.selections: dict[str, tuple[int, float]] = {}

    def floor(self) -> Cost:
        """Take the floor's turn."""
        return self._measure_module("floor", str(self.big), str(self.output))

    def ours(self) -> Cost:
        """Take the command line's turn."""
        cost, result = measure_run(self.big, self.output)
        self.selections[OURS] = (result["selected_elements"], result["threshold"])
        return cost

    def sweep_floor(self) -> Cost:
        """Take the turn of the floor of a sweep whose scores are known."""
        return self._measure_sweep_floor(reads=1)

    def fresh_floor(self) -> Cost:
        """Take the turn of the floor of a sweep that scans first."""
        return self._measure_sweep_floor(reads=2)

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
        cost = self._in_memory(self.big, *options)
        result = json.loads(cost.output)
        self.selections[IN_MEMORY] = (result["selected_elements"], result["threshold"])
        return cost

    def lean(self) -> Cost:
        """Take the turn of the in-memory algorithm that reports nothing of the scores."""
        return self.in_memory("--lean")

    def in_memory_small(self) -> Cost:
        """Let the in-memory algorithm's libraries into the page cache."""
        return self._in_memory(self.small)

    def help(self) -> Cost:
        """Ask for help."""
        return measure([*COMMAND, "--help"])

    def typer(self) -> Cost:
        """Import what help cannot do without."""
        return measure([sys.executable, "-c", "import typer"])

    def _measure_sweep_floor(self, *, reads: int) -> Cost:
        options = ["--reads", str(reads), "--copies", str(COPIES)]
        return self._measure_module("floor", str(self.big), str(self.output), *options)

    def _in_memory(self, pair: Path, *options: str) -> Cost:
        sides = str(pair / "base"), str(pair / "target")
        arguments = (*sides, str(self.output), "--percent", "10", *options)
        return self._measure_module("in_memory", *arguments)

    def _measure_module(self, module: str, *arguments: str) -> Cost:
        try:
            return measure([sys.executable, "-m", f"benchmarks.{module}", *arguments])
        finally:
            shutil.rmtree(self.output, ignore_errors=True)


def take_turns(contenders: dict[str, Callable[[], Cost]], rounds: int) -> Samples:
    """Measure each contender once a round, after an uncounted round."""
    samples: Samples = {label: [] for label in contenders}
    for number in range(rounds + 1):
        for label, turn in contenders.items():
            cost = turn()
            note = f"{number} of {rounds}" if number else "warm-up"
            seconds = f"{cost.wall_seconds:.2f} s, other cores busy: {cost.other_cores:.2f}"
            print(f"{label} ({note}): {seconds}", file=sys.stderr)
            if number:
                samples[label].append(cost)
    return samples


def run_contest(folder: Path, *, runs: int, in_memory_runs: int) -> Samples:
    """Measure everything.

    The in-memory algorithm goes first: it takes so much memory that it drives the
    pair out of the page cache, into which a floor before each turn brings it back.
    """
    contest = Contest(folder)
    samples: Samples = {}
    if in_memory_runs:
        contest.in_memory_small()
        for label, turn in ((IN_MEMORY, contest.in_memory), (LEAN, contest.lean)):
            samples[label] = []
            for _ in range(in_memory_runs):
                contest.floor()
                samples[label].append(turn())
    samples |= take_turns({FLOOR: contest.floor, OURS: contest.ours}, runs)
    samples |= take_turns({SMALL: contest.ours_small}, runs)
    contest.profile = make_profile(contest.big, folder)
    sweeps = {SWEEP_FLOOR: contest.sweep_floor, SWEEP: contest.sweep}
    sweeps |= {FRESH_FLOOR: contest.fresh_floor, FRESH_SWEEP: contest.fresh_sweep}
    samples |= take_turns(sweeps, runs)
    samples |= take_turns({HELP: contest.help, TYPER: contest.typer}, 3 * runs)
    if len(set(contest.selections.values())) > 1:
        raise SystemExit(f"the contenders disagree on (count, threshold): {contest.selections}")
    return samples


def judge(samples: Samples) -> list[Requirement]:
    """Return the figures that something is asked of."""
    ours = samples[OURS]
    walls = {label: [cost.wall_seconds for cost in costs] for label, costs in samples.items()}
    peaks = [cost.peak_bytes / MIB for cost in ours]
    small_peaks = [cost.peak_bytes / MIB for cost in samples[SMALL]]
    to_floor = [own / floor for own, floor in zip(walls[OURS], walls[FLOOR], strict=True)]
    differences = [big - small for big, small in zip(peaks, small_peaks, strict=True)]
    startup = [own - bare for own, bare in zip(walls[HELP], walls[TYPER], strict=True)]
    figures = [
        Requirement(
            label=f"{OURS} / {FLOOR}, of each round",
            measured=summarize(to_floor),
            unit="",
            digits=2,
            limit=1.25,
        )
    ]
    own = summarize(walls[OURS]).median
    figures += [
        Requirement(
            label=f"{label} / {OURS}",
            measured=summarize([wall / own for wall in walls[label]]),
            unit="",
            digits=1,
            limit=limit,
            at_least=True,
        )
        for label, limit in ((IN_MEMORY, 20), (LEAN, None))
        if label in samples
    ]
    return [
        *figures,
        *_judge_sweeps(samples, walls),
        Requirement(label="peak RSS", measured=summarize(peaks), unit=" MiB", digits=1, limit=256),
        Requirement(
            label="peak RSS minus that of a pair ten times smaller",
            measured=summarize(differences),
            unit=" MiB",
            digits=1,
            limit=16,
        ),
        Requirement(
            label=f"{HELP} minus {TYPER}",
            measured=summarize(startup),
            unit=" s",
            digits=3,
            limit=0.3,
        ),
    ]


def _judge_sweeps(samples: Samples, walls: dict[str, list[float]]) -> list[Requirement]:
    figures = [
        Requirement(
            label=f"{own} / {floor}, of each round",
            measured=summarize(
                [mine / least for mine, least in zip(walls[own], walls[floor], strict=True)]
            ),
            unit="",
            digits=2,
            limit=1.25,
        )
        for own, floor in ((SWEEP, SWEEP_FLOOR), (FRESH_SWEEP, FRESH_FLOOR))
    ]
    for label, limit in ((SWEEP, 10), (FRESH_SWEEP, None)):
        if IN_MEMORY in walls:
            own = summarize(walls[label]).median
            figures.append(
                Requirement(
                    label=f"{COPIES} × {IN_MEMORY} / {label}",
                    measured=summarize([COPIES * wall / own for wall in walls[IN_MEMORY]]),
                    unit="",
                    digits=1,
                    limit=limit,
                    at_least=True,
                )
            )
    peaks = [cost.peak_bytes / MIB for label in (SWEEP, FRESH_SWEEP) for cost in samples[label]]
    figures.append(
        Requirement(
            label="peak RSS with seven percents",
            measured=summarize(peaks),
            unit=" MiB",
            digits=1,
            limit=384,
        )
    )
    return figures


def tabulate(requirements: Sequence[Requirement], samples: Samples) -> str:
    """Return the one table: requirements first, then what they were computed from."""
    rows = [requirement.row() for requirement in requirements]
    for label, costs in samples.items():
        runs = f"{len(costs)} runs" if len(costs) > 1 else "1 run"
        walls = summarize([cost.wall_seconds for cost in costs])
        rows.append((*_cells(f"{label}: wall time, {runs}", walls, " s", 2), "", ""))
        if label not in (HELP, TYPER):
            processor = summarize([cost.cpu_seconds for cost in costs])
            peaks = summarize([cost.peak_bytes / MIB for cost in costs])
            rows.append((*_cells(f"{label}: processor time", processor, " s", 2), "", ""))
            rows.append((*_cells(f"{label}: peak RSS", peaks, " MiB", 0), "", ""))
    others = summarize([cost.other_cores for cost in (*samples[FLOOR], *samples[OURS])])
    rows.append((*_cells("cores kept busy by anything else", others, "", 2), "", ""))
    return markdown(("", "median", "min – max", "required", "holds"), rows)


def _cells(label: str, spread: Spread, unit: str, digits: int) -> tuple[str, str, str]:
    least, median, most = (
        f"{value:,.{digits}f}" for value in (spread.least, spread.median, spread.most)
    )
    return label, f"{median}{unit}", f"{least} – {most}"


def _record(requirements: Sequence[Requirement], samples: Samples) -> dict[str, object]:
    return {
        "requirements": [
            {**asdict(requirement), "holds": requirement.holds} for requirement in requirements
        ],
        "samples": {
            label: [
                {
                    "wall_seconds": cost.wall_seconds,
                    "cpu_seconds": cost.cpu_seconds,
                    "peak_bytes": cost.peak_bytes,
                    "other_cores": cost.other_cores,
                }
                for cost in costs
            ]
            for label, costs in samples.items()
        },
    }


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the results; 1 if a requirement fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted rounds (default: 5)")
    parser.add_argument(
        "--in-memory-runs", type=int, default=3, help="0 leaves it out; it needs 23 GB of memory"
    )
    parser.add_argument("--no-check", action="store_true", help="exit with 0 in any case")
    add_folder_option(parser)
    parsed = parser.parse_args(arguments)
    samples = run_contest(parsed.folder, runs=parsed.runs, in_memory_runs=parsed.in_memory_runs)
    requirements = judge(samples)
    table = tabulate(requirements, samples)
    print(table)
    write_results("compare", TITLE, table, _record(requirements, samples))
    failed = not all(requirement.holds for requirement in requirements)
    return int(failed and not parsed.no_check)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
