"""The option table: one entry for everything a user can choose, on a command line or in Python.

Each class is a group of keyword arguments, each entry a keyword with its type, its default, its
check, and the commands that take it. To add an option, add an entry: the commands, their help, the
keywords of the Python functions with their documentation, the checks and, by ``make docs``,
``docs/cli.md`` follow. A field of the same name in ``shardrestore.request.Request`` holds its
checked value. The help follows the order of the groups in ``GROUPS``, and of the entries in each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypedDict, get_args, get_type_hints

from ..scores import DEFAULT_SCORE, SCORES
from .checks import (
    check_budget,
    check_device,
    check_file,
    check_flag,
    check_globs,
    check_integer,
    check_size,
    check_stream,
    check_texts,
    check_workers,
    one_of,
    some_of,
)
from .option import Argument, CommandArgument, Keyword, complete

RESTORES = ("run", "plan")
COMPARES = (*RESTORES, "scan")
READS = (*COMPARES, "verify")
SHOWS = ("show", "report")

REGIONS = ("transformer", "attention", "mlp", "embedding", "all")
STRATEGIES = ("top", "bottom", "random")
DTYPES = ("auto", "bf16", "fp16", "fp32")

DEFAULT_PERCENT = 10.0
DEFAULT_MAX_MEMORY = "512MiB"


class Operands(TypedDict, total=False):
    """What a command works on; in Python, parameters of their own."""

    path: Annotated[
        str,
        Argument(
            commands=SHOWS,
            positional=True,
            metavar="PATH",
            text="A profile, or the folder of a finished model.",
        ),
    ]
    base: Annotated[
        str,
        Argument(
            commands=COMPARES,
            metavar="MODEL",
            text="Checkpoint before fine-tuning: a folder, or a repository on the Hub as "
            "org/name or org/name@revision.",
        ),
        Argument(
            commands=("verify",),
            metavar="MODEL",
            default=None,
            text="Where the base is, if it has moved.",
        ),
    ]
    targets: Annotated[
        Sequence[str],
        Argument(
            commands=("run",),
            names=("--target",),
            metavar="MODEL",
            text="Checkpoint after fine-tuning: a folder or a repository, like --base. "
            "Repeatable: see --output.",
        ),
        Argument(
            commands=("plan",),
            names=("--target",),
            metavar="MODEL",
            text="Checkpoint after fine-tuning: a folder or a repository, like --base.",
        ),
    ]
    target: Annotated[
        str,
        Argument(
            commands=("scan",),
            metavar="MODEL",
            text="Checkpoint after fine-tuning: a folder or a repository, like --base.",
        ),
        Argument(
            commands=("verify",),
            metavar="MODEL",
            default=None,
            text="Where the target is, if it has moved.",
        ),
    ]
    output: Annotated[
        str,
        Argument(
            commands=("verify", "push"),
            positional=True,
            metavar="FOLDER",
            text="A model that `run` has written.",
        ),
        Argument(
            commands=("run",),
            metavar="FOLDER",
            text="Where to write the model. Several models go into folders restore_REGION_STRATEGY_"
            "PERCENTpct inside it; with several targets, inside a folder for each target.",
        ),
        Argument(
            commands=("plan",), metavar="FOLDER", default=None, text="Where the result would go."
        ),
        Argument(
            commands=("scan",),
            metavar="FILE",
            text="The profile to write, for example sft.profile.safetensors.",
        ),
        Argument(
            commands=("report",),
            metavar="FILE",
            default="report.html",
            text="The page to write, an HTML file.",
        ),
    ]
    repository: Annotated[
        str,
        Argument(
            commands=("push",),
            positional=True,
            metavar="ORG/NAME",
            text="The repository; it is created if missing.",
        ),
    ]
    inputs: Annotated[
        bool,
        Argument(
            commands=("verify",),
            default=False,
            text="First read all weights of the inputs that are on the Hub, and compare them with "
            "the SHA-256 that their commits list.",
        ),
    ]
    folder: Annotated[
        str,
        Argument(
            commands=("demo",),
            positional=True,
            metavar="[DIR]",
            default="shardrestore-demo",
            text="Where to make them.",
        ),
    ]
    percents: Annotated[
        Sequence[float],
        Argument(
            commands=RESTORES,
            names=("-k", "--percent"),
            metavar="PERCENT",
            default=(DEFAULT_PERCENT,),
            text="Percentage of the region to restore: 10, or several: 1,3,5,10.",
        ),
        Argument(
            commands=SHOWS,
            names=("-k", "--percent"),
            metavar="PERCENT",
            default=None,
            shown_default="10",
            text="For a profile: percentage of the region to restore: 10, or several: 1,3,5,10.",
        ),
    ]


class CutOptions(TypedDict, total=False):
    """Which of the scored weights are restored."""

    region: Annotated[
        str | Sequence[str],
        Keyword(
            default="transformer",
            check=some_of(REGIONS),
            text="Tensors that take part: transformer, attention, mlp, embedding or all.",
            more="A sweep takes several.",
        ),
        Argument(
            commands=RESTORES,
            metavar="REGION",
            choices=REGIONS,
            more="Several: attention,mlp. `plan` shows what each means.",
        ),
        Argument(
            commands=SHOWS,
            metavar="REGION",
            choices=REGIONS,
            default=None,
            shown_default="transformer",
            text="For a profile: transformer, attention, mlp, embedding or all, or several.",
        ),
    ]
    strategy: Annotated[
        str | Sequence[str],
        Keyword(
            default="top",
            check=some_of(STRATEGIES),
            text="Restore the most changed (top), the least changed (bottom) or random weights.",
            more="A sweep takes several.",
        ),
        Argument(
            commands=RESTORES,
            metavar="STRATEGY",
            choices=STRATEGIES,
            more="Several: top,random.",
        ),
        Argument(
            commands=SHOWS,
            metavar="STRATEGY",
            choices=STRATEGIES,
            default=None,
            shown_default="top",
            text="For a profile: restore the most changed (top) or the least changed (bottom).",
        ),
    ]
    seed: Annotated[
        int,
        Keyword(default=32, check=check_integer, text="Seed of the random strategy."),
        Argument(commands=RESTORES, metavar="N"),
    ]
    approximate: Annotated[
        bool,
        Keyword(
            default=False,
            check=check_flag,
            text="Skip the refining scan of float32 and float16 models: exactly K weights are "
            "restored all the same, but scores at the cut count as equal if they differ by less "
            "than 0.8 %.",
        ),
        Argument(commands=RESTORES),
    ]
    allow_nonfinite: Annotated[
        bool,
        Keyword(default=False, check=check_flag, text="Continue despite NaN or infinite weights."),
        Argument(commands=RESTORES),
    ]


class ScoreOptions(TypedDict, total=False):
    """Which tensors are compared, and how."""

    include: Annotated[
        Sequence[str],
        Keyword(
            default=(),
            check=check_texts,
            text="Use only tensors whose names match a regular expression.",
            more="A name must match one of them if there are several.",
        ),
        Argument(commands=COMPARES, metavar="RE", more="Repeatable."),
    ]
    exclude: Annotated[
        Sequence[str],
        Keyword(
            default=(),
            check=check_texts,
            text="Leave out tensors whose names match a regular expression.",
            more="A name that matches any of them is left out.",
        ),
        Argument(commands=COMPARES, metavar="RE", more="Repeatable."),
    ]
    score: Annotated[
        str,
        Keyword(
            default=DEFAULT_SCORE,
            check=one_of(tuple(SCORES)),
            text="What weights are ranked by.",
            more="A key of ``shardrestore.SCORES``.",
        ),
        Argument(commands=COMPARES, choices=tuple(SCORES)),
        Argument(
            commands=("verify", *SHOWS),
            choices=tuple(SCORES),
            default=None,
            shown_default="any",
            text="Refuse what was made with another score.",
        ),
    ]
    rename: Annotated[
        Sequence[str],
        Keyword(
            default=(),
            check=check_texts,
            text="Rename the base's tensors to the target's names.",
            more="Each is a substitution, ``REGEX=REPL``.",
        ),
        Argument(commands=COMPARES, metavar="REGEX=REPL", more="Repeatable."),
    ]
    allow_unpaired: Annotated[
        bool,
        Keyword(
            default=False,
            check=check_flag,
            text="Leave what cannot be paired as it is in the target.",
            more="Otherwise it is refused, and so are other numbers of layers.",
        ),
        Argument(commands=COMPARES),
    ]


class ComputeOptions(TypedDict, total=False):
    """In which format, and where: in memory, the modules decide."""

    dtype: Annotated[
        str,
        Keyword(
            default="auto",
            check=one_of(DTYPES),
            text="Cast both models and the output; auto keeps every tensor as it is.",
            more="Otherwise ``bf16``, ``fp16`` or ``fp32``.",
        ),
        Argument(commands=COMPARES, choices=DTYPES),
    ]
    device: Annotated[
        str,
        Keyword(
            default="auto",
            check=check_device,
            text="Where to compute; name several GPUs as in cuda:0,cuda:1.",
            more="auto uses a GPU only if max_memory is 2GiB or more. Otherwise ``cpu``, ``cuda``, "
            "``cuda:1`` or ``mps``.",
        ),
        Argument(
            commands=COMPARES,
            metavar="auto|cpu|cuda[:N]|mps",
            more="auto uses a GPU only if --max-memory is 2GiB or more.",
        ),
    ]


class InputOptions(TypedDict, total=False):
    """How inputs are read."""

    workers: Annotated[
        int | None,
        Keyword(
            default=None,
            check=check_workers,
            text="Largest number of worker threads.",
            more="None means one per processor.",
        ),
        Argument(commands=READS, metavar="N", shown_default="one per processor"),
    ]
    stream: Annotated[
        str | None,
        Keyword(
            default=None,
            check=check_stream,
            text="Read it from the Hub each time it is needed, instead of downloading it.",
            more="``base``, ``target`` or ``both``; None means neither.",
        ),
        Argument(commands=READS, choices=("base", "target", "both"), shown_default="download"),
    ]
    follow_links: Annotated[
        bool,
        Keyword(
            default=False,
            check=check_flag,
            text="Follow links that lead out of a checkpoint's folder; they are refused otherwise.",
        ),
        Argument(commands=READS),
    ]


class VerifyOptions(InputOptions, total=False):
    """Keyword arguments of ``verify``; all may be left out."""

    max_memory: Annotated[
        int | str | None,
        Keyword(
            default=None,
            check=check_budget,
            text="Memory budget of the whole process, such as 1GiB.",
            more=f"None means {DEFAULT_MAX_MEMORY}, plus what the process holds already and the "
            "command line does not.",
        ),
        Argument(commands=(*READS, *SHOWS), metavar="SIZE", default=DEFAULT_MAX_MEMORY),
    ]


class DeviceOptions(TypedDict, total=False):
    """What a GPU may hold."""

    max_device_memory: Annotated[
        int | str,
        Keyword(
            default="1GiB",
            check=check_size,
            text="Memory budget on each GPU, such as 512MiB.",
            more="Models that are there already do not count.",
        ),
        Argument(commands=COMPARES, metavar="SIZE"),
    ]


class ScanOptions(ScoreOptions, ComputeOptions, VerifyOptions, DeviceOptions, total=False):
    """Keyword arguments of ``scan``; all may be left out."""

    overwrite: Annotated[
        bool,
        Keyword(default=False, check=check_flag, text="Replace what is at the output."),
        Argument(commands=RESTORES, text="Replace the model in the output folder."),
        Argument(commands=("scan",), text="Replace the profile if there is one."),
        Argument(commands=("report",), text="Replace files that are there."),
    ]


class Options(CutOptions, ScanOptions, total=False):
    """Keyword arguments of ``restore``, ``sweep`` and ``plan``; all may be left out."""

    profile: Annotated[
        str | os.PathLike[str] | None,
        Keyword(
            default=None,
            check=check_file,
            text="What `scan` saved about these models; their weights are not scanned again.",
        ),
        Argument(commands=RESTORES, metavar="FILE"),
    ]
    keep: Annotated[
        Sequence[str],
        Keyword(
            default=(),
            check=check_globs,
            text="Copy files of the target that are left out otherwise, by a pattern such as "
            "'onnx/*'.",
            more="``*`` matches slashes, too.",
        ),
        Argument(commands=RESTORES, metavar="GLOB", more="Repeatable. `plan` lists them."),
    ]
    drop: Annotated[
        Sequence[str],
        Keyword(
            default=(),
            check=check_globs,
            text="Leave out files of the target that are copied otherwise, by a pattern.",
            more="Neither its shards nor ``config.json``.",
        ),
        Argument(commands=RESTORES, metavar="GLOB", more="Repeatable."),
    ]
    resume: Annotated[
        bool,
        Keyword(
            default=False,
            check=check_flag,
            text="Continue an unfinished run of the same request; start anew if there is none.",
        ),
        Argument(
            commands=RESTORES,
            text="Continue an unfinished run of the same command; start anew if there is none.",
        ),
    ]
    checksum: Annotated[
        bool,
        Keyword(default=False, check=check_flag, text="Write SHA256SUMS beside the model's files."),
        Argument(commands=RESTORES),
    ]
    report: Annotated[
        bool,
        Keyword(default=True, check=check_flag, text="Write report.html beside the model's files."),
        Argument(
            commands=RESTORES,
            names=("--no-report",),
            negates=True,
            text="Do not write report.html, the page for people.",
        ),
    ]


class ModuleOptions(CutOptions, ScoreOptions, InputOptions, DeviceOptions, total=False):
    """Keyword arguments of ``restore_module`` and ``restored``; all may be left out."""


MODULE_DEFAULTS: Mapping[str, object] = {"stream": "base"}
"""What differs for a module in memory: nothing is stored of a base on the Hub."""


class UploadOptions(TypedDict, total=False):
    """What goes to the Hub; in Python, parameters of their own."""

    push_to: Annotated[
        str,
        Argument(
            commands=RESTORES,
            metavar="ORG/NAME",
            default=None,
            text="Upload the finished model to the Hub: see `push`.",
        ),
    ]
    public: Annotated[
        bool,
        Argument(
            commands=(*RESTORES, "push"),
            default=False,
            text="If the repository has to be created, make it public.",
        ),
    ]
    revision: Annotated[
        str,
        Argument(
            commands=(*RESTORES, "push"),
            metavar="BRANCH",
            default=None,
            shown_default="main",
            text="Push to this branch; it is created if missing.",
        ),
    ]
    delete_after_upload: Annotated[
        bool,
        Argument(
            commands=RESTORES,
            default=False,
            text="Upload each shard once it is complete, and delete it here when the Hub has "
            "confirmed it, before writing the next: the disk holds one shard. Needs --push-to.",
        ),
        Argument(
            commands=("push",),
            default=False,
            text="Delete the weights from the folder once the Hub confirms that it has them.",
        ),
    ]


class OutputOptions(TypedDict, total=False):
    """What a command prints or draws."""

    png: Annotated[
        bool,
        Argument(
            commands=("report",),
            default=False,
            text="Also write its main pictures beside it; needs shardrestore[png].",
        ),
    ]
    quiet: Annotated[
        bool,
        Argument(
            commands=("run", "scan", "verify", "push"),
            default=False,
            text="Print no progress and no summary.",
        ),
    ]
    as_json: Annotated[
        bool,
        Argument(
            commands=(*READS, "show", "push"),
            names=("--json",),
            default=False,
            text="Print one JSON document.",
        ),
    ]


GROUPS = (Operands, Options, UploadOptions, OutputOptions)


@cache
def read_entries(group: type) -> Mapping[str, tuple[Any, ...]]:
    """Return each keyword of a group: its type, then its ``Keyword`` and its ``Argument``."""
    return {
        name: get_args(annotation)
        for name, annotation in get_type_hints(group, include_extras=True).items()
    }


def read_keywords(group: type) -> Mapping[str, Keyword]:
    """Return what Python takes of a group, by name."""
    return {
        name: part
        for name, (_, *entry) in read_entries(group).items()
        for part in entry
        if isinstance(part, Keyword)
    }


def command_arguments(command: str) -> tuple[CommandArgument, ...]:
    """Return what a command takes, in the order of its help.

    Parameters
    ----------
    command : str
        ``run``, for example.
    """
    return tuple(_find_arguments(command))


def _find_arguments(command: str) -> Iterator[CommandArgument]:
    for group in GROUPS:
        keywords = read_keywords(group)
        for name, (annotation, *entry) in read_entries(group).items():
            for part in entry:
                if isinstance(part, Argument) and command in part.commands:
                    yield complete(name, annotation, keywords.get(name), part)


def check_options(options: Mapping[str, object], group: type) -> dict[str, Any]:
    """Return the value of every keyword of a group, given or by default, checked.

    Raises
    ------
    TypeError
        If there are others.
    RequestError
        If a value cannot be meant.
    """
    keywords = read_keywords(group)
    unknown = sorted(set(options) - set(keywords))
    if unknown:
        raise TypeError(f"unknown option: {', '.join(unknown)}")
    return {
        name: keyword.check(name, options.get(name, keyword.default))
        for name, keyword in keywords.items()
    }
