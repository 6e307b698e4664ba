"""How a command ends: exit status, and one message for whatever went wrong."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

Parameters = ParamSpec("Parameters")

INTERRUPTED = 130


def reports_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Make a command exit with 1 after an expected error, with 130 after Ctrl-C."""

    @functools.wraps(command)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        from shardrestore import ShardRestoreError

        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except ShardRestoreError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            typer.echo("interrupted: nothing was left under a final name", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader went away (`| head`): what is left to print goes nowhere,
            # and the interpreter must not try to flush it when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return wrapper
