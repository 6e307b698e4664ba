"""Time over workers, block sizes, page cache and percents, and where it goes.

Each question is answered by contenders that take turns; ratios are to the first of
them, of each round. Block sizes and the traced run go through the library
(``benchmarks.contenders.library``), everything else through the command line. Fails if tracing
costs more than 5 %: what it says would then not be of the run that users have.

A cold run reads files that were evicted from this machine's page cache; where the disk is
a virtual one, its host may still hold them. The floor beside it reads from the same place.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from .contenders.contest import measure_floor
from .harness import page_cache
from .harness.options import make_parser, numbers
from .harness.process import Cost, measure
from .harness.requirements import Requirement
from .harness.results import Results, publish
from .harness.shares import Traced, tabulate_shares
from .harness.table import MIB, Row, Table, spread_cells, summarize
from .harness.tool import measure_run
from .harness.turns import Samples, record_samples, round_ratios, take_turns, walls
from .models.pairs import BILLION, make_pair

TITLE = "shardrestore run over workers, block sizes, page cache and percents"

BLOCK_KIB = (256, 512, 1024, 2048, 4096, 8192)
"""Sizes of blocks; the library's own is 1024."""
OWN_BLOCK_KIB = 1024

TRACING_LIMIT = 1.05
PLAIN, TRACED = "not traced", "traced"

Contenders = Mapping[str, Callable[[], Cost]]


class Bench:
    """A pair, and the runs on it that take turns.

    Parameters
    ----------
    pair : Path
        Holds ``base`` and ``target``.
    output : Path
        Is made and removed by each run.
    workers : int
        Where their number is not what is asked.
    """

    def __init__(self, pair: Path, output: Path, *, workers: int) -> None:
        self.pair = pair
        self.output = output
        self.workers = workers
        self.traced: list[Traced] = []
        """Every traced run, the uncounted one too."""
        shutil.rmtree(output, ignore_errors=True)

    def run(self, *, workers: int | None = None, percents: str = "10", cold: bool = False) -> Cost:
        """Run the command line."""
        if cold:
            page_cache.evict(self.pair)
        return measure_run(
            self.pair, self.output, percents=percents, workers=workers or self.workers
        )[0]

    def floor(self, *, copies: int = 1, cold: bool = False) -> Cost:
        """Do the least that must be done with files."""
        if cold:
            page_cache.evict(self.pair)
        return measure_floor(self.pair, self.output, copies=copies)

    def engine(self, *options: str) -> Cost:
        """Run through the library."""
        sides = (str(self.pair / "base"), str(self.pair / "target"), str(self.output))
        command = [sys.executable, "-m", "benchmarks.contenders.library", *sides]
        try:
            cost = measure([*command, "--workers", str(self.workers), *options])
        finally:
            shutil.rmtree(self.output, ignore_errors=True)
        if "--trace" in options:
            self.traced.append(Traced(**cost.document()))
        return cost


def list_questions(
    bench: Bench, *, workers: Sequence[int], blocks_kib: Sequence[int], percents: int
) -> dict[str, Contenders]:
    """Return the contenders of each question; ratios are to the first."""
    blocks = [OWN_BLOCK_KIB, *(size for size in blocks_kib if size != OWN_BLOCK_KIB)]
    sweeps = [",".join(map(str, range(1, count + 1))) for count in range(1, percents + 1)]
    questions: dict[str, Contenders] = {
        "Worker threads": {
            f"{count} worker{'s' if count > 1 else ''}": partial(bench.run, workers=count)
            for count in workers
        },
        "Block size": {
            f"{size} KiB": partial(bench.engine, "--block-bytes", str(size * 1024))
            for size in blocks
        },
        "Percents in one run": {
            **{f"-k {sweep}": partial(bench.run, percents=sweep) for sweep in sweeps},
            f"I/O floor of the last: {percents} × copied": partial(bench.floor, copies=percents),
        },
        "Tracing": {PLAIN: bench.engine, TRACED: partial(bench.engine, "--trace")},
    }
    for warmth, cold in (("Warm", False), ("Cold", True)):
        if page_cache.AVAILABLE or not cold:
            questions[f"{warmth} page cache"] = {
                "I/O floor": partial(bench.floor, cold=cold),
                "shardrestore run": partial(bench.run, cold=cold),
            }
    return questions


def tabulate(question: str, samples: Samples) -> Table:
    """Return the table of a question, ratios first."""
    first, *_ = samples
    rows: list[Row] = []
    for label, costs in samples.items():
        ratio, extremes = spread_cells(summarize(round_ratios(costs, samples[first])), " ×", 2)
        wall, _ = spread_cells(summarize(walls(costs)), " s", 2)
        processor, _ = spread_cells(summarize(cost.cpu_seconds for cost in costs), " s", 2)
        peak, _ = spread_cells(summarize(cost.peak_bytes / MIB for cost in costs), " MiB", 0)
        rows.append((label, ratio, extremes, wall, processor, peak))
    head = ("", f"time / {first}", "min – max", "wall", "processor", "peak RSS")
    return Table(caption=question, head=head, rows=tuple(rows))


def judge_tracing(samples: Samples) -> Requirement:
    """Return what tracing costs, in processor time.

    It adds work and no waiting: 0.3 µs to each of 75,000 calls. Wall times of the same run
    vary by more than that (measured over 8 rounds: processor time 1.01 ×, wall 0.93 ×).
    """
    plain = summarize(cost.cpu_seconds for cost in samples[PLAIN]).median
    return Requirement(
        label="Processor time, traced / not traced",
        measured=summarize(cost.cpu_seconds / plain for cost in samples[TRACED]),
        digits=3,
        limit=TRACING_LIMIT,
    )


def describe(answers: Mapping[str, Samples], traced: Sequence[Traced]) -> Results:
    """Return what was found."""
    tracing = judge_tracing(answers["Tracing"])
    problem = tracing.problem()
    figure = tracing.measured.median
    tables = [tabulate(question, samples) for question, samples in answers.items()]
    return Results(
        name="scaling",
        title=TITLE,
        tables=(*tables, tabulate_shares(traced)),
        remarks=(f"{tracing.label}: {figure:.3f} × (at most {TRACING_LIMIT:g}).",),
        problems=(problem,) if problem else (),
        samples={
            "questions": {
                question: record_samples(samples) for question, samples in answers.items()
            },
            "traced": [asdict(run) for run in traced],
        },
    )


def measure_all(questions: Mapping[str, Contenders], runs: int) -> dict[str, Samples]:
    """Answer each question."""
    answers = {}
    for question, contenders in questions.items():
        print(f"{question}:", file=sys.stderr)
        answers[question] = take_turns(contenders, runs)
    return answers


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, write the results; 1 if tracing is not to be trusted."""
    parser = make_parser("scaling", __doc__)
    cores = os.cpu_count() or 1
    parser.add_argument("--runs", type=int, default=5, help="counted rounds (default: 5)")
    parser.add_argument(
        "--workers",
        type=numbers,
        default=tuple(range(1, cores + 1)),
        help="numbers of threads, 1,2,4 for example (default: from 1 to one for each processor)",
    )
    parser.add_argument("--blocks", type=numbers, default=BLOCK_KIB, help="sizes in KiB")
    parser.add_argument("--percents", type=int, default=7, help="percents in one run, at most")
    parser.add_argument("--pair", type=Path, help="another pair: holds base and target")
    parsed = parser.parse_args(arguments)
    pair = parsed.pair.resolve() if parsed.pair else make_pair(BILLION, parsed.folder)
    parsed.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(pair, parsed.folder / "output", workers=cores)
    questions = list_questions(
        bench, workers=parsed.workers, blocks_kib=parsed.blocks, percents=parsed.percents
    )
    answers = measure_all(questions, parsed.runs)
    return publish(describe(answers, bench.traced[-parsed.runs :]), parsed.results)
