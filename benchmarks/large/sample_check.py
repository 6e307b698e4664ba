"""A finished model checked in random places, for models that take hours to read again.

Written with nothing of the engine but the definition of the score: files are found by
parsing their headers here, and read with NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardrestore.kernels import reference
from shardrestore.scores import relative

from ..models.llama import ITEM_BYTES, count_elements
from ..models.tiles import Prediction, is_in_region

BLOCK_ELEMENTS = 1 << 18

Patterns = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tensor lies."""

    path: Path
    offset: int
    elements: int

    def read(self, start: int, count: int) -> Patterns:
        """Return elements as bfloat16 patterns."""
        offset = self.offset + start * ITEM_BYTES
        return np.fromfile(self.path, np.uint16, count, offset=offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCheck:
    """What a check found."""

    blocks: int
    elements: int
    restored: int
    """Elements that must be the base's, whatever their turn among ties."""
    wrong: int
    problems: tuple[str, ...]


def find_tensors(folder: Path) -> dict[str, Place]:
    """Return where each tensor of a model lies."""
    places = {}
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            offset = 8 + length + entry["data_offsets"][0]
            elements = count_elements(tuple(entry["shape"]))
            places[name] = Place(path=path, offset=offset, elements=elements)
    return places


def check_cut(cut: Mapping[str, Any], predicted: Prediction) -> list[str]:
    """Return where the cut of a run, as its record gives it, differs from the predicted one."""
    wanted = {
        "region_elements": predicted.region_elements,
        "selected_elements": predicted.selected,
        "ties": predicted.ties,
        "ties_taken": predicted.ties_taken,
    }
    problems = [
        f"{key} is {cut[key]:,}, predicted were {value:,}"
        for key, value in wanted.items()
        if cut[key] != value
    ]
    first, last = cut["tie_first_key"], cut["tie_first_key"] + cut["tie_keys"]
    if not first <= predicted.tie_first_key < last:
        problems.append(
            f"the threshold's key is {first:#x}, predicted was {predicted.tie_first_key:#x}"
        )
    return problems


def check_sample(
    pair: Path,
    output: Path,
    cut: Mapping[str, Any],
    predicted: Prediction,
    *,
    blocks: int,
    seed: int = 0,
) -> SampleCheck:
    """Check a finished model's cut, and random blocks of it, every element of them.

    Each must be bit for bit the base's if its score lies above the threshold, the
    target's below it and outside the region, and one of the two where it ties.
    """
    sides = [find_tensors(folder) for folder in (pair / "base", pair / "target", output)]
    problems = check_cut(cut, predicted)
    elements = restored = wrong_elements = 0
    for name, start, count in _choose_blocks(sides[1], blocks, seed):
        base, target, found = (side[name].read(start, count) for side in sides)
        elements += count
        must = np.zeros(count, np.bool_)
        ties = np.zeros(count, np.bool_)
        if is_in_region(name):
            keys = np.empty(count, np.uint32)
            reference.score_keys(relative.SCORE, base, target, keys)
            must = keys > predicted.tie_first_key
            ties = keys == predicted.tie_first_key
        wrong = np.where(must, found != base, found != target)
        wrong[ties] = (found[ties] != base[ties]) & (found[ties] != target[ties])
        restored += int(np.count_nonzero(must))
        wrong_elements += int(np.count_nonzero(wrong))
        if wrong.any():
            first = start + int(wrong.argmax())
            problems.append(
                f"{name}: {np.count_nonzero(wrong):,} of {count:,} elements from {start} on are "
                f"wrong, the first is element {first}"
            )
    return SampleCheck(
        blocks=blocks,
        elements=elements,
        restored=restored,
        wrong=wrong_elements,
        problems=tuple(problems),
    )


def _choose_blocks(
    places: Mapping[str, Place], blocks: int, seed: int
) -> Iterator[tuple[str, int, int]]:
    """Yield tensor, first element and length; every tensor is as likely as any other."""
    random = np.random.default_rng(seed)
    names = sorted(places)
    for _ in range(blocks):
        name = names[random.integers(len(names))]
        count = min(BLOCK_ELEMENTS, places[name].elements)
        yield name, int(random.integers(places[name].elements - count + 1)), count
