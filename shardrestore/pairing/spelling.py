"""Spellings of one name: what wraps a module, and what older libraries called its parameters.

A model that was saved from within ``torch.compile``, FSDP, activation checkpointing or
``DataParallel`` has their names in its own, wherever a module was wrapped::

    _fsdp_wrapped_module.model.layers.3._checkpoint_wrapped_module.mlp.up_proj.weight

They are no part of the model. LayerNorm's ``gamma`` and ``beta``, and the two halves of a weight
norm, are spelled as transformers spells them when it loads such a file (``legacy`` in its
``conversion_mapping.py``, 5.23).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator

from ..checkpoint.entry import show_name
from ..notes import Note

_WRAPPER = re.compile(
    r"(?:(?<=\.)|^)"
    r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|_?module)\."
)
_OLD_LEAVES = {
    "gamma": "weight",
    "beta": "bias",
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
_OLD_ENDS = tuple(f".{leaf}" for leaf in _OLD_LEAVES)


def unwrap(name: str) -> str:
    """Return a name without the modules that wrap others.

    Examples
    --------
    >>> unwrap("_orig_mod.model.layers.0._fsdp_wrapped_module.mlp.up_proj.weight")
    'model.layers.0.mlp.up_proj.weight'
    """
    return _WRAPPER.sub("", name) if _may_differ(name) else name


def spell_plainly(name: str) -> str:
    """Return a name unwrapped, and with today's word for its parameter.

    Examples
    --------
    >>> spell_plainly("module.bert.embeddings.LayerNorm.gamma")
    'bert.embeddings.LayerNorm.weight'
    """
    stem, dot, leaf = unwrap(name).rpartition(".")
    return stem + dot + _OLD_LEAVES.get(leaf, leaf)


def plain_names(names: Collection[str]) -> dict[str, str]:
    """Map the plain spelling of each name of a model to the name.

    Names that would become one keep their own: there the difference has a meaning.

    Examples
    --------
    >>> plain_names(["norm.gamma", "scale.gamma", "scale.weight"])
    {'norm.weight': 'norm.gamma', 'scale.gamma': 'scale.gamma', 'scale.weight': 'scale.weight'}
    """
    others = {name: spell_plainly(name) for name in names if _may_differ(name)}
    if not others:
        return {name: name for name in names}
    plain = {name: others.get(name, name) for name in names}
    uses = Counter(plain.values())
    return {spelled if uses[spelled] == 1 else name: name for name, spelled in plain.items()}


def _may_differ(name: str) -> bool:
    """Look at a name fast: of 46,000 hardly any is spelled otherwise."""
    return "_mod." in name or "module." in name or name.endswith(_OLD_ENDS)


def note_spelling(role: str, names: Collection[str]) -> Iterator[Note]:
    """Say which names of a model are read as if they were spelled otherwise.

    Parameters
    ----------
    role : str
        ``"base"`` or ``"target"``.
    names : collection of str
    """
    read = {name: plain for plain, name in plain_names(names).items() if plain != name}
    wrapped = [name for name in read if unwrap(name) != name]
    old = [name for name in read if name.rpartition(".")[2] in _OLD_LEAVES]
    kept = "" if role == "base" else "; the restored model keeps the target's names"
    if wrapped:
        yield Note(
            kind="wrapped-names",
            text=f"{role}: {len(wrapped):,} of {len(names):,} names hold wrappers such as "
            f"_orig_mod or module, the first {show_name(wrapped[0])}: they are ignored{kept}",
        )
    if old:
        yield Note(
            kind="old-names",
            text=f"{role}: {len(old):,} of {len(names):,} names are of older libraries, the first "
            f"{show_name(old[0])}: it is paired as {show_name(read[old[0]])}{kept}",
        )
