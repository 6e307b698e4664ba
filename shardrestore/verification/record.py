"""The record of a restoration, ``shardrestore.json``: read strictly, believed in nothing.

Here its values are only made sure to be of their kind. Whether they are true is
what verification finds out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..checkpoint.allowance import Allowance
from ..checkpoint.entry import show
from ..errors import CheckpointError
from ..formats import CASTS
from ..names import RECORD_FILE, STAGING_FOLDER
from ..notes import Note, parse_notes
from ..pairing.regions import REGIONS
from ..scores import DEFAULT_SCORE, SCORES
from ..scoring import Scoring
from ..selection.score import KEYS

RECORD_FORMATS = (1, 2)
"""The formats read here: 2 if the record names its score.

Not taken from ``report``: this is the reader's own idea of them.
"""

STRATEGIES = ("top", "bottom", "random")

_LARGEST_COUNT = 1 << 45
"""Beyond any model, and small enough for the arithmetic of ties to stay in 64 bits."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIdentity:
    """What the record says of a shard of an input."""

    name: str
    nbytes: int
    header_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputIdentity:
    """What the record says of an input."""

    path: str
    """Where it was."""
    shards: tuple[ShardIdentity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a model folder says of how it was made."""

    where: str
    """Name of the file, for messages."""
    is_rounded: bool
    """Whether the base was rounded to the target's format before it was scored."""
    base: InputIdentity
    target: InputIdentity
    percent: float
    region: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    keep: tuple[str, ...]
    drop: tuple[str, ...]
    """Patterns of the target's files that were copied against the rules, and that were not."""
    checksum: bool
    """Whether checksums were written."""
    allow_unpaired: bool
    """Whether what could not be paired was left as it was."""
    strategy: str
    seed: int | None
    """Of the random strategy; None for the others."""
    scoring: Scoring
    region_elements: int
    selected_elements: int
    threshold: float | None
    """None for random, and where the score at the cut is not finite."""
    tie_first_key: int
    tie_keys: int
    ties: int
    ties_taken: int
    notes: tuple[Note, ...]


def read_record(folder: Path, allowance: Allowance | None = None) -> Record:
    """Read the record of a finished model folder.

    Parameters
    ----------
    folder : Path
    allowance : Allowance, optional
        What parsing it may take.

    Raises
    ------
    CheckpointError
        If there is none, or none that this version can read.
    MemoryBudgetError
        If it is too large to be parsed.
    """
    return parse_record(read_values(folder, allowance), folder)


def parse_record(values: Mapping[str, Any], folder: Path) -> Record:
    """Return the record that ``read_values`` has read; errors are those of ``read_record``."""
    return _parse(values, str(folder / RECORD_FILE))


def read_values(folder: Path, allowance: Allowance | None = None) -> Mapping[str, Any]:
    """Read all that a record holds, of which only the format has been checked.

    Parameters and errors are those of ``read_record``.
    """
    path = folder / RECORD_FILE
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder: name one that shardrestore has written")
    if not path.is_file():
        raise CheckpointError(f"{path}: missing: {_explain_absence(folder)}")
    try:
        document = json.loads((allowance or Allowance()).read(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, not JSON: {error}; {_ADVICE}") from error
    return _check_format(document, path)


def _explain_absence(folder: Path) -> str:
    if (folder / STAGING_FOLDER).is_dir():
        return "an unfinished run has left its work there: repeat its command with --resume"
    inside = [*folder.glob(f"*/{RECORD_FILE}"), *folder.glob(f"*/*/{RECORD_FILE}")]
    if inside:
        return f"{folder} holds several models: name one of them, for example {min(inside).parent}"
    return f"without it nothing says what the folder should hold; {_ADVICE}"


_ADVICE = "copy it again from where the model was written, or restore again"


def _check_format(document: object, path: Path) -> Mapping[str, Any]:
    if not isinstance(document, dict) or "format" not in document or "cut" not in document:
        raise CheckpointError(
            f'{path}: not a record of shardrestore: it has no "format" and "cut"; {_ADVICE}'
        )
    found = document["format"]
    if type(found) is not int or found not in RECORD_FORMATS:
        raise CheckpointError(
            f"{path}: its format is {_show(found)}, this version reads "
            f"{' and '.join(map(str, RECORD_FORMATS))}: verify it "
            "with the version of shardrestore that wrote it"
        )
    return document


def _parse(document: Mapping[str, Any], where: str) -> Record:
    root = _Reader(document, "", where)
    options, cut = root.open("options"), root.open("cut")
    strategy = options.take("strategy", _one_of(STRATEGIES))
    record = Record(
        where=where,
        is_rounded=root.take("rounded", _flag_if_any),
        base=_parse_input(root.open("base")),
        target=_parse_input(root.open("target")),
        percent=options.take("percent", _number),
        region=options.take("region", _one_of(REGIONS)),
        include=options.take("include", _texts),
        exclude=options.take("exclude", _texts),
        keep=options.take("keep", _texts_if_any),
        drop=options.take("drop", _texts_if_any),
        checksum=root.take("checksum", _flag_if_any),
        allow_unpaired=options.take("allow_unpaired", _flag_if_any),
        strategy=strategy,
        seed=options.take("seed", _integer if strategy == "random" else _nothing),
        scoring=Scoring(
            score=options.take("score", _score),
            cast=CASTS[options.take("dtype", _one_of(CASTS))],
            renames=options.take("rename", _texts),
        ),
        region_elements=cut.take("region_elements", _count),
        selected_elements=cut.take("selected_elements", _count),
        threshold=cut.take("threshold", _number_or_null),
        tie_first_key=cut.take("tie_first_key", _count),
        tie_keys=cut.take("tie_keys", _count),
        ties=cut.take("ties", _count),
        ties_taken=cut.take("ties_taken", _count),
        notes=root.take("notes", parse_notes),
    )
    if not 0 < record.tie_keys <= KEYS - record.tie_first_key:
        cut.refuse("tie_keys", f"a number from 1 to {KEYS} less tie_first_key")
    return record


def _parse_input(entry: _Reader) -> InputIdentity:
    return InputIdentity(
        path=entry.take("path", _text),
        shards=tuple(
            ShardIdentity(
                name=shard.take("name", _text),
                nbytes=shard.take("bytes", _count),
                header_sha256=shard.take("header_sha256", _text),
            )
            for shard in entry.open_all("shards")
        ),
    )


class _Reader:
    """An object of the record, read value by value; what is not as it must be is named."""

    def __init__(self, values: Mapping[str, Any], prefix: str, where: str) -> None:
        self._values = values
        self._prefix = prefix
        self._where = where

    def take(self, key: str, convert: Callable[[Any], Value]) -> Value:
        """Return a value; `convert` raises ValueError with what was expected instead."""
        try:
            return convert(self._values.get(key))
        except ValueError as error:
            self.refuse(key, str(error), error)

    def open(self, key: str) -> _Reader:
        return _Reader(self.take(key, _object), f"{self._prefix}{key}.", self._where)

    def open_all(self, key: str) -> list[_Reader]:
        prefix = f"{self._prefix}{key}."
        return [_Reader(value, prefix, self._where) for value in self.take(key, _objects)]

    def refuse(self, key: str, expected: str, cause: Exception | None = None) -> NoReturn:
        """Raise CheckpointError for a value."""
        found = f"is {_show(self._values[key])}" if key in self._values else "is missing"
        raise CheckpointError(
            f"{self._where}: damaged: {self._prefix}{key} {found}, expected {expected}; {_ADVICE}"
        ) from cause


def _show(value: object) -> str:
    return f"an object of {len(value)}" if isinstance(value, dict) else show(value)  # type: ignore[arg-type]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object")
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("a list of objects")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def _texts_if_any(value: Any) -> tuple[str, ...]:
    """Read texts that are recorded only where there are any."""
    return () if value is None else _texts(value)


def _flag_if_any(value: Any) -> bool:
    """Read a flag that is recorded only where it is set."""
    if value not in (None, True):
        raise ValueError("true")
    return value is True


def _integer(value: Any) -> int:
    if type(value) is not int:  # a bool is an int to isinstance
        raise ValueError("a whole number")
    return value


def _count(value: Any) -> int:
    if not 0 <= _integer(value) < _LARGEST_COUNT:
        raise ValueError(f"a whole number from 0 to {_LARGEST_COUNT - 1}")
    return int(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < _LARGEST_COUNT * 2.0**100:
        raise ValueError("a number")
    if not math.isfinite(value):
        raise ValueError("a finite number")
    return float(value)


def _number_or_null(value: Any) -> float | None:
    return None if value is None else _number(value)


def _nothing(value: Any) -> None:
    if value is not None:
        raise ValueError("null: only the random strategy has a seed")


def _score(value: Any) -> str:
    """Read a score; records of the default one do not name it."""
    return DEFAULT_SCORE if value is None else _one_of(SCORES)(value)


def _one_of(choices: Any) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value

    return convert
