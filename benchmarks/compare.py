"""Time and memory beside the I/O floor, the in-memory algorithm and mergekit, in one run.

10 % of a 1.1-billion-parameter bfloat16 pair, and a sweep over seven percents of it;
2 workers, warm page cache. Everything is a whole process, and what is compared takes
turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .contenders.contest import (
    COPIES,
    FLOOR,
    FRESH_FLOOR,
    FRESH_SWEEP,
    HELP,
    IN_MEMORY,
    LEAN,
    MERGES,
    OURS,
    SMALL,
    SWEEP,
    SWEEP_FLOOR,
    TYPER,
    Contest,
    run_contest,
)
from .contenders.mergekit import HOW_TO_GET, find_version
from .harness.options import make_parser
from .harness.requirements import HEAD, Requirement, plain_row
from .harness.results import Results, publish
from .harness.table import MIB, Row, Table, summarize
from .harness.turns import Samples, record_samples, round_ratios, walls

TITLE = (
    "10 % of a 1.1-billion-parameter bfloat16 pair, and a sweep of it, 2 workers, warm page cache"
)


def judge(samples: Samples) -> list[Requirement]:
    """Return the figures that something is asked of, and those that others are read by."""
    return [*_judge_times(samples), *_judge_memory(samples), *_judge_start(samples)]


def _judge_times(samples: Samples) -> Iterator[Requirement]:
    yield _against_floor(OURS, FLOOR, samples)
    own = summarize(walls(samples[OURS])).median
    for label, least in (
        (IN_MEMORY, 20),
        (LEAN, None),
        *((merge, None) for merge in MERGES.values()),
    ):
        if label in samples:
            yield Requirement(
                label=f"{label} / {OURS}",
                measured=summarize(wall / own for wall in walls(samples[label])),
                digits=1,
                limit=least,
                at_least=True,
            )
    yield _against_floor(SWEEP, SWEEP_FLOOR, samples)
    yield _against_floor(FRESH_SWEEP, FRESH_FLOOR, samples)
    for label, least in ((SWEEP, 10), (FRESH_SWEEP, None)):
        if IN_MEMORY in samples:
            own = summarize(walls(samples[label])).median
            yield Requirement(
                label=f"{COPIES} × {IN_MEMORY} / {label}",
                measured=summarize(COPIES * wall / own for wall in walls(samples[IN_MEMORY])),
                digits=1,
                limit=least,
                at_least=True,
            )


def _against_floor(own: str, floor: str, samples: Samples) -> Requirement:
    return Requirement(
        label=f"{own} / {floor}, of each round",
        measured=summarize(round_ratios(samples[own], samples[floor])),
        digits=2,
        limit=1.25,
    )


def _judge_memory(samples: Samples) -> Iterator[Requirement]:
    own = [cost.peak_bytes / MIB for cost in samples[OURS]]
    small = [cost.peak_bytes / MIB for cost in samples[SMALL]]
    differences = [a - b for a, b in zip(own, small, strict=True)]
    sweeps = [cost.peak_bytes / MIB for label in (SWEEP, FRESH_SWEEP) for cost in samples[label]]
    smaller = "peak RSS minus that of a pair ten times smaller"
    for label, peaks, most in (
        ("peak RSS with seven percents", sweeps, 384),
        ("peak RSS", own, 256),
        (smaller, differences, 16),
    ):
        yield Requirement(label=label, measured=summarize(peaks), unit=" MiB", digits=1, limit=most)


def _judge_start(samples: Samples) -> Iterator[Requirement]:
    pairs = zip(walls(samples[HELP]), walls(samples[TYPER]), strict=True)
    yield Requirement(
        label=f"{HELP} minus {TYPER}",
        measured=summarize(own - bare for own, bare in pairs),
        unit=" s",
        digits=3,
        limit=0.3,
    )


def tabulate(requirements: Sequence[Requirement], samples: Samples) -> Table:
    """Return the one table: requirements first, then what they were computed from."""
    rows = [requirement.row() for requirement in requirements]
    for label, costs in samples.items():
        runs = f"{len(costs)} runs" if len(costs) > 1 else "1 run"
        rows.append(plain_row(f"{label}: wall time, {runs}", summarize(walls(costs)), " s", 2))
        if label not in (HELP, TYPER):
            processor = summarize(cost.cpu_seconds for cost in costs)
            peaks = summarize(cost.peak_bytes / MIB for cost in costs)
            rows.append(plain_row(f"{label}: processor time", processor, " s", 2))
            rows.append(plain_row(f"{label}: peak RSS", peaks, " MiB", 0))
    rows.append(_others_row(samples))
    return Table(head=HEAD, rows=tuple(rows))


def _others_row(samples: Samples) -> Row:
    others = summarize(cost.other_cores for cost in (*samples[FLOOR], *samples[OURS]))
    return plain_row("cores kept busy by anything else", others, "", 2)


def describe(samples: Samples, mergekit_version: str | None) -> Results:
    """Return what was found."""
    requirements = judge(samples)
    problems = [requirement.problem() for requirement in requirements]
    return Results(
        name="compare",
        title=TITLE,
        tables=(tabulate(requirements, samples),),
        samples=record_samples(samples),
        remarks=() if mergekit_version else (HOW_TO_GET,),
        problems=tuple(problem for problem in problems if problem),
        versions={"mergekit": mergekit_version} if mergekit_version else {},
    )


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the results; 1 if a requirement fails."""
    parser = make_parser("compare", __doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted rounds (default: 5)")
    parser.add_argument(
        "--in-memory-runs",
        type=int,
        default=3,
        help="of what is not ours (default: 3); 0 leaves it out; it needs 23 GB of memory",
    )
    parser.add_argument(
        "--mergekit", metavar="PYTHON", help="interpreter of an environment with mergekit"
    )
    parser.add_argument("--no-check", action="store_true", help="exit with 0 in any case")
    parsed = parser.parse_args(arguments)
    version = find_version(parsed.mergekit) if parsed.mergekit else None
    samples = run_contest(
        Contest(parsed.folder),
        runs=parsed.runs,
        in_memory_runs=parsed.in_memory_runs,
        mergekit=parsed.mergekit,
    )
    status = publish(describe(samples, version), parsed.results)
    return 0 if parsed.no_check else status
