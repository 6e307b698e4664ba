"""Matching base with target, or refusing them: everything that does not fit, and what would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..checkpoint.model import Model
from ..errors import PairingError, RequestError
from ..notes import Note
from ..scoring import Scoring
from .diagnosis import diagnose, find_emptied
from .filter import Filter
from .layers import compare_layers
from .pairs import Pairing, describe_emptied, rename_base, survey
from .problems import NEXT_STEPS, Problem, explain, list_tensors
from .regions import REGIONS
from .rename import rename_all, suggest_prefix
from .spelling import plain_names
from .tied_names import explain_untied
from .ties import Ties
from .towers import find_towers

_NOTED_LINES = 8


def match(
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
    ties: Ties,
) -> Pairing:
    """Pair every tensor of the region with its partner in the base.

    Raises
    ------
    PairingError
        If any tensor of the region lacks a partner of the same shape and of a floating
        format, differs from the one that the configuration ties it to, or lies in a stack
        of other layers than the base's, or if any tensor of the target has lost its
        weights; all of them are listed at once.
    RequestError
        If the region has no tensor, naming the regions that have.
    """
    pairing, problems = survey(base, target, admitted, scoring, ties)
    untied = [problem for problem in problems if problem.kind == "tied"]
    if untied:
        raise PairingError(explain_untied(untied))
    others = find_other_layers(base, target, pairing, scoring)
    problems = (*others, *_add_emptied(problems, base, target, scoring))
    lost = any(problem.kind == "empty" for problem in problems)
    if problems and admitted.allow_unpaired and not lost:
        pairing = replace(pairing, notes=(*pairing.notes, _note_unpaired(problems)))
    elif problems:
        raise PairingError(_explain(problems, base, target, admitted, scoring, ties))
    if not pairing.elements:
        raise RequestError(_explain_absence(target, admitted))
    return pairing


def find_other_layers(
    base: Model, target: Model, pairing: Pairing, scoring: Scoring
) -> tuple[Problem, ...]:
    """Return what differs in the layers that take part: see ``compare_layers``."""
    by_name = rename_base(base, target, scoring)
    originals = {name: tensor.name for name, tensor in by_name.items()}
    ranked = [pair.name for pair in pairing.pairs]
    return tuple(compare_layers(base, target, originals, ranked))


def _note_unpaired(problems: Sequence[Problem]) -> Note:
    """Say what keeps the target's values because it has no partner."""
    lines = [f"{p.name}: {p.text}" for p in problems if p.kind == "layers"]
    lines += list_tensors(problems)
    more = f"; and {len(lines) - _NOTED_LINES} more" if len(lines) > _NOTED_LINES else ""
    return Note(
        kind="unpaired",
        text="--allow-unpaired: what cannot be paired keeps the target's values: "
        f"{'; '.join(lines[:_NOTED_LINES])}{more}.",
    )


def _add_emptied(
    problems: Sequence[Problem], base: Model, target: Model, scoring: Scoring
) -> tuple[Problem, ...]:
    """Add the target's tensors that have lost their weights, in the region or not.

    Left out of the region, they would leave an output that no library loads.
    """
    by_name = rename_base(base, target, scoring)
    known = {problem.name for problem in problems}
    lost = [one for one in find_emptied(by_name, target.tensors) if one.name not in known]
    return *problems, *(describe_emptied(by_name[tensor.name], tensor) for tensor in lost)


def _explain(
    problems: Sequence[Problem],
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
    ties: Ties,
) -> str:
    rename = _suggest_rename(base, target, admitted, scoring, ties, problems)
    empty = [problem.name for problem in problems if problem.kind == "empty"]
    kinds = dict.fromkeys(one.kind for one in problems)
    diagnoses = [] if rename else list(diagnose(base, target, empty))
    if rename:
        steps = [f"one prefix differs; --rename '{rename}' pairs all of them"]
    elif diagnoses:
        steps = [diagnosis.advice for diagnosis in diagnoses]
        steps += _suggest_regions(base, target, admitted, scoring, ties)
    else:
        steps = [NEXT_STEPS[kind] for kind in (["layers"] if "layers" in kinds else kinds)]
    causes = [diagnosis.cause for diagnosis in diagnoses]
    models = f"base {base.where} and target {target.where}"
    return explain(problems, models, admitted.region, causes=causes, steps=steps)


def _suggest_regions(
    base: Model, target: Model, admitted: Filter, scoring: Scoring, ties: Ties
) -> Iterator[str]:
    """Name the regions in which everything can be paired, if there are any."""
    if _add_emptied((), base, target, scoring):
        return
    fitting = []
    for region in REGIONS:
        pairing, problems = survey(base, target, replace(admitted, region=region), scoring, ties)
        if pairing.elements and not problems:
            fitting.append(region)
    if fitting:
        yield f"or restore what can be paired: --region {' or '.join(fitting)}"


def _suggest_rename(
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
    ties: Ties,
    problems: Sequence[Problem],
) -> str | None:
    """Return one more renaming that pairs every missing tensor and breaks no other."""
    wanted = [problem.name for problem in problems if problem.kind == "missing"]
    if not wanted or len(wanted) < len(problems):
        return None
    renamed = rename_all(base.tensors.keys(), scoring.renames)
    names = {plain: renamed[name] for plain, name in plain_names(renamed.keys()).items()}
    spelled = plain_names(target.tensors.keys())

    def fits(base_name: str, name: str) -> bool:
        return base.tensors[names[base_name]].shape == target.tensors[spelled[name]].shape

    plainly = {name: plain for plain, name in spelled.items()}
    suggestion = suggest_prefix(names.keys(), [plainly[name] for name in wanted], fits)
    if suggestion is None:
        return None
    widened = replace(scoring, renames=(*scoring.renames, suggestion))
    try:
        _, left = survey(base, target, admitted, widened, ties)
    except PairingError:
        return None
    return None if left else suggestion


def _explain_absence(target: Model, admitted: Filter) -> str:
    towers = find_towers(target.tensors)
    elements = dict.fromkeys(REGIONS, 0)
    for tensor in target.tensors.values():
        for region in REGIONS:
            if replace(admitted, region=region).admits(tensor, towers):
                elements[region] += tensor.elements
    others = [f"{region} ({count:,} elements)" for region, count in elements.items() if count]
    patterns = " with these --include/--exclude" if admitted.include or admitted.exclude else ""
    advice = f"these would: {', '.join(others)}" if others else "no region would"
    return f"region {admitted.region!r}{patterns} matches no tensor of {target.where}; {advice}"
