"""What of a region cannot be paired, and the message that says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ..checkpoint.entry import shorten, show_name
from ..documents import OMITTED, key
from ..formats import RANKED

_NUMBER = re.compile(r"\d+")
_SHORTEST_RANGE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One tensor of the region, or one stack of layers, that cannot be paired."""

    name: str
    kind: str = field(metadata=OMITTED)
    """``missing``, ``shape``, ``dtype``, ``empty``, ``tied`` or ``layers``."""
    text: str = field(metadata=key("problem"))


NEXT_STEPS = {
    "layers": "map the base's layers to the target's with --rename 'REGEX=REPL', or pass "
    "--allow-unpaired: layers of equal number are then paired, the others keep the target's values",
    "missing": "leave tensors without a partner out with --exclude, "
    "or map the base's names with --rename 'REGEX=REPL'",
    "shape": "leave tensors of another shape out with --exclude (they keep the target's values)",
    "dtype": f"only {', '.join(RANKED)} can be ranked: dequantise that model first, "
    "or leave those tensors out with --exclude",
}


def explain(
    problems: Sequence[Problem],
    models: str,
    region: str,
    *,
    causes: Sequence[str],
    steps: Sequence[str],
) -> str:
    """Return the message of a refusal.

    Parameters
    ----------
    problems : sequence of Problem
    models : str
        Base and target, as messages name them.
    region : str
    causes : sequence of str
        What explains many of the problems.
    steps : sequence of str
        The next steps.
    """
    tensors = sum(problem.kind != "layers" for problem in problems)
    lines = [f"{models} do not fit together:", *causes]
    lines += [f"{p.name}: {p.text}" for p in problems if p.kind == "layers"]
    if tensors:
        plural = "s" if tensors > 1 else ""
        lines.append(f"{tensors} tensor{plural} of region {region!r} cannot be paired")
        lines += shorten([f"  {line}" for line in list_tensors(problems)])
    return "\n".join([*lines, *(f"next step: {step}" for step in steps)])


def list_tensors(problems: Iterable[Problem]) -> list[str]:
    """Return lines of all tensors; names that differ by numbers alone share one."""
    groups: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        if problem.kind != "layers":
            pattern = _NUMBER.sub("*", problem.name)
            groups.setdefault((pattern, problem.text), []).append(problem.name)
    return [
        f"{show_name(names[0])}: {text}"
        if len(names) == 1
        else f"{show_name(pattern)} ({len(names)} tensors): {text} ({_list_numbers(names)})"
        for (pattern, text), names in groups.items()
    ]


def _list_numbers(names: Sequence[str]) -> str:
    """Say which numbers stand in the places of a pattern that differ from name to name."""
    places = zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=True)
    differing = [sorted(set(numbers)) for numbers in places]
    return " and ".join(f"* = {list_indices(numbers)}" for numbers in differing if len(numbers) > 1)


def list_indices(indices: Iterable[int]) -> str:
    """Return indices as people write them: runs of three and more as ranges.

    Examples
    --------
    >>> list_indices([0, 1, 2, 3, 8, 9])
    '0-3, 8, 9'
    """
    runs: list[str] = []
    for _, run in groupby(enumerate(sorted(indices)), key=lambda item: item[1] - item[0]):
        numbers = [number for _, number in run]
        if len(numbers) < _SHORTEST_RANGE:
            runs += map(str, numbers)
        else:
            runs.append(f"{numbers[0]}-{numbers[-1]}")
    return ", ".join(runs)
