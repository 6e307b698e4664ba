"""Streaming against downloading, from a Hub on this machine, from an empty cache.

The loopback Hub of the tests serves the pair; both contenders end in the same model. A
download stores each weight once and reads it twice; streaming moves it twice and stores
nothing. Fails if streaming is slower than ``LEAST_SPEED`` of downloading, or holds more
than ``PEAK_MIB``. Needs room for the pair twice, and for a model.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from .harness.options import make_parser
from .harness.process import ROOT, Cost, measure
from .harness.requirements import HEAD, Requirement, plain_row
from .harness.results import Results, publish
from .harness.scratch import scratch_folder
from .harness.table import MIB, Table, summarize
from .harness.tool import COMMAND
from .harness.turns import record_samples, take_turns, walls
from .models.pairs import BILLION, make_pair

TITLE = "shardrestore run from a Hub on this machine, 2 workers"

REMARK = (
    "Client and Hub share the machine's processors, with no network between them: what is "
    "compared is their work, not a line's speed."
)

LEAST_SPEED = 0.7
PEAK_MIB = 320

STREAM = "--stream both"
DOWNLOAD = "download, then restore"
LOCAL = "from a local folder"


def main(arguments: Sequence[str]) -> int:
    """Measure by turns, print the table, write the results; 1 after a problem."""
    parser = make_parser("hub", __doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default: 3)")
    parsed = parser.parse_args(arguments)
    pair = make_pair(BILLION, parsed.folder)
    with scratch_folder(parsed.folder, "hub") as folder, serving(pair) as variables:
        contenders = {
            STREAM: partial(run_from_hub, folder, variables, "--stream", "both"),
            DOWNLOAD: partial(run_from_hub, folder, variables),
            LOCAL: partial(run, pair / "base", pair / "target", folder, {}),
        }
        samples = take_turns(contenders, parsed.rounds)
    speeds = [
        download / stream
        for download, stream in zip(walls(samples[DOWNLOAD]), walls(samples[STREAM]), strict=True)
    ]
    peaks = [cost.peak_bytes / MIB for cost in samples[STREAM]]
    shares = [
        cost.peak_bytes / cost.document()["projected_bytes"]
        for label in (STREAM, DOWNLOAD)
        for cost in samples[label]
    ]
    required = (
        Requirement(
            label="speed of streaming / of downloading",
            measured=summarize(speeds),
            digits=2,
            limit=LEAST_SPEED,
            at_least=True,
        ),
        Requirement(
            label="peak RSS of streaming",
            measured=summarize(peaks),
            unit=" MiB",
            digits=0,
            limit=PEAK_MIB,
        ),
        Requirement(
            label="largest peak RSS of both / its projection",
            measured=summarize([max(shares)]),
            digits=2,
            limit=1.0,
        ),
    )
    rows = [one.row() for one in required]
    rows += [plain_row(label, summarize(walls(costs)), " s", 2) for label, costs in samples.items()]
    download_peaks = summarize([cost.peak_bytes / MIB for cost in samples[DOWNLOAD]])
    rows.append(plain_row("peak RSS of downloading", download_peaks, " MiB", 0))
    results = Results(
        name="hub",
        title=TITLE,
        tables=(Table(head=HEAD, rows=tuple(rows)),),
        samples=record_samples(samples),
        remarks=(REMARK,),
        problems=tuple(problem for one in required if (problem := one.problem())),
    )
    return publish(results, parsed.results)


@contextmanager
def serving(pair: Path) -> Iterator[dict[str, str]]:
    """Serve a pair as acme/base and acme/target; yield the variables that lead there."""
    sides = [f"acme/{side}={pair / side}" for side in ("base", "target")]
    command = [sys.executable, "-m", "tests.support.hub", *sides]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as hub:
        try:
            assert hub.stdout is not None
            variables = {}
            for line in hub.stdout:
                name, _, value = line.strip().removeprefix("export ").partition("=")
                variables[name] = value
                if name == "HF_TOKEN":
                    break
            yield variables
        finally:
            hub.terminate()


def run_from_hub(folder: Path, variables: dict[str, str], *options: str) -> Cost:
    """Restore from an empty cache, which is removed afterwards."""
    cache = folder / "huggingface"
    shutil.rmtree(cache, ignore_errors=True)
    environment = {**variables, "HF_HOME": str(cache)}
    try:
        return run("acme/base", "acme/target", folder, environment, *options)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def run(
    base: str | Path, target: str | Path, folder: Path, environment: dict[str, str], *options: str
) -> Cost:
    """Restore 10 %; the model is removed afterwards."""
    output = folder / "output"
    command = [*COMMAND, "run", "--base", str(base), "--target", str(target), "-k", "10"]
    command += ["--output", str(output), "--workers", "2", "--quiet", "--json", *options]
    try:
        return measure(command, environment=environment)
    finally:
        shutil.rmtree(output, ignore_errors=True)
