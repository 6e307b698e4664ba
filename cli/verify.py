"""``shardrestore verify``: check a finished model folder against its record and inputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Unpack

import typer

from .options import takes_options
from .outcome import print_result
from .progress import ProgressBars
from .text import format_bytes, format_facts, format_mib

if TYPE_CHECKING:
    from shardrestore import Verification, VerifyOptions


@takes_options()
def verify(
    output: str,
    *,
    base: str | None,
    target: str | None,
    score: str | None,
    inputs: bool,
    quiet: bool,
    as_json: bool,
    **options: Unpack[VerifyOptions],
) -> None:
    """Check every element of a finished model against its inputs."""
    import shardrestore

    result = shardrestore.verify(
        output,
        base=base,
        target=target,
        score=score,
        inputs=inputs,
        observer=ProgressBars(quiet=quiet),
        **options,
    )
    if as_json:
        print_result(json.dumps(shardrestore.summarize(result), indent=2))
    elif not quiet:
        print_result(describe(result))
    for problem in result.problems:
        typer.echo(f"error: {problem}", err=True)
    if not result.ok:
        raise typer.Exit(1)


def describe(result: Verification) -> str:
    """Return what was found, as people read it."""
    from shardrestore import SCORES

    if result.ok:
        head = (
            f"verified: exactly {result.selected_elements:,} of {result.region_elements:,} "
            "elements restored,\nevery element is the base's or the target's, none out of rank"
        )
    else:
        head = "NOT verified: the model is not what its record says"
    if result.differing_elements:
        head += f"; wrong elements: {result.differing_elements:,}"
    speed = format_bytes(result.compared_bytes / max(result.seconds, 1e-9))
    compared = f"{result.tensors} tensors, {format_bytes(result.compared_bytes)}"
    facts = [("output", str(result.output)), ("compared", compared)]
    if result.hashed_input_bytes is not None:
        hashed = f"{format_bytes(result.hashed_input_bytes)} on the Hub are what is listed there"
        facts.append(("inputs", hashed))
    if result.threshold is not None:
        facts.append(("threshold", f"{SCORES[result.score].label} {result.threshold:.6g}"))
    facts += [
        ("ties", f"{result.ties:,} at the cut, {result.ties_taken:,} of them restored"),
        ("time", f"{result.seconds:.2f} s: {speed}/s of the output"),
        ("peak memory", format_mib(result.peak_rss_bytes)),
    ]
    return "\n".join([head, "", format_facts(facts)])
