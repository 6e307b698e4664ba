"""How a command ends: exit status, and one message for what went wrong."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

import typer

from .signals import raised_signals

Parameters = ParamSpec("Parameters")

SIGNAL_STATUS = 128
"""What a shell adds to a signal's number: 130 after Ctrl-C, 143 after SIGTERM."""


def reports_errors(
    command: Callable[Parameters, None],
    *,
    describe_kept: Callable[[Mapping[str, Any]], str] = lambda options: "",
) -> Callable[Parameters, None]:
    """Make a command exit with 1 after an expected error, and clean up after a signal.

    Parameters
    ----------
    command : callable
    describe_kept : callable
        Takes the command's options; returns what an interrupted command has left.
    """

    @functools.wraps(command)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        with raised_signals() as signals:
            try:
                _carry_out(command, *args, **kwargs)
            except (Exception, KeyboardInterrupt) as error:
                signals.over = True  # a second one does not cut the message short
                if not signals.received and not isinstance(error, KeyboardInterrupt):
                    raise
                kept = describe_kept(kwargs) or ": no unfinished file was left behind"
                typer.echo(printable(f"interrupted{kept}"), err=True)
                status = SIGNAL_STATUS + next(iter(signals.received), signal.SIGINT)
                raise typer.Exit(status) from None

    return wrapper


def _carry_out(
    command: Callable[Parameters, None], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> None:
    from shardrestore import ShardRestoreError

    try:
        command(*args, **kwargs)
    except ShardRestoreError as error:
        advice = advise_resume(str(kwargs["output"])) if error.resumable else ""
        typer.echo(printable(f"error: {error}{advice}"), err=True)
        raise typer.Exit(1) from error


def advise_resume(output: str) -> str:
    """Return how to continue a run that is unfinished; empty if there is none."""
    try:
        from shardrestore import find_unfinished

        if not find_unfinished(output):
            return ""
    except Exception:  # of a bad name, or an import that was interrupted and cannot be repeated
        return ""
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    command = shlex.join(["shardrestore", *arguments, "--resume"])
    return f"\nfinished work is kept; to continue:\n  {command}"


def printable(text: str) -> str:
    """Return text whose control characters are shown, not obeyed by the terminal.

    Names of files and tensors come from the author of the checkpoint.
    """
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def print_result(text: str) -> None:
    """Print a result on stdout; a reader that went away (`| head`) is no error."""
    if sys.stdout is None:  # closed: `>&-`
        return
    try:
        typer.echo(printable(text))
        sys.stdout.flush()
    except OSError as error:
        # What is left to print goes nowhere; the interpreter must not try to
        # flush it when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            typer.echo(f"error: stdout: cannot be written: {error.strerror}", err=True)
            raise typer.Exit(1) from error
