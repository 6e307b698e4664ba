"""The options that all benchmarks have."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .results import RESULTS


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark, with ``--folder`` and ``--results``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--folder",
        type=_absolute,
        default=default_folder(),
        help="keeps the pairs and receives the outputs (default: %(default)s)",
    )
    parser.add_argument(
        "--results",
        type=_absolute,
        default=RESULTS,
        help=f"receives {name}.md and {name}.json (default: benchmarks/results)",
    )
    return parser


def add_large_options(parser: argparse.ArgumentParser) -> None:
    """Add what the benchmarks of large models have in common."""
    parser.add_argument("--layers", type=int, help="fewer layers than the model has, for a trial")
    parser.add_argument("--workers", type=int, default=2, help="threads (default: 2)")
    parser.add_argument(
        "--blocks", type=int, default=400, help="random blocks to check (default: 400)"
    )
    parser.add_argument(
        "--floor", action="store_true", help="measure the I/O floor too; takes as long again"
    )


def numbers(text: str) -> tuple[int, ...]:
    """Return whole numbers above zero from ``1,2,4``, for ``type=`` of an option."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected whole numbers above zero, as in 1,2,4"
        )
    return tuple(map(int, parts))


def default_folder() -> Path:
    """Return the folder where pairs are kept: in the user's cache.

    Not the system's temporary folder, which is in memory on many systems: the
    pairs would compete with what is measured.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "shardrestore-benchmarks"


def _absolute(text: str) -> Path:
    return Path(text).resolve()
