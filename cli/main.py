"""The application: its commands, and ``--version``."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated

import typer

from .demo import demo
from .plan import plan
from .push import push
from .report import report
from .run import run
from .scan import scan
from .show import show
from .verify import verify

app = typer.Typer(
    name="shardrestore",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(plan)
app.command()(scan)
app.command()(show)
app.command()(report)
app.command()(verify)
app.command()(push)
app.command()(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        from shardrestore import __version__

        typer.echo(f"shardrestore {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
]


@app.callback()
def describe(version: Version = False) -> None:
    """Set the most changed weights of a fine-tuned model back to its base's values.

    Checkpoints are streamed: a few hundred megabytes of memory suffice for any size.
    """


def main() -> None:
    """Run the command line; the entry point of the console script."""
    # Its warnings quote addresses, which may be signed; our errors say what matters.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that has no "≥" gets a "?", not a traceback.
            stream.reconfigure(errors="replace")
    try:
        app()
    finally:
        # Ctrl-C while a finished process exits needs no traceback.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
