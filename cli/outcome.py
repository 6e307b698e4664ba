"""How a command ends: exit status, and one message for whatever went wrong."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec

import typer

Parameters = ParamSpec("Parameters")

INTERRUPTED = 130


def reports_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Make a command exit with 1 after an expected error, with 130 after Ctrl-C."""

    @functools.wraps(command)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        # numba's C modules turn a KeyboardInterrupt during their import into an
        # ImportError, so the signal itself is noted.
        interrupted = threading.Event()

        def interrupt(number: int, frame: FrameType | None) -> None:
            interrupted.set()
            raise KeyboardInterrupt

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
        try:
            from shardrestore import ShardRestoreError

            try:
                command(*args, **kwargs)
            except ShardRestoreError as error:
                typer.echo(f"error: {error}", err=True)
                raise typer.Exit(1) from error
        except (Exception, KeyboardInterrupt) as error:
            if not interrupted.is_set() and not isinstance(error, KeyboardInterrupt):
                raise
            typer.echo("interrupted: no unfinished file was left behind", err=True)
            raise typer.Exit(INTERRUPTED) from None

    return wrapper


def print_result(text: str) -> None:
    """Print a result on stdout; a reader that went away (`| head`) is no error."""
    if sys.stdout is None:  # closed: `>&-`
        return
    try:
        typer.echo(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left to print goes nowhere; the interpreter must not try to
        # flush it when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            typer.echo(f"error: stdout: cannot be written: {error.strerror}", err=True)
            raise typer.Exit(1) from error
