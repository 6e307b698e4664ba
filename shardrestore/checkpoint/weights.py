"""Which files hold a model's weights, and which index belongs beside them: by names alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..errors import CheckpointError
from ..names import CONFIG_FILE, INDEX_FILE, SINGLE_FILE
from .entry import show

NAMED_WEIGHTS = "transformers_weights"
"""Key of a configuration that names the file of the weights, or their index."""

_SUFFIX = ".safetensors"
_INDEX_SUFFIX = ".safetensors.index.json"
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """The files that hold a model's weights, as far as names say."""

    index: str | None
    """The index that names them; None if `shards` are all."""
    shards: tuple[str, ...] = ()
    passed_over: str | None = None
    """Another file that could have been the model's weights, or their index."""


def find_weights(
    names: Collection[str], config: Mapping[str, Any], where: str = CONFIG_FILE
) -> WeightFiles | None:
    """Return the files of the weights as transformers chooses them; None if there are none.

    What the configuration names comes first, then ``model.safetensors``, then its index, and
    last, as vLLM reads them, shards that are numbered 1 to n of n.

    Parameters
    ----------
    names : collection of str
        Of the folder that holds the model.
    config : mapping
    where : str
        Name of the configuration, for messages.

    Raises
    ------
    CheckpointError
        If the configuration names what cannot be read; see ``read_named``.

    Examples
    --------
    >>> find_weights(["model-1-of-2.safetensors", "model-2-of-2.safetensors"], {}).shards
    ('model-1-of-2.safetensors', 'model-2-of-2.safetensors')
    """
    named = read_named(config, where)
    usual = next((name for name in (SINGLE_FILE, INDEX_FILE) if name in names), None)
    if named is not None:
        other = usual if usual != named else None
        if is_index(named):
            return WeightFiles(index=named, passed_over=other)
        return WeightFiles(index=None, shards=(named,), passed_over=other)
    if usual == SINGLE_FILE:
        other = INDEX_FILE if INDEX_FILE in names else None
        return WeightFiles(index=None, shards=(SINGLE_FILE,), passed_over=other)
    if usual == INDEX_FILE:
        return WeightFiles(index=INDEX_FILE)
    numbered = find_numbered(names)
    if len(numbered) == 1 and not numbered[0].missing:
        return WeightFiles(index=None, shards=numbered[0].shards)
    return None


def read_named(config: Mapping[str, Any], where: str = CONFIG_FILE) -> str | None:
    """Return the file that a configuration names as its model's weights, or as their index.

    Raises
    ------
    CheckpointError
        If it is neither, or outside the folder.
    """
    named = config.get(NAMED_WEIGHTS)
    if named is None:
        return None
    if not isinstance(named, str) or not is_inside(named.removesuffix(".index.json")):
        raise CheckpointError(
            f"{where}: {NAMED_WEIGHTS} is {show(named)}: it must name a .safetensors file in "
            f"the folder, or its {_INDEX_SUFFIX}: correct it, or remove that line"
        )
    return named


def is_index(name: str) -> bool:
    """Whether a file is an index by its name."""
    return name.endswith(_INDEX_SUFFIX)


def is_inside(name: str) -> bool:
    """Whether a name is that of a safetensors file inside its model's folder."""
    path = PurePosixPath(name)
    return (
        path.suffix == _SUFFIX
        and not path.is_absolute()
        and ".." not in path.parts
        and "\\" not in name
        and not any(part.startswith(".") for part in path.parts)
        and name.isprintable()
    )


def index_beside(shards: Sequence[str], config: Mapping[str, Any]) -> str | None:
    """Return the index that a library needs to find these shards; None if it needs none.

    Parameters
    ----------
    shards : sequence of str
        Their file names.
    config : mapping
        The model's.

    Examples
    --------
    >>> index_beside(["model.safetensors"], {}), index_beside(["a.safetensors"], {})
    (None, 'model.safetensors.index.json')
    """
    named = read_named(config)
    if named is not None:
        return named if is_index(named) else None
    return None if tuple(shards) == (SINGLE_FILE,) else INDEX_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedShards:
    """Shards whose names say which they are, of how many."""

    shards: tuple[str, ...]
    """Those that are here, by number."""
    count: int
    """How many there must be."""
    missing: tuple[int, ...]
    """Numbers of those that are not here, at most ten."""


def find_numbered(names: Iterable[str]) -> list[NumberedShards]:
    """Return the sets of numbered shards among names."""
    sets: dict[tuple[str, int], dict[int, str]] = {}
    for name in sorted(names):
        found = _NUMBERED.fullmatch(name)
        if found and "/" not in name and len(found["count"]) < 10:
            key = found["stem"], int(found["count"])
            sets.setdefault(key, {})[int(found["number"])] = name
    return [
        NumberedShards(
            shards=tuple(here[number] for number in sorted(here)),
            count=count,
            missing=_find_missing(here, count),
        )
        for (_, count), here in sets.items()
    ]


def _find_missing(here: Collection[int], count: int) -> tuple[int, ...]:
    missing: list[int] = []
    for number in range(1, count + 1):
        if number not in here:
            missing.append(number)
        if len(missing) == 10:
            break
    return tuple(missing)
