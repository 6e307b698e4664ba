"""Which shard each tensor is read from: headers are the truth, an index may be out of date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import CheckpointError
from .entry import show, show_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A tensor that stands in two shards."""

    name: str
    home: str
    """Shard that it is read from."""
    shard: str
    """The other one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the tensors of a checkpoint are, and in what its index is wrong."""

    copies: tuple[Copy, ...]
    """Tensors in more than one shard: once for each shard besides their home."""
    absent: tuple[str, ...]
    """Names in the index that no shard has."""
    moved: tuple[str, ...]
    """Names that the index places in another shard than the one that has them."""


def place_tensors(
    weight_map: Mapping[str, str], tensors_by_shard: Mapping[str, Sequence[str]], where: str
) -> Placement:
    """Compare an index with the headers of its shards, as libraries read them: every shard whole.

    A tensor that the index leaves out is accepted, and so is one that no shard has (index of a
    model that has lost a part), or another has: an output's index is made of what was written.

    Parameters
    ----------
    weight_map : mapping of str to str
        The index: tensor to shard; empty without one.
    tensors_by_shard : mapping of str to sequence of str
        The headers: shard to tensors.
    where : str
        Name of the index, for messages.

    Raises
    ------
    CheckpointError
        If a shard holds none of the tensors that the index places in it: it is another
        model's, or an old one.

    Examples
    --------
    >>> place_tensors({"a": "1", "b": "1"}, {"1": ["a"], "2": ["a"]}, "index").absent
    ('b',)
    """
    homes: dict[str, str] = {}
    copies: list[Copy] = []
    for shard, names in tensors_by_shard.items():
        for name in names:
            if name not in homes or weight_map.get(name) == shard:
                if name in homes:
                    copies.append(Copy(name=name, home=shard, shard=homes[name]))
                homes[name] = shard
            else:
                copies.append(Copy(name=name, home=homes[name], shard=shard))
    _refuse_strangers(weight_map, tensors_by_shard, where)
    placed = weight_map.items()
    return Placement(
        copies=tuple(copies),
        absent=tuple(name for name, _ in placed if name not in homes),
        moved=tuple(name for name, shard in placed if homes.get(name, shard) != shard),
    )


def _refuse_strangers(
    weight_map: Mapping[str, str], tensors_by_shard: Mapping[str, Sequence[str]], where: str
) -> None:
    expected: dict[str, list[str]] = {}
    for name, shard in weight_map.items():
        expected.setdefault(shard, []).append(name)
    for shard, names in expected.items():
        if not set(names).intersection(tensors_by_shard.get(shard, ())):
            raise CheckpointError(
                f"{where}: stale index: {show_name(shard)} holds none of the {len(names)} tensors "
                f"that it says are there, the first {show(names[0])}: copy or download the "
                "checkpoint again, index and shards together"
            )
