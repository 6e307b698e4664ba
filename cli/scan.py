"""``shardrestore scan``: read the weights once, keep what was found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Unpack

from .distribution import describe_distribution
from .options import takes_options
from .outcome import print_result
from .progress import ProgressBars

if TYPE_CHECKING:
    from shardrestore import ScanOptions


@takes_options()
def scan(
    base: str,
    target: str,
    output: str,
    *,
    quiet: bool,
    as_json: bool,
    **options: Unpack[ScanOptions],
) -> None:
    """Measure the change of every weight and save it as a profile, for `run` and `show`."""
    import shardrestore

    bars = ProgressBars(quiet=quiet)
    overview = shardrestore.scan(base, target, output, observer=bars, **options)
    if as_json:
        print_result(json.dumps(shardrestore.summarize(overview), indent=2))
    elif not quiet:
        print_result(describe_distribution(overview))
