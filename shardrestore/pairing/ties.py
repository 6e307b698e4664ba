"""Tied tensors: one table of weights, which a model holds under several names.

Embedding and head of a tied model are one parameter. Its files hold it once, or once for each
name; ``config.json`` says that it is one, or leaves it to the class that loads it. So neither
decides here: tensors whose names say that they may be one are one if their bytes are equal.

Headers do not tell whether bytes are equal. A sample shows most differences before anything is
planned; what the sample finds equal is compared whole before it is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..checkpoint.config import says_tied
from ..checkpoint.model import Model
from ..checkpoint.tensor import Tensor
from ..formats import FORMATS
from .regions import Table, find_table
from .towers import Towers, find_towers

SAMPLE_ELEMENTS = 1024
"""At either end and in the middle: tokens that are added stand at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Two tensors that differ, although their names say that they are one."""

    name: str
    original: str
    element: int
    """Where a difference was found."""
    is_head: bool
    """Whether one is the head and the other the embedding, which need not be tied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ties:
    """What is tied in a model, and what is not although its name says so."""

    groups: tuple[tuple[str, ...], ...] = ()
    """Names of the same weights, the best known one first."""
    apart: tuple[Apart, ...] = ()

    def leaders(self, base: Mapping[str, Tensor]) -> dict[str, str]:
        """Map each tied name to the one that stands for its group: one that the base has, too."""
        return {
            name: next((known for known in group if known in base), group[0])
            for group in self.groups
            for name in group
        }

    def split(self, differences: Mapping[str, int], target: Model) -> Ties:
        """Return what is left where tensors differ from the leader that they were compared with.

        Those that differ may still be equal to each other: they are a group to be compared.

        Parameters
        ----------
        differences : mapping
            For the name of each one an element at which it differs.
        target : Model
        """
        groups: list[tuple[str, ...]] = []
        apart = list(self.apart)
        for group in self.groups:
            parts = [
                [n for n in group if (n in differences) is differs] for differs in (False, True)
            ]
            groups += [tuple(part) for part in parts if len(part) > 1]
            ordered = _order(target.tensors[name] for name in group)
            apart += _find_apart(ordered, partial(_differ_in, differences))
        return Ties(groups=tuple(groups), apart=tuple(apart))


NO_TIES = Ties()
"""Of a model that holds nothing twice."""


def find_ties(target: Model, concerns: Callable[[Tensor, Towers], bool]) -> Ties:
    """Find what a model's names tie, as far as a sample of the elements agrees.

    Parameters
    ----------
    target : Model
    concerns : callable
        Whether a tensor of the target, which has these towers, matters: of groups in which
        none does nothing is read.
    """
    groups: list[tuple[str, ...]] = []
    apart: list[Apart] = []
    towers = find_towers(target.tensors)
    for tensors in _list_candidates(target, towers):
        if not any(concerns(tensor, towers) for tensor in tensors):
            continue
        if not all(map(target.reader.has, tensors)):
            continue
        ordered = _order(tensors)
        samples = {tensor.name: _read_sample(target, tensor) for tensor in ordered}
        equal: dict[bytes, list[str]] = {}
        for name, sample in samples.items():
            equal.setdefault(sample, []).append(name)
        groups += [tuple(names) for names in equal.values() if len(names) > 1]
        apart += _find_apart(ordered, partial(_differ_in_samples, samples, ordered[0]))
    return Ties(groups=tuple(groups), apart=tuple(apart))


def suppose_ties(target: Model) -> Ties:
    """Return what is tied if names and configuration are right; nothing is read."""
    head_is_tied = says_tied(target.config)
    groups: dict[object, list[Tensor]] = {}
    for number, tensors in enumerate(_list_candidates(target, find_towers(target.tensors))):
        for tensor in tensors:
            is_head = _table(tensor).is_head and not head_is_tied
            groups.setdefault((number, is_head), []).append(tensor)
    names = [tuple(tensor.name for tensor in _order(group)) for group in groups.values()]
    return Ties(groups=tuple(group for group in names if len(group) > 1))


def _list_candidates(target: Model, towers: Towers) -> list[list[Tensor]]:
    """Return tensors that may be one by name, shape and format, if there are several such."""
    alike: dict[object, list[Tensor]] = {}
    for tensor in target.tensors.values():
        table = find_table(tensor.name, towers)
        if table is not None and FORMATS[tensor.dtype].is_ranked:
            group = table.tower, table.is_bias, tensor.shape, tensor.dtype
            alike.setdefault(group, []).append(tensor)
    return [tensors for tensors in alike.values() if len(tensors) > 1]


def _table(tensor: Tensor) -> Table:
    table = find_table(tensor.name)
    assert table is not None
    return table


def _order(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return tensors of a group as their leaders are chosen: embeddings, heads, then copies.

    Of T5's embeddings the last one is ``shared``.
    """
    reverse = sorted(tensors, key=lambda tensor: tensor.name, reverse=True)
    return sorted(reverse, key=lambda tensor: (_table(tensor).in_block, _table(tensor).is_head))


def _spans(elements: int) -> tuple[tuple[int, int], ...]:
    """Return begin and length of what is sampled: of small tensors everything."""
    if elements <= 3 * SAMPLE_ELEMENTS:
        return ((0, elements),)
    last = elements - SAMPLE_ELEMENTS
    return tuple((start, SAMPLE_ELEMENTS) for start in (0, last // 2, last))


def _read_sample(target: Model, tensor: Tensor) -> bytes:
    sample = bytearray()
    for start, elements in _spans(tensor.elements):
        codes = bytearray(tensor.count_bytes(elements))
        target.reader.read(tensor, start, elements, memoryview(codes))
        sample += codes
    return bytes(sample)


def _differ_in_samples(
    samples: Mapping[str, bytes], like: Tensor, one: str, other: str
) -> int | None:
    """Return an element at which two samples, of tensors like one, differ; None if nowhere."""
    pairs = enumerate(zip(samples[one], samples[other], strict=True))
    at = next((at for at, (byte, another) in pairs if byte != another), None)
    if at is None:
        return None
    spans = _spans(like.elements)
    span, within = divmod(at // like.element_bytes, spans[0][1])
    return spans[span][0] + within


def _differ_in(differences: Mapping[str, int], one: str, other: str) -> int | None:
    """Return an element at which two tensors differ, of which one is equal to their leader."""
    if (one in differences) == (other in differences):
        return None
    return differences[one if one in differences else other]


def _find_apart(
    ordered: Sequence[Tensor], differ: Callable[[str, str], int | None]
) -> Iterator[Apart]:
    """Yield what is not what its name makes it: a head the embedding, a copy its original."""
    for tensor in ordered:
        original = _find_original(tensor, ordered)
        element = None if original is None else differ(tensor.name, original.name)
        if original is not None and element is not None:
            yield Apart(
                name=tensor.name,
                original=original.name,
                element=element,
                is_head=_table(tensor).is_head and not _table(original).is_head,
            )


def _find_original(tensor: Tensor, ordered: Sequence[Tensor]) -> Tensor | None:
    """Return what a tensor repeats if its name is right; None if it is an original itself."""
    table = _table(tensor)
    if table.is_bias:
        return None
    for other in ordered:
        known = _table(other)
        if other is tensor or known.in_block:
            continue
        if table.in_block and known.is_head == table.is_head:
            return other
        if not table.in_block and not known.is_head and (table.is_head or known.is_shared):
            return other
    return None
