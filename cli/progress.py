"""Progress bars on stderr: one for each pass, in bytes."""

from __future__ import annotations

import sys
from typing import Any

_TITLES = {
    "scan": "pass 1 scan",
    "refine": "pass 1 refine",
    "restore": "pass 2 restore",
}


class ProgressBars:
    """Observes the passes; silent unless stderr is a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def begin(self, stage: str, total_bytes: int) -> None:
        """Show a bar for the stage."""
        from tqdm import tqdm

        self._bar = tqdm(
            desc=f"{_TITLES.get(stage, stage):14}",
            total=total_bytes,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stderr,
            disable=self._quiet,
        )

    def advance(self, nbytes: int) -> None:
        """Move the bar on."""
        self._bar.update(nbytes)

    def end(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
