"""``shardrestore run``: restore and write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import typer

from .options import takes_options
from .outcome import advise_resume, print_result, printable
from .progress import ProgressBars
from .push import Upload, check_upload, count_models, write_command
from .push import describe as describe_push
from .summary import describe, describe_notes, describe_sweep

if TYPE_CHECKING:
    from shardrestore import Options, Pushed, Restoration, TargetOutcome


@takes_options(describe_kept=lambda options: advise_resume(options["output"]))
def run(
    base: str,
    targets: list[str],
    output: str,
    *,
    percents: list[float],
    push_to: str | None,
    delete_after_upload: bool,
    public: bool,
    revision: str | None,
    quiet: bool,
    as_json: bool,
    **options: Unpack[Options],
) -> None:
    """Restore weights and write a complete model folder."""
    upload: Upload = {"public": public, "revision": revision}
    models = count_models(targets, percents, options)
    check_upload(push_to, models=models, **upload, delete_after_upload=delete_after_upload)
    import shardrestore

    if push_to is not None and not delete_after_upload:  # otherwise `restore_to_hub` does
        shardrestore.check_push(push_to, revision=revision)
    bars = ProgressBars(quiet=quiet)
    if len(targets) > 1:
        outcomes = shardrestore.sweep_targets(
            base, targets, output, percents=percents, observer=bars, **options
        )
        print_outcomes(outcomes, output, as_json=as_json, quiet=quiet)
        return
    sides, pushed = (base, targets[0], output), None
    if models > 1:
        results = shardrestore.sweep(*sides, percents=percents, observer=bars, **options)
    elif push_to is not None and delete_after_upload:
        result, pushed = shardrestore.restore_to_hub(
            *sides, push_to, percent=percents[0], observer=bars, **upload, **options
        )
        results = (result,)
    else:
        results = (shardrestore.restore(*sides, percent=percents[0], observer=bars, **options),)
    documents = [shardrestore.summarize(result) for result in results]
    if not (as_json or quiet):
        print_result(describe(results[0]) if len(results) == 1 else describe_sweep(results))
    if push_to is not None:
        pushed = pushed or push_finished(output, push_to, bars, **upload)
        documents[0]["pushed"] = shardrestore.summarize(pushed)
        if not (as_json or quiet):
            print_result(f"\n{describe_push(pushed)}")
    if not (as_json or quiet):
        print_notes(results)
    if as_json:
        document = documents[0] if len(documents) == 1 else {"runs": documents}
        print_result(json.dumps(document, indent=2))


def print_notes(results: Sequence[Restoration]) -> None:
    """Print what must not be missed, after everything else."""
    notes = describe_notes(results)
    if notes:
        print_result(f"\n{notes}")


def push_finished(
    output: str, repository: str, bars: ProgressBars, **upload: Unpack[Upload]
) -> Pushed:
    """Push the model that has been written; errors add that the model is complete.

    Except a CheckpointError: its weights may have been deleted after an earlier push.
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
    """Print the outcome of each target; exit with 1 if one of them failed."""
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
        print_notes(results)
    for failure in failures:
        text = str(failure.error).removeprefix(f"target {failure.target}: ")
        typer.echo(printable(f"error: target {failure.target}: {text}"), err=True)
    if any(failure.error and failure.error.resumable for failure in failures):
        advice = advise_resume(output)
        typer.echo(printable(advice.removeprefix("\n")), err=True)
    if failures:
        raise typer.Exit(1)
