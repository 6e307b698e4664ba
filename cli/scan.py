"""``shardrestore scan``: read the weights once, keep what was found."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from . import options as o
from .distribution import describe_distribution
from .outcome import print_result, reports_errors
from .progress import ProgressBars


@reports_errors
def scan(
    base: o.Base,
    target: o.Target,
    output: Annotated[
        str,
        typer.Option(metavar="FILE", help="The profile to write, say sft.profile.safetensors."),
    ],
    include: o.Include = [],  # noqa: B006
    exclude: o.Exclude = [],  # noqa: B006
    rename: o.Rename = [],  # noqa: B006
    device: o.Device = "auto",
    workers: o.Workers = None,
    max_memory: o.MaxMemory = "512MiB",
    max_device_memory: o.MaxDeviceMemory = "1GiB",
    stream: o.Stream = None,
    dtype: o.Dtype = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the profile if there is one.")
    ] = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Measure the change of every weight and save it as a profile, for `run` and `show`."""
    import shardrestore

    overview = shardrestore.scan(
        base,
        target,
        output,
        observer=ProgressBars(quiet=quiet),
        include=include,
        exclude=exclude,
        rename=rename,
        device=device,
        workers=workers,
        max_memory=max_memory,
        max_device_memory=max_device_memory,
        stream=stream,
        dtype=dtype,
        overwrite=overwrite,
    )
    if as_json:
        print_result(json.dumps(shardrestore.summarize(overview), indent=2))
    elif not quiet:
        print_result(describe_distribution(overview))
