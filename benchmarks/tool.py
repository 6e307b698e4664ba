"""The command line that is measured, as a user starts it."""

from __future__ import annotations

import json
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
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
) -> tuple[Cost, dict[str, Any]]:
    """Measure ``shardrestore run`` on a pair; the output is removed afterwards.

    Returns
    -------
    cost : Cost
    result : dict
        What ``--json`` says; of several runs, the first.
    """
    command = [*COMMAND, "run", "--base", str(pair / "base"), "--target", str(pair / "target")]
    command += ["--output", str(output), "-k", percents, "--workers", str(workers)]
    try:
        cost = measure([*command, "--json", "--quiet", *options], environment=environment)
    finally:
        shutil.rmtree(output, ignore_errors=True)
    document: dict[str, Any] = json.loads(cost.output)
    first: dict[str, Any] = document["runs"][0] if "runs" in document else document
    return cost, first
