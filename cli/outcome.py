"""How a command ends: exit status, and one message for whatever went wrong."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec

import typer

Parameters = ParamSpec("Parameters")

SIGNAL_STATUS = 128
"""What a shell adds to a signal's number: 130 after Ctrl-C, 143 after SIGTERM."""


def reports_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Make a command exit with 1 after an expected error, and clean up after a signal."""

    @functools.wraps(command)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        # numba's C modules turn a KeyboardInterrupt during their import into an
        # ImportError, so the signal itself is noted.
        received: list[int] = []

        def interrupt(number: int, frame: FrameType | None) -> None:
            received.append(number)
            raise KeyboardInterrupt

        for number, usual in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(number) is usual:  # not if the caller ignores it
                signal.signal(number, interrupt)
        try:
            from shardrestore import ShardRestoreError

            try:
                command(*args, **kwargs)
            except ShardRestoreError as error:
                typer.echo(printable(f"error: {error}"), err=True)
                raise typer.Exit(1) from error
        except (Exception, KeyboardInterrupt) as error:
            if not received and not isinstance(error, KeyboardInterrupt):
                raise
            typer.echo("interrupted: no unfinished file was left behind", err=True)
            status = SIGNAL_STATUS + (received[0] if received else signal.SIGINT)
            raise typer.Exit(status) from None

    return wrapper


def printable(text: str) -> str:
    """Return text whose control characters are shown, not obeyed by the terminal.

    Names of files and tensors come from whoever made the checkpoint.
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
