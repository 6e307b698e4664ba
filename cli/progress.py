"""Progress bars on stderr: one for each pass, in bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from .outcome import printable

_TITLES = {
    "download": "download",
    "compare": "compare tied",
    "scan": "pass 1 scan",
    "refine": "pass 1 refine",
    "random": "random keys",
    "restore": "pass 2 restore",
    "restore_and_push": "pass 2 + push",
    "inputs": "hash inputs",
    "verify": "verify",
    "push": "push",
}


class ProgressBars:
    """Observes the passes; silent unless stderr is a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        # A closed stderr (`2>&-`) is None.
        self._silent = quiet or sys.stderr is None
        self._quiet = quiet or sys.stderr is None or not sys.stderr.isatty()
        self._bar: Any = None

    def note(self, remark: str) -> None:
        """Say something on a line of its own."""
        if not self._silent:
            with self._hidden_bar():
                typer.echo(printable(f"note: {remark}"), err=True)

    @contextmanager
    def _hidden_bar(self) -> Iterator[None]:
        """Take a bar off its line for a while."""
        if self._bar is not None:
            self._bar.clear()
        yield
        if self._bar is not None:
            self._bar.refresh()

    def begin(self, stage: str, total_bytes: int) -> None:
        """Show a bar for the stage."""
        if self._quiet:
            return
        from tqdm import tqdm

        self._bar = tqdm(
            desc=f"{_TITLES.get(stage, stage):14}",
            total=total_bytes,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stderr,
        )

    def advance(self, nbytes: int) -> None:
        """Move the bar on."""
        if self._bar is not None:
            self._bar.update(nbytes)

    def end(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
