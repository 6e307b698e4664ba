"""``shardrestore run``: restore and write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from . import options as o
from .outcome import print_result, printable, reports_errors, tell_resume
from .progress import ProgressBars
from .push import Upload, check_flags, write_command
from .push import describe as describe_push
from .summary import describe, describe_sweep

if TYPE_CHECKING:
    from shardrestore import Pushed, TargetOutcome


@partial(reports_errors, tell_kept=lambda options: tell_resume(options["output"]))
def run(
    base: o.Base,
    target: o.Targets,
    output: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="Where to write the model. Several models go into folders restore_REGION_"
            "STRATEGY_PERCENTpct in it; of several targets, into a folder for each.",
        ),
    ],
    percent: o.Percents = ["10"],  # noqa: B006
    region: o.Regions = ["transformer"],  # noqa: B006
    include: o.Include = [],  # noqa: B006
    exclude: o.Exclude = [],  # noqa: B006
    rename: o.Rename = [],  # noqa: B006
    strategy: o.Strategies = ["top"],  # noqa: B006
    seed: o.Seed = 32,
    profile: o.Profile = None,
    device: o.Device = "auto",
    workers: o.Workers = None,
    max_memory: o.MaxMemory = "512MiB",
    max_device_memory: o.MaxDeviceMemory = "1GiB",
    stream: o.Stream = None,
    approximate: o.Approximate = False,
    dtype: o.Dtype = "auto",
    allow_nonfinite: o.AllowNonfinite = False,
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    checksum: o.Checksum = False,
    no_report: o.NoReport = False,
    push_to: o.PushTo = None,
    public: o.Public = False,
    revision: o.Revision = None,
    delete_after_upload: o.DeleteShards = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Restore weights and write a complete model folder."""
    percents = o.parse_percents(percent)
    regions = o.parse_choices(region, o.REGIONS, "--region")
    strategies = o.parse_choices(strategy, o.STRATEGIES, "--strategy")
    upload: Upload = {"public": public, "revision": revision}
    models = len(target) * len(percents) * len(regions) * len(strategies)
    check_flags(push_to, models=models, **upload, delete_after_upload=delete_after_upload)
    import shardrestore

    if push_to is not None and not delete_after_upload:  # otherwise `restore_to_hub` does
        shardrestore.check_push(push_to, revision=revision)
    settings = shardrestore.Options(
        region=regions,
        include=include,
        exclude=exclude,
        rename=rename,
        strategy=strategies,
        seed=seed,
        profile=profile,
        device=device,
        workers=workers,
        max_memory=max_memory,
        max_device_memory=max_device_memory,
        stream=stream,
        approximate=approximate,
        dtype=dtype,
        allow_nonfinite=allow_nonfinite,
        overwrite=overwrite,
        resume=resume,
        checksum=checksum,
        report=not no_report,
    )
    bars = ProgressBars(quiet=quiet)
    if len(target) > 1:
        outcomes = shardrestore.sweep_targets(
            base, target, output, percents=percents, observer=bars, **settings
        )
        print_outcomes(outcomes, output, as_json=as_json, quiet=quiet)
        return
    sides, pushed = (base, target[0], output), None
    if len(percents) * len(regions) * len(strategies) > 1:
        results = shardrestore.sweep(*sides, percents=percents, observer=bars, **settings)
    elif push_to is not None and delete_after_upload:
        result, pushed = shardrestore.restore_to_hub(
            *sides, push_to, percent=percents[0], observer=bars, **upload, **settings
        )
        results = (result,)
    else:
        results = (shardrestore.restore(*sides, percent=percents[0], observer=bars, **settings),)
    documents = [shardrestore.summarize(result) for result in results]
    if not (as_json or quiet):
        print_result(describe(results[0]) if len(results) == 1 else describe_sweep(results))
    if push_to is not None:
        pushed = pushed or push_finished(output, push_to, bars, **upload)
        documents[0]["pushed"] = shardrestore.summarize(pushed)
        if not (as_json or quiet):
            print_result(f"\n{describe_push(pushed)}")
    if as_json:
        document = documents[0] if len(documents) == 1 else {"runs": documents}
        print_result(json.dumps(document, indent=2))


def push_finished(
    output: str, repository: str, bars: ProgressBars, **upload: Unpack[Upload]
) -> Pushed:
    """Push the model that has been written; what stops it says that the model is complete.

    But not if it is not: its weights may have been deleted after an earlier push.
    """
    from shardrestore import CheckpointError, ShardRestoreError, push

    command = write_command(output, repository, **upload)
    advice = f"the model is complete in {output}; to push it:\n  {command}"
    try:
        return push(output, repository, observer=bars, **upload)
    except CheckpointError:
        raise
    except ShardRestoreError as error:
        raise type(error)(f"{error}\n{advice}") from error
    except KeyboardInterrupt:
        typer.echo(printable(advice), err=True)
        raise


def print_outcomes(
    outcomes: Sequence[TargetOutcome], output: str, *, as_json: bool, quiet: bool
) -> None:
    """Print what became of several targets; exit with 1 if one of them failed."""
    from shardrestore import summarize

    failures = [outcome for outcome in outcomes if outcome.error is not None]
    results = [result for outcome in outcomes for result in outcome.restorations]
    if as_json:
        document = {
            "runs": [summarize(result) for result in results],
            "failures": [
                {"target": failure.target, "error": str(failure.error)} for failure in failures
            ],
        }
        print_result(json.dumps(document, indent=2))
    elif not quiet:
        parts = [describe_sweep(done.restorations) for done in outcomes if done.restorations]
        finished = f"{len(outcomes) - len(failures)} of {len(outcomes)} targets restored"
        print_result("\n\n".join([*parts, finished]))
    for failure in failures:
        text = str(failure.error).removeprefix(f"target {failure.target}: ")
        typer.echo(printable(f"error: target {failure.target}: {text}"), err=True)
    if any(failure.error and failure.error.resumable for failure in failures):
        advice = tell_resume(output)
        typer.echo(printable(advice.removeprefix("\n")), err=True)
    if failures:
        raise typer.Exit(1)
