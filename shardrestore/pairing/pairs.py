"""Matching base with target: who takes part, with whom, and everything that does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..checkpoint.config import says_tied
from ..checkpoint.entry import show_dims, show_name
from ..checkpoint.model import Model
from ..checkpoint.tensor import Tensor
from ..errors import PairingError, RequestError
from ..formats import FORMATS
from ..notes import Note
from ..scoring import Scoring
from .constants import is_constant, note_constants
from .diagnosis import diagnose, find_emptied, note_adapter
from .layers import compare_layers
from .problems import NEXT_STEPS, Problem, explain, list_tensors
from .regions import (
    REGIONS,
    Place,
    in_region,
    is_input_embedding,
    is_output_head,
    locate,
)
from .rename import compile_pattern, rename_all, suggest_prefix
from .spelling import note_spelling, plain_names
from .ties import Apart, Ties
from .towers import Towers, find_towers

_NOTED_LINES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tensors take part: a region, narrowed by patterns."""

    region: str
    include: tuple[re.Pattern[str], ...]
    """If any: the name must contain a match of one of them."""
    exclude: tuple[re.Pattern[str], ...]
    """The name must not contain a match of any of them."""
    allow_unpaired: bool
    """Whether what cannot be paired is left out, not refused."""

    def admits(self, tensor: Tensor, towers: Towers) -> bool:
        """Return whether a tensor of the target, which has these towers, takes part."""
        return self.admits_name(tensor.name) and in_region(
            tensor.name, tensor.shape, self.region, towers
        )

    def admits_name(self, name: str) -> bool:
        """Return whether the patterns admit a name, whatever its region."""
        included = not self.include or any(pattern.search(name) for pattern in self.include)
        return included and not any(pattern.search(name) for pattern in self.exclude)


def admitted_by(filters: Sequence[Filter]) -> Callable[[Tensor, Towers], bool]:
    """Return a function that says whether any of some filters admits a tensor."""

    def admits(tensor: Tensor, towers: Towers) -> bool:
        return any(one.admits(tensor, towers) for one in filters)

    return admits


def make_filter(
    region: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    allow_unpaired: bool = False,
) -> Filter:
    """Build a filter from what a user writes.

    Raises
    ------
    RequestError
        If the region is unknown or a pattern is no regular expression.
    """
    if region not in REGIONS:
        raise RequestError(f"region {region!r}: choose one of {', '.join(REGIONS)}")
    return Filter(
        region=region,
        include=tuple(compile_pattern(text, "--include") for text in include),
        exclude=tuple(compile_pattern(text, "--exclude") for text in exclude),
        allow_unpaired=allow_unpaired,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A tensor of the region, in base and target."""

    base: Tensor
    target: Tensor
    place: Place
    out_dtype: str
    """Format in the output, and in which both sides are scored: the target's, or a cast's."""
    twin: str | None = None
    """For one of several names of the same weights: the name whose selection it repeats."""

    @property
    def name(self) -> str:
        """The target's name, which is the output's."""
        return self.target.name

    @property
    def is_mixed(self) -> bool:
        """Whether base and target have two formats."""
        return self.base.dtype != self.target.dtype

    @property
    def exact(self) -> bool:
        """Whether scores are bfloat16, so that a histogram holds them exactly."""
        return self.out_dtype == "BF16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """What a request means for two checkpoints."""

    pairs: tuple[Pair, ...]
    """Tensors whose elements are ranked, in canonical order."""
    twins: tuple[Pair, ...]
    """Further names of tied weights, which repeat what the first gets and are not counted."""
    notes: tuple[Note, ...] = ()
    """What was found when the names were matched."""

    @property
    def elements(self) -> int:
        """Number of elements in the region."""
        return sum(pair.target.elements for pair in self.pairs)


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
        raise PairingError(_explain_untied(untied, target))
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
    by_name = _rename_base(base, target, scoring)
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


def survey(
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
    ties: Ties,
) -> tuple[Pairing, tuple[Problem, ...]]:
    """Pair what can be paired, and say of the rest of the region why it cannot."""
    towers = find_towers(target.tensors)
    base_by_name = _rename_base(base, target, scoring)
    base_head_twin = _base_head_twin(base_by_name)
    leaders = ties.leaders(base_by_name)
    refused = _refuse_untied(target, ties)
    pairs: list[Pair] = []
    twins: list[Pair] = []
    problems: list[Problem] = []
    constants: list[str] = []
    for tensor in target.tensors.values():
        # Tied weights are one tensor with several names: all of it takes part if and
        # only if the first name does, and its elements count once.
        leader = leaders.get(tensor.name, tensor.name)
        if not admitted.admits(target.tensors[leader], towers):
            continue
        partner = base_by_name.get(leader)
        if partner is None and is_output_head(leader):
            partner = base_head_twin
        if is_constant(base, partner, target, tensor):
            constants.append(tensor.name)
            continue
        problem = refused.get(tensor.name) or _find_problem(partner, tensor)
        if partner is None or problem:
            problems.append(problem or _missing(tensor))
            continue
        pair = Pair(
            base=partner,
            target=tensor,
            place=locate(tensor.name, tensor.shape, towers),
            out_dtype=scoring.cast or tensor.dtype,
            twin=None if leader == tensor.name else leader,
        )
        (twins if pair.twin else pairs).append(pair)
    taken = {pair.name for pair in (*pairs, *twins)}
    pairing = Pairing(
        pairs=tuple(pairs),
        twins=tuple(twins),
        notes=(
            *note_spelling("base", base.tensors.keys()),
            *note_spelling("target", target.tensors.keys()),
            *note_adapter(target),
            *_note_apart(target, ties, taken),
            *_note_patterns(leaders, admitted, taken),
            *_note_silence(target, twins),
            *note_constants(constants),
        ),
    )
    return pairing, tuple(problems)


def _rename_base(base: Model, target: Model, scoring: Scoring) -> dict[str, Tensor]:
    """Return the base's tensors by the names of their partners in the target.

    Names that differ in spelling alone are one; a tensor without a partner keeps its own.
    """
    renamed = rename_all(base.tensors.keys(), scoring.renames)
    spelled = plain_names(target.tensors.keys())
    found = {name: base.tensors[old] for name, old in renamed.items() if name in target.tensors}
    for plain, name in plain_names(renamed.keys()).items():
        partner = spelled.get(plain, name)
        found.setdefault(name if partner in found else partner, base.tensors[renamed[name]])
    return found


def _add_emptied(
    problems: Sequence[Problem], base: Model, target: Model, scoring: Scoring
) -> tuple[Problem, ...]:
    """Add the target's tensors that have lost their weights, in the region or not.

    Left out of the region, they would leave an output that no library loads.
    """
    by_name = _rename_base(base, target, scoring)
    known = {problem.name for problem in problems}
    lost = [one for one in find_emptied(by_name, target.tensors) if one.name not in known]
    return *problems, *(_emptied(by_name[tensor.name], tensor) for tensor in lost)


def _refuse_untied(target: Model, ties: Ties) -> dict[str, Problem]:
    """Return heads that differ from their embedding although the configuration ties them."""
    if not says_tied(target.config):
        return {}
    return {
        apart.name: Problem(
            name=apart.name,
            kind="tied",
            text=f"differs from {show_name(apart.original)} near element {apart.element}, "
            f"although config.json of {target.where} ties them",
        )
        for apart in ties.apart
        if apart.is_head
    }


def _explain_untied(problems: Sequence[Problem], target: Model) -> str:
    lines = [f"{show_name(problem.name)} {problem.text}" for problem in problems]
    return "\n".join(lines) + ": correct tie_word_embeddings, or leave both out with --exclude"


def _note_apart(target: Model, ties: Ties, taken: Collection[str]) -> Iterator[Note]:
    """Say what differs although its name says that it does not, and nothing else decides."""
    for apart in ties.apart:
        decided = apart.is_head and says_tied(target.config) is not None
        if not decided and (apart.name in taken or apart.original in taken):
            yield Note(kind="untied", text=_describe_apart(apart))


def _describe_apart(apart: Apart) -> str:
    names = f"{show_name(apart.name)} differs from {show_name(apart.original)}"
    if not apart.is_head:
        return f"{names} near element {apart.element}, whose copy its name makes it: both count."
    return (
        f"{names} near element {apart.element}, and the target's config.json does not say whether "
        "they are tied: both count. A library that ties them loads one of the two in the place of "
        "both: set tie_word_embeddings to false there if they are not tied."
    )


def _note_patterns(
    leaders: Mapping[str, str], admitted: Filter, taken: Collection[str]
) -> Iterator[Note]:
    """Say where patterns would part what is tied."""
    for name, leader in leaders.items():
        if admitted.admits_name(name) == admitted.admits_name(leader):
            continue
        names = f"{show_name(name)} is tied to {show_name(leader)}"
        if name in taken:
            text = (
                f"{names}, and is restored with it although --include or --exclude leave it out: "
                "leave out both, or neither."
            )
        elif admitted.admits_name(name):
            text = f"{names}, and is left out with it although --include or --exclude admit it."
        else:
            continue
        yield Note(kind="tied", text=text)


def _note_silence(target: Model, twins: Sequence[Pair]) -> Iterator[Note]:
    """Say that weights are taken for tied against the configuration's word."""
    if says_tied(target.config) is not False:
        return
    for pair in twins:
        if is_output_head(pair.name) and is_input_embedding(pair.twin or ""):
            yield Note(
                kind="tied",
                text=f"{show_name(pair.name)} is equal to {show_name(pair.twin or '')} in every "
                "byte, although the target's config.json says that the head is not tied: they "
                "count once, and stay equal.",
            )


def _base_head_twin(base: Mapping[str, Tensor]) -> Tensor | None:
    """Return what serves as the output head of a base without one: its input embedding."""
    if any(is_output_head(name) for name in base):
        return None
    embeddings = [tensor for name, tensor in base.items() if is_input_embedding(name)]
    return embeddings[0] if len(embeddings) == 1 else None


def _missing(tensor: Tensor) -> Problem:
    return Problem(name=tensor.name, kind="missing", text="only the target has it")


def _find_problem(base: Tensor | None, target: Tensor) -> Problem | None:
    if not FORMATS[target.dtype].is_ranked:
        return _wrong_dtype(target.name, "target", target.dtype)
    if base is None:
        return _missing(target)
    if base.shape != target.shape and not (base.elements and target.elements):
        return _emptied(base, target)
    if base.shape != target.shape:
        text = f"shape {show_dims(base.shape)} in the base, {show_dims(target.shape)} in the target"
        return Problem(name=target.name, kind="shape", text=text)
    if not FORMATS[base.dtype].is_ranked:
        return _wrong_dtype(target.name, "base", base.dtype)
    return None


def _emptied(base: Tensor, target: Tensor) -> Problem:
    role, other = ("base", "target") if target.elements else ("target", "base")
    full = target if target.elements else base
    text = f"empty in the {role}, shape {show_dims(full.shape)} in the {other}"
    return Problem(name=target.name, kind="empty", text=text)


def _wrong_dtype(name: str, role: str, dtype: str) -> Problem:
    text = f"{dtype} in the {role}: its codes are not the weights themselves"
    return Problem(name=name, kind="dtype", text=text)


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
