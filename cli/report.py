"""``shardrestore report``: a profile or a finished model as a page to look at."""

from __future__ import annotations

from .options import takes_options
from .outcome import print_result
from .text import format_bytes, format_facts


@takes_options()
def report(
    path: str,
    output: str,
    *,
    percents: list[float] | None,
    region: list[str] | None,
    strategy: list[str] | None,
    score: str | None,
    max_memory: str,
    png: bool,
    overwrite: bool,
) -> None:
    """Write a page that shows where a model has changed, and what each percent restores."""
    import shardrestore

    written = shardrestore.write_report(
        path,
        output,
        percents=percents,
        region=region,
        strategy=strategy,
        score=score,
        max_memory=max_memory,
        png=png,
        overwrite=overwrite,
    )
    sizes = [(str(file), format_bytes(file.stat().st_size)) for file in written]
    print_result(format_facts(sizes))
