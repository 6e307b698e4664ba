"""What an unfinished run has achieved, so that it can be resumed: a file of JSON lines.

The first line says what the run is: inputs, options, outputs. Each line after it
tells of something that is safely on disk already. A line that a crash cut short
counts as not written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoint.document import read_file
from ..errors import CheckpointError, OutputError
from ..output.admission import exists
from ..output.writer import explain_write_error

JOURNAL_FORMAT = 2
"""Version of the lines; raised when one changes its meaning."""


class Journal:
    """The journal of one run.

    Parameters
    ----------
    path : Path
        The file; it need not exist.

    Raises
    ------
    OutputError
        If it exists and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []
        self._whole_bytes = 0
        if exists(path):
            self._read()

    def _read(self) -> None:
        try:
            # Whole, whatever its size: random cuts take up to a megabyte for each shard.
            text = read_file(self.path)
        except CheckpointError as error:
            raise OutputError(f"{error}: start anew with --overwrite") from error
        whole = 0
        for line in text.splitlines(keepends=True):
            try:
                document = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                document = None
            if not isinstance(document, dict):
                if line.endswith(b"\n"):
                    raise OutputError(
                        f"{self.path}: line {len(self._lines) + 1} is damaged: start anew with "
                        "--overwrite, without --resume"
                    )
                break
            self._lines.append(document)
            whole += len(line)
        self._whole_bytes = whole

    @property
    def lines(self) -> Sequence[Mapping[str, Any]]:
        """What has been done, in order: all lines but the first."""
        return self._lines[1:]

    @property
    def publication(self) -> Any:
        """What the last line ``publish`` says; None if there is none, or ``lost`` follows it."""
        for line in reversed(self.lines):
            if "lost" in line:
                break
            if "publish" in line:
                return line["publish"]
        return None

    @property
    def identity(self) -> Mapping[str, Any] | None:
        """What the run is; None before ``begin``."""
        return self._lines[0] if self._lines else None

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Write the first line: what the run is."""
        self._lines, self._whole_bytes = [], 0
        self.path.unlink(missing_ok=True)
        self.append(identity)

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, and wait until it is on disk."""
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            # A journal that has vanished must not come back without its beginning.
            with open(self.path, "r+b" if self._lines else "xb") as file:
                # Only who appends holds the lock: a torn last line is cut off here.
                file.truncate(self._whole_bytes)
                file.seek(self._whole_bytes)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise explain_write_error(self.path, len(text), error) from error
        self._whole_bytes += len(text)
        self._lines.append(dict(line))

    def find(self, key: str) -> list[Any]:
        """Return what lines after the first say under `key`, in order."""
        return [line[key] for line in self.lines if key in line]


def find_difference(recorded: Any, asked: Any, where: str = "") -> str | None:
    """Say where two JSON documents differ first, with both values; None if nowhere."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for key in [*asked, *(key for key in recorded if key not in asked)]:
            place = f"{where} {key}".strip()
            if key not in recorded or key not in asked:
                return f"{place} is {'new' if key in asked else 'gone'}"
            difference = find_difference(recorded[key], asked[key], place)
            if difference:
                return difference
        return None
    if isinstance(recorded, list) and isinstance(asked, list) and len(recorded) == len(asked):
        pairs = enumerate(zip(recorded, asked, strict=True), start=1)
        return next(
            (d for n, (old, new) in pairs if (d := find_difference(old, new, f"{where} {n}"))), None
        )
    if recorded != asked:
        return f"{where} was {json.dumps(recorded)[:80]}, it is {json.dumps(asked)[:80]}"
    return None
