"""``shardrestore push``: upload a finished model to the Hub."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, TypedDict

import typer

from .options import takes_options
from .outcome import print_result
from .progress import ProgressBars
from .text import format_bytes, format_facts

if TYPE_CHECKING:
    from shardrestore import Options, Pushed


KEPT = ": the same command will not send again what has been sent"


class Upload(TypedDict):
    """Where in a repository a model goes, and whether everybody may see it."""

    public: bool
    revision: str | None


@takes_options(describe_kept=lambda options: KEPT)
def push(
    output: str,
    repository: str,
    *,
    public: bool,
    revision: str | None,
    delete_after_upload: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Upload a finished model to the Hub, in one commit."""
    import shardrestore

    pushed = shardrestore.push(
        output,
        repository,
        public=public,
        revision=revision,
        delete_after_upload=delete_after_upload,
        observer=ProgressBars(quiet=quiet),
    )
    if as_json:
        print_result(json.dumps(shardrestore.summarize(pushed), indent=2))
    elif not quiet:
        print_result(describe(pushed))


def count_models(targets: list[str], percents: list[float], options: Options) -> int:
    """Return how many models a command would write."""
    return len(targets) * len(percents) * len(options["region"]) * len(options["strategy"])


def check_upload(repository: str | None, *, models: int, **flags: bool | str | None) -> None:
    """Refuse combinations of ``--push-to`` and its options that make no sense."""
    if repository is None and any(value not in (False, None) for value in flags.values()):
        names = [f"--{name.replace('_', '-')}" for name in flags]
        raise typer.BadParameter(f"{', '.join(names[:-1])} and {names[-1]} need --push-to")
    if repository is not None and models > 1:
        from shardrestore import RequestError

        raise RequestError(
            f"--push-to {repository}: this command writes {models} models, but a repository holds "
            "one: leave out --push-to, and `shardrestore push` each model to its own repository"
        )


def describe(pushed: Pushed) -> str:
    """Return what was pushed, as people read it."""
    facts = [
        ("commit", pushed.url),
        ("branch", pushed.revision),
        ("holds", f"{pushed.files} files, {format_bytes(pushed.pushed_bytes)}"),
    ]
    if pushed.seconds:  # zero if an earlier call made the commit
        facts.append(("time", f"{pushed.seconds:.2f} s"))
    if pushed.deleted_bytes:
        facts.append(("deleted", f"{format_bytes(pushed.deleted_bytes)} of weights in the folder"))
    head = f"pushed {pushed.output} to {pushed.repository}"
    if pushed.pushed_before:
        head = f"{pushed.output} was already pushed to {pushed.repository}"
    return f"{head}\n\n{format_facts(facts)}"


def write_command(output: str, repository: str, *, public: bool, revision: str | None) -> str:
    """Return the command that pushes a model."""
    words = ["shardrestore", "push", output, repository]
    words += ["--public"] if public else []
    words += ["--revision", revision] if revision else []
    return shlex.join(words)
