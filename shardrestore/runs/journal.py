"""What an unfinished run has done, so that it can be resumed: steps, a JSON line each.

The first line says what the run is; from then on it can be resumed. Each line after it is
a step that is safely on disk already. A line that a crash cut short counts as not written.

A journal knows the steps of any run. An extension of a run, such as the upload of each shard,
notes steps of its own as entries, which only the extension can read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.document import read_file
from ..errors import CheckpointError, OutputError
from ..output.admission import exists
from ..output.filesystem import sync_file
from ..output.publication import Move
from ..output.staging import Stamp
from ..output.writer import explain_write_error
from ..passes.restore import ShardResult
from .shard_result import decode_result, encode_result

JOURNAL_FORMAT = 3
"""Version of the lines; raised when one changes its meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFinished:
    """A shard is complete and on disk in all outputs."""

    name: str
    parts: Sequence[Mapping[str, Any]]
    """What was done in it for each cut, as JSON values: decoded, each may take a megabyte."""
    stamps: Sequence[Stamp]
    """Of its file in each output."""

    @classmethod
    def of(cls, name: str, result: ShardResult, stamps: Sequence[Stamp]) -> ShardFinished:
        """Return the step for what was done in a shard."""
        return cls(name=name, parts=encode_result(result), stamps=stamps)

    def result(self) -> ShardResult:
        """Return what was done in it."""
        return decode_result(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardsLost:
    """Shards that had left the disk are gone from where they went: they are made again.

    What was prepared with them no longer holds.
    """

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All files are complete: only renames are left, and the last step of an extension."""

    moves: Sequence[Sequence[Move]]
    """The renames that publish each output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A step of an extension of the run."""

    key: str
    value: Any
    """JSON values."""


Step = ShardFinished | ShardsLost | Prepared | Entry


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
        self._lines: list[Mapping[str, Any]] = []
        self._whole_bytes = 0
        if exists(path):
            self._read()

    def _read(self) -> None:
        try:
            # Whole, whatever its size: random cuts take up to a megabyte for each shard.
            text = read_file(self.path)
        except CheckpointError as error:
            raise OutputError(f"{error}: start anew with --overwrite") from error
        for line in text.splitlines(keepends=True):
            try:
                document = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                document = None
            if not isinstance(document, dict):
                if line.endswith(b"\n"):
                    raise OutputError(
                        f"{self.path}: line {len(self._lines) + 1} is damaged: start anew with "
                        "--overwrite, without --resume"
                    )
                break
            self._lines.append(document)
            self._whole_bytes += len(line)

    @property
    def identity(self) -> Mapping[str, Any] | None:
        """What the run is; None before ``begin``."""
        return self._lines[0] if self._lines else None

    @property
    def begun(self) -> bool:
        """Whether there is a run that can be resumed."""
        return self.identity is not None

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Write the first line: what the run is."""
        self._lines, self._whole_bytes = [], 0
        self.path.unlink(missing_ok=True)
        self._append(identity)

    def note(self, step: Step) -> None:
        """Add a step, and wait until it is on disk."""
        self._append(_encode(step))

    def _append(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            # A journal that has vanished must not come back without its beginning.
            with open(self.path, "r+b" if self._lines else "xb") as file:
                # Only the holder of the lock appends: a torn last line is cut off here.
                if file.seek(0, os.SEEK_END) > self._whole_bytes:
                    file.truncate(self._whole_bytes)
                file.seek(self._whole_bytes)
                file.write(text)
                file.flush()
                sync_file(file.fileno())
        except OSError as error:
            raise explain_write_error(self.path, len(text), error) from error
        self._whole_bytes += len(text)
        self._lines.append(line)

    def steps(self) -> Iterator[Step]:
        """Yield what has been done, in order; read it under ``reading``."""
        for line in self._lines[1:]:
            yield from (_decode(key, value) for key, value in line.items())

    @property
    def prepared(self) -> Prepared | None:
        """The renames that are left; None before all files are complete."""
        found = None
        with self.reading():
            for step in self.steps():
                match step:
                    case Prepared():
                        found = step
                    case ShardsLost():
                        found = None
        return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Name the journal if one of its lines makes no sense.

        Raises
        ------
        OutputError
            In place of the exceptions of values of the wrong kind.
        """
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise OutputError(
                f"{self.path}: damaged: start anew with --overwrite, without --resume"
            ) from error


def _encode(step: Step) -> Mapping[str, Any]:
    match step:
        case ShardFinished():
            return {"shard": [step.name, step.parts, step.stamps]}
        case ShardsLost():
            return {"lost": step.names}
        case Prepared():
            return {"publish": step.moves}
        case Entry():
            return {step.key: step.value}


def _decode(key: str, value: Any) -> Step:
    match key:
        case "shard":
            name, parts, stamps = value
            return ShardFinished(name=name, parts=parts, stamps=stamps)
        case "lost":
            return ShardsLost(names=tuple(value))
        case "publish":
            return Prepared(moves=[[_decode_move(*move) for move in moves] for moves in value])
    return Entry(key=key, value=value)


def _decode_move(source: object, target: object) -> Move:
    if not (isinstance(source, str) and isinstance(target, str)):
        raise TypeError("not a rename")
    return source, target
