"""The command line that is measured, as a user starts it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .process import Cost, measure

COMMAND = (sys.executable, "-m", "shardrestore_cli.main")


def make_profile(pair: Path, folder: Path) -> Path:
    """Scan a pair; return the profile, which is written into `folder` anew."""
    profile = folder / "benchmark.profile.safetensors"
    sides = ["--base", str(pair / "base"), "--target", str(pair / "target")]
    measure([*COMMAND, "scan", *sides, "--output", str(profile), "--overwrite", "--quiet"])
    return profile


def measure_run(
    pair: Path,
    output: Path,
    options: Sequence[str] = (),
    *,
    percents: str = "10",
    workers: int | None = 2,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    keep: bool = False,
) -> tuple[Cost, dict[str, Any]]:
    """Measure ``shardrestore run`` on a pair.

    Parameters
    ----------
    pair, output : Path
        `pair` holds ``base`` and ``target``.
    options : sequence of str
    percents : str
    workers : int or None
        None leaves their number to the command.
    environment : mapping, optional
        Variables to set besides those of this process.
    prefix : sequence of str
        A command that becomes the one whose words follow its own.
    keep : bool
        Whether a finished output stays; else it is removed, as after a failure.

    Returns
    -------
    cost : Cost
    result : dict
        What ``--json`` says; of several runs, the first.
    """
    command = [*prefix, *COMMAND, "run", "--base", str(pair / "base")]
    command += ["--target", str(pair / "target"), "--output", str(output), "-k", percents]
    command += ["--json", "--quiet", *options]
    if workers is not None:
        command += ["--workers", str(workers)]
    finished = False
    try:
        cost = measure(command, environment=environment)
        finished = True
    finally:
        if not (keep and finished):
            shutil.rmtree(output, ignore_errors=True)
    document = cost.document()
    first: dict[str, Any] = document["runs"][0] if "runs" in document else document
    return cost, first


def without_paths(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``--json`` says without the folders, which are of one machine."""
    return {key: value for key, value in document.items() if key != "outputs"}
