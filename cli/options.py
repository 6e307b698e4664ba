"""Options that several commands share, each declared once."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Base = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="Checkpoint before fine-tuning: a folder, or a repository on the Hub, org/name or "
        "org/name@revision.",
    ),
]
Target = Annotated[
    str, typer.Option(metavar="MODEL", help="Checkpoint after fine-tuning, named likewise.")
]
Percents = Annotated[
    list[str],
    typer.Option(
        "-k",
        "--percent",
        metavar="PERCENT",
        help="Share of the region to restore: 10, or several: 1,3,5,10.",
    ),
]
Targets = Annotated[
    list[str],
    typer.Option(
        "--target",
        metavar="MODEL",
        help="Checkpoint after fine-tuning, named likewise. Repeatable: see --output.",
    ),
]
Regions = Annotated[
    list[str],
    typer.Option(
        "--region",
        metavar="REGION",
        help="Tensors that take part: transformer, attention, mlp, embedding or all; several: "
        "attention,mlp. `plan` shows what each means.",
    ),
]
Include = Annotated[
    list[str],
    typer.Option(metavar="RE", help="Only tensors that match. Repeatable."),
]
Exclude = Annotated[
    list[str], typer.Option(metavar="RE", help="No tensors that match. Repeatable.")
]
Rename = Annotated[
    list[str],
    typer.Option(metavar="REGEX=REPL", help="Rename the base's tensors. Repeatable."),
]
Strategies = Annotated[
    list[str],
    typer.Option(
        "--strategy",
        metavar="STRATEGY",
        help="Restore the most changed (top), the least changed (bottom) or random weights; "
        "several: top,random.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="What `scan` saved of these models: saves reading twice."),
]
ShownPercents = Annotated[
    list[str],
    typer.Option(
        "-k",
        "--percent",
        metavar="PERCENT",
        help="Of a profile: share of the region to restore: 10, or several: 1,3,5,10.",
        show_default="10",
    ),
]
ShownRegions = Annotated[
    list[str],
    typer.Option(
        "--region",
        metavar="REGION",
        help="Of a profile: transformer, attention, mlp, embedding or all, or several.",
        show_default="transformer",
    ),
]
ShownStrategies = Annotated[
    list[str],
    typer.Option(
        "--strategy",
        metavar="STRATEGY",
        help="Of a profile: restore the most changed (top) or the least changed (bottom).",
        show_default="top",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the random strategy.")]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:N]|mps",
        help="Where to compute; several GPUs as in "
        "cuda:0,cuda:1. auto takes a GPU only with --max-memory 2GiB or more.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", help="Worker threads at most.", show_default="one per processor"),
]
MaxMemory = Annotated[
    str, typer.Option(metavar="SIZE", help="Budget for the whole process, such as 1GiB.")
]
MaxDeviceMemory = Annotated[
    str, typer.Option(metavar="SIZE", help="Budget on each GPU, such as 512MiB.")
]
Stream = Annotated[
    Literal["base", "target", "both"] | None,
    typer.Option(
        help="Do not download it: read it from the Hub as often as it is needed.",
        show_default="download",
    ),
]
Approximate = Annotated[
    bool,
    typer.Option(
        "--approximate",
        help="Skip the refining scan of float32 and float16 models: still exactly K weights, "
        "but those near the cut are taken as equals (scores within 0.8 %).",
    ),
]
Dtype = Annotated[
    Literal["auto", "bf16", "fp16", "fp32"],
    typer.Option(help="Cast both models and the output; auto keeps every tensor as it is."),
]
AllowNonfinite = Annotated[
    bool, typer.Option("--allow-nonfinite", help="Go on with NaN or infinite weights.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the model in the output folder.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an unfinished run of the same command.")
]
Checksum = Annotated[
    bool, typer.Option("--checksum", help="Write SHA256SUMS beside the model's files.")
]
NoReport = Annotated[
    bool, typer.Option("--no-report", help="Leave out report.html, the page for people.")
]
PushTo = Annotated[
    str | None,
    typer.Option(metavar="ORG/NAME", help="Upload the finished model to the Hub: see `push`."),
]
DeleteShards = Annotated[
    bool,
    typer.Option(
        "--delete-after-upload",
        help="Upload each shard once it is complete, and delete it here when the Hub has "
        "confirmed it, before the next is written: the disk holds one. With --push-to.",
    ),
]
Public = Annotated[
    bool,
    typer.Option("--public", help="Let everybody see a repository that is created for the model."),
]
Revision = Annotated[
    str | None,
    typer.Option(
        metavar="BRANCH", help="Push to this branch; created if missing.", show_default="main"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


REGIONS = ("transformer", "attention", "mlp", "embedding", "all")
STRATEGIES = ("top", "bottom", "random")


def parse_choices(texts: list[str], known: tuple[str, ...], option: str) -> list[str]:
    """Return the choices of ``--region a,b --region c``; wrong usage if one is unknown."""
    choices = [part.strip() for text in texts for part in text.split(",")]
    for choice in choices:
        if choice not in known:
            raise typer.BadParameter(
                f"{choice!r} is not one of {', '.join(known)}", param_hint=f"'{option}'"
            )
    return choices


def parse_percents(texts: list[str]) -> list[float]:
    """Return the numbers of ``-k 1,3 -k 5``; wrong usage if one is no number."""
    try:
        return [float(part) for text in texts for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"{','.join(texts)}: expected numbers, such as 10 or 1,3,5", param_hint="'-k'"
        ) from error
