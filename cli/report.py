"""``shardrestore report``: a profile or a finished model as a page to look at."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as o
from .outcome import print_result, reports_errors
from .text import format_bytes, format_facts


@reports_errors
def report(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A profile, or the folder of a finished model.")
    ],
    output: Annotated[
        str, typer.Option(metavar="FILE", help="The page to write, an HTML file.")
    ] = "report.html",
    percent: o.ShownPercents = [],  # noqa: B006
    region: o.ShownRegions = [],  # noqa: B006
    strategy: o.ShownStrategies = [],  # noqa: B006
    png: Annotated[
        bool,
        typer.Option(
            "--png", help="Write its main pictures beside it too; needs shardrestore[png]."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
) -> None:
    """Write a page that shows where a model has changed, and what each percent restores."""
    percents = o.parse_percents(percent) if percent else None
    regions = o.parse_choices(region, o.REGIONS, "--region") if region else None
    strategies = o.parse_choices(strategy, o.STRATEGIES, "--strategy") if strategy else None
    import shardrestore

    written = shardrestore.write_report(
        path,
        output,
        percents=percents,
        region=regions,
        strategy=strategies,
        png=png,
        overwrite=overwrite,
    )
    sizes = [(str(file), format_bytes(file.stat().st_size)) for file in written]
    print_result(format_facts(sizes))
