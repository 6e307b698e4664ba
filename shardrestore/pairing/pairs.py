"""Pairs of a tensor of the base and one of the target, and what of a region has no partner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..checkpoint.entry import show_dims
from ..checkpoint.model import Model
from ..checkpoint.tensor import Tensor
from ..formats import FORMATS
from ..notes import Note
from ..scoring import Scoring
from .constants import is_constant, note_constants
from .diagnosis import note_adapter
from .filter import Filter
from .problems import Problem
from .regions import Place, is_input_embedding, is_output_head, locate
from .rename import rename_all
from .spelling import note_spelling, plain_names
from .tied_names import note_apart, note_patterns, note_silence, refuse_untied
from .ties import Ties
from .towers import find_towers


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


def survey(
    base: Model,
    target: Model,
    admitted: Filter,
    scoring: Scoring,
    ties: Ties,
) -> tuple[Pairing, tuple[Problem, ...]]:
    """Pair what can be paired, and say of the rest of the region why it cannot."""
    towers = find_towers(target.tensors)
    base_by_name = rename_base(base, target, scoring)
    base_head_twin = _base_head_twin(base_by_name)
    leaders = ties.leaders(base_by_name)
    refused = refuse_untied(target, ties)
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
            *note_apart(target, ties, taken),
            *note_patterns(leaders, admitted, taken),
            *note_silence(target, {pair.name: pair.twin for pair in twins if pair.twin}),
            *note_constants(constants),
        ),
    )
    return pairing, tuple(problems)


def rename_base(base: Model, target: Model, scoring: Scoring) -> dict[str, Tensor]:
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
        return describe_emptied(base, target)
    if base.shape != target.shape:
        text = f"shape {show_dims(base.shape)} in the base, {show_dims(target.shape)} in the target"
        return Problem(name=target.name, kind="shape", text=text)
    if not FORMATS[base.dtype].is_ranked:
        return _wrong_dtype(target.name, "base", base.dtype)
    return None


def describe_emptied(base: Tensor, target: Tensor) -> Problem:
    """Say which of two tensors has lost its weights."""
    role, other = ("base", "target") if target.elements else ("target", "base")
    full = target if target.elements else base
    text = f"empty in the {role}, shape {show_dims(full.shape)} in the {other}"
    return Problem(name=target.name, kind="empty", text=text)


def _wrong_dtype(name: str, role: str, dtype: str) -> Problem:
    text = f"{dtype} in the {role}: its codes are not the weights themselves"
    return Problem(name=name, kind="dtype", text=text)
