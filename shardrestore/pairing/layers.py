"""Whether the layers of base and target are the same layers.

Where layers were pruned or inserted the others are renumbered: shapes and names still fit, and
every layer behind the first change would be ranked against another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..checkpoint.config import count_layers
from ..checkpoint.entry import show_name
from ..checkpoint.model import Model
from .problems import Problem, list_indices
from .regions import is_buffer
from .towers import BLOCK, NO_TOWERS, TOWERS

# Of a block for multi-token prediction, which many tools leave out: DeepSeek, GLM, Qwen.
_PREDICTION = re.compile(r"\.(?:eh_proj|enorm|hnorm|shared_head|embed_tokens)\.")

_MOST_DIGITS = 9
"""Of a layer's number; a hostile name of thousands is no layer's, and no integer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A numbered run of blocks."""

    tower: str
    """One of ``TOWERS``."""
    name: str
    """What comes before the number: ``model.layers``."""
    layers: tuple[int, ...]
    """The numbers, ascending."""

    def describe(self) -> str:
        """Return the numbers as people write them: ``layers 0-31``."""
        return f"layers {list_indices(self.layers)}"


def _find_block(name: str) -> re.Match[str] | None:
    block = BLOCK.search(name)
    return block if block is not None and len(block[2]) <= _MOST_DIGITS else None


def list_stacks(places: Iterable[tuple[str, str]]) -> tuple[Stack, ...]:
    """Return the stacks of tensors, given by name and tower."""
    stacks: dict[tuple[int, str], set[int]] = {}
    for name, tower in places:
        block = _find_block(name)
        if block is not None:
            place = TOWERS.index(tower), name[: block.end(1)]
            stacks.setdefault(place, set()).add(int(block[2]))
    return tuple(
        Stack(tower=TOWERS[tower], name=name, layers=tuple(sorted(numbers)))
        for (tower, name), numbers in sorted(stacks.items())
    )


Stacks = Mapping[str, frozenset[int]]
"""The numbers of the blocks in each stack, by what comes before the number."""


def find_stacks(names: Iterable[str], limit: int | None = None) -> Stacks:
    """Return the stacks of layers that names show; blocks for multi-token prediction are none.

    A buffer shows no layer: rotary tables were stored by old versions of libraries alone.

    Parameters
    ----------
    names : iterable of str
    limit : int, optional
        Blocks of the language model from this number on are no layers either.
    """
    stacks: dict[str, set[int]] = {}
    others: dict[str, set[int]] = {}
    for name in names:
        block = _find_block(name)
        if block is not None and not is_buffer(name):
            stack, number = name[: block.end(1)], int(block[2])
            stacks.setdefault(stack, set()).add(number)
            is_beyond = limit is not None and number >= limit and _is_language(stack)
            if is_beyond or _PREDICTION.search(name, block.end() - 1):
                others.setdefault(stack, set()).add(number)
    return {
        stack: frozenset(numbers - others.get(stack, set())) for stack, numbers in stacks.items()
    }


def _is_language(stack: str) -> bool:
    return NO_TOWERS.locate(stack) == "language"


def compare_layers(
    base: Model, target: Model, originals: Mapping[str, str], ranked: Iterable[str]
) -> list[Problem]:
    """Return what differs in the layers of the stacks that take part.

    Parameters
    ----------
    base, target : Model
    originals : mapping
        Each name of the base after all renames, and what it was before: a stack in which they
        map one layer to another is the user's own affair.
    ranked : iterable of str
        Names of the target that take part.
    """
    counted = [count_layers(model.config) for model in (base, target)]
    shared = sorted(counted[0].keys() & counted[1].keys())
    differing = [key for key in shared if counted[0][key] != counted[1][key]]
    limit = max((counted[0][key] for key in shared), default=None) if not differing else None
    mine, theirs = find_stacks(originals, limit), find_stacks(target.tensors, limit)
    mapped = {stack for new, old in originals.items() if (stack := _find_mapped(new, old))}
    concerned = sorted(find_stacks(ranked, limit).keys() - mapped)
    problems = [
        _compare(stack, mine[stack], theirs[stack])
        for stack in concerned
        if stack in mine and mine[stack] != theirs[stack]
    ]
    if concerned and not problems and not mapped:
        for key in differing:
            text = f"{key} is {counted[0][key]} in the base's, {counted[1][key]} in the target's"
            problems.append(Problem(name="config.json", kind="layers", text=text))
    return problems


def _find_mapped(new: str, old: str) -> str | None:
    """Return the stack in which a rename gives a layer another number."""
    after, before = BLOCK.search(new), BLOCK.search(old)
    if after is None or (before is not None and after[2] == before[2]):
        return None
    return new[: after.end(1)]


def _compare(stack: str, base: frozenset[int], target: frozenset[int]) -> Problem:
    sides = (("base", base), ("target", target))
    lacking = [
        f"the {role} lacks {list_indices(other - own)}"
        for (role, own), (_, other) in (sides, sides[::-1])
        if other - own
    ]
    counts = [f"{len(own)} layers in the {role} ({list_indices(own)})" for role, own in sides]
    text = f"{counts[0]}, {counts[1]}: {' and '.join(lacking)}"
    return Problem(name=show_name(stack), kind="layers", text=text)
