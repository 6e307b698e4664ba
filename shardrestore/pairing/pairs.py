"""Matching base with target: who takes part, with whom, and everything that does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..checkpoint.config import is_tied
from ..checkpoint.entry import shorten, show_dims, show_name
from ..checkpoint.model import Model
from ..checkpoint.tensor import Tensor
from ..documents import OMITTED, key
from ..errors import PairingError, RequestError
from ..formats import FORMATS, RANKED
from ..notes import Note
from ..scoring import Scoring
from .regions import (
    REGIONS,
    Place,
    in_region,
    is_input_embedding,
    is_output_head,
    locate,
)
from .rename import compile_pattern, rename_all, suggest_prefix
from .towers import Towers, find_towers


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tensors take part: a region, narrowed by patterns."""

    region: str
    include: tuple[re.Pattern[str], ...]
    """If any: the name must contain a match of one of them."""
    exclude: tuple[re.Pattern[str], ...]
    """The name must not contain a match of any of them."""

    def admits(self, tensor: Tensor, towers: Towers) -> bool:
        """Return whether a tensor of the target, which has these towers, takes part."""
        return self.admits_name(tensor.name) and in_region(
            tensor.name, tensor.shape, self.region, towers
        )

    def admits_name(self, name: str) -> bool:
        """Return whether the patterns admit a name, whatever its region."""
        included = not self.include or any(pattern.search(name) for pattern in self.include)
        return included and not any(pattern.search(name) for pattern in self.exclude)


def make_filter(region: str, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Filter:
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
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A tensor of the region, in base and target."""

    base: Tensor
    target: Tensor
    place: Place
    out_dtype: str
    """Format in the output: the target's, or that of a cast."""
    cast: bool
    """Whether both sides are cast to `out_dtype`, and scored in it."""
    twin: str | None = None
    """For a tied output head: the embedding whose selection it repeats, uncounted."""

    @property
    def name(self) -> str:
        """The target's name, which is the output's."""
        return self.target.name

    @property
    def exact(self) -> bool:
        """Whether scores are bfloat16, so that a histogram holds them exactly."""
        if self.cast:
            return self.out_dtype == "BF16"
        return self.base.dtype == self.target.dtype == "BF16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """What a request means for two checkpoints."""

    pairs: tuple[Pair, ...]
    """Tensors whose elements are ranked, in canonical order."""
    twins: tuple[Pair, ...]
    """Tied output heads, which repeat what their embedding gets."""
    notes: tuple[Note, ...] = ()
    """What was found when the names were matched."""

    @property
    def elements(self) -> int:
        """Number of elements in the region."""
        return sum(pair.target.elements for pair in self.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One tensor of the region that cannot be paired."""

    name: str
    kind: str = field(metadata=OMITTED)
    """``missing``, ``shape`` or ``dtype``."""
    text: str = field(metadata=key("problem"))


def match(
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
) -> Pairing:
    """Pair every tensor of the region with its partner in the base.

    Raises
    ------
    PairingError
        If any tensor of the region lacks a partner of the same shape and of a
        floating format; all of them are listed at once.
    RequestError
        If the region has no tensor, naming the regions that have.
    """
    pairing, problems = survey(base, target, admitted, scoring)
    if problems:
        rename = _suggest_rename(base, target, admitted, scoring, problems)
        raise PairingError(_explain(problems, base, target, admitted, rename))
    if not pairing.elements:
        raise RequestError(_explain_absence(target, admitted))
    return pairing


def survey(
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
) -> tuple[Pairing, tuple[Problem, ...]]:
    """Pair what can be paired, and say of the rest of the region why it cannot."""
    towers = find_towers(target.tensors)
    originals = rename_all(base.tensors.keys(), scoring.renames)
    base_by_name = {new: base.tensors[old] for new, old in originals.items()}
    base_head_twin = _base_head_twin(base_by_name)
    twin_of = _tied_heads(target, base_by_name)
    pairs: list[Pair] = []
    twins: list[Pair] = []
    problems: list[Problem] = []
    for tensor in target.tensors.values():
        embedding = twin_of.get(tensor.name)
        # A tied head is its embedding under another name: it takes part if and
        # only if the embedding does, and its elements count once.
        if not admitted.admits(target.tensors[embedding] if embedding else tensor, towers):
            continue
        partner = base_by_name.get(embedding or tensor.name)
        if partner is None and is_output_head(tensor.name):
            partner = base_head_twin
        problem = _find_problem(partner, tensor)
        if partner is None or problem:
            problems.append(problem or _missing(tensor))
            continue
        pair = Pair(
            base=partner,
            target=tensor,
            place=locate(tensor.name, tensor.shape, towers),
            out_dtype=scoring.cast or tensor.dtype,
            cast=scoring.cast is not None,
            twin=embedding,
        )
        (twins if embedding else pairs).append(pair)
    return Pairing(pairs=tuple(pairs), twins=tuple(twins)), tuple(problems)


def _tied_heads(target: Model, base: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each tied output head that the target nevertheless holds to its embedding.

    Of several aliases of the embedding, one that the base holds too is taken.
    """
    if not is_tied(target.config):
        return {}
    heads = [tensor for name, tensor in target.tensors.items() if is_output_head(name)]
    embeddings = [tensor for name, tensor in target.tensors.items() if is_input_embedding(name)]
    return {
        head.name: embedding.name
        for head in heads
        for embedding in sorted(embeddings, key=lambda tensor: tensor.name in base)
        if (head.shape, head.dtype) == (embedding.shape, embedding.dtype)
    }


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
    if base.shape != target.shape:
        text = f"shape {show_dims(base.shape)} in the base, {show_dims(target.shape)} in the target"
        return Problem(name=target.name, kind="shape", text=text)
    if not FORMATS[base.dtype].is_ranked:
        return _wrong_dtype(target.name, "base", base.dtype)
    return None


def _wrong_dtype(name: str, role: str, dtype: str) -> Problem:
    text = f"{dtype} in the {role}: its codes are not the weights themselves"
    return Problem(name=name, kind="dtype", text=text)


_NEXT_STEPS = {
    "missing": "leave tensors without a partner out with --exclude, "
    "or map the base's names with --rename 'REGEX=REPL'",
    "shape": "leave tensors of another shape out with --exclude (they keep the target's values)",
    "dtype": f"only {', '.join(RANKED)} can be ranked: dequantise that model first, "
    "or leave those tensors out with --exclude",
}


def _explain(
    problems: Sequence[Problem],
    base: Model,
    target: Model,
    admitted: Filter,
    rename: str | None,
) -> str:
    plural = "s" if len(problems) > 1 else ""
    lines = [
        f"base {base.where} and target {target.where} do not fit together:",
        f"{len(problems)} tensor{plural} of region {admitted.region!r} cannot be paired",
    ]
    lines += _list_problems(problems)
    if rename:
        lines.append(f"next step: one prefix differs; --rename '{rename}' pairs all of them")
    else:
        kinds = {problem.kind: None for problem in problems}
        lines += [f"next step: {_NEXT_STEPS[kind]}" for kind in kinds]
    return "\n".join(lines)


def _list_problems(problems: Sequence[Problem]) -> list[str]:
    """Return lines of all problems; names that differ by numbers alone share one."""
    groups: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        groups.setdefault((re.sub(r"\d+", "*", problem.name), problem.text), []).append(
            problem.name
        )
    lines = [
        f"  {show_name(names[0])}: {text}"
        if len(names) == 1
        else f"  {show_name(pattern)} ({len(names)} tensors): {text}"
        for (pattern, text), names in groups.items()
    ]
    return shorten(lines)


def _suggest_rename(
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
    problems: Sequence[Problem],
) -> str | None:
    """Return one more renaming that pairs every missing tensor and breaks no other."""
    wanted = [problem.name for problem in problems if problem.kind == "missing"]
    if not wanted or len(wanted) < len(problems):
        return None
    names = rename_all(base.tensors.keys(), scoring.renames)

    def fits(base_name: str, name: str) -> bool:
        return base.tensors[names[base_name]].shape == target.tensors[name].shape

    suggestion = suggest_prefix(names.keys(), wanted, fits)
    if suggestion is None:
        return None
    widened = replace(scoring, renames=(*scoring.renames, suggestion))
    try:
        _, left = survey(base, target, admitted, widened)
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
