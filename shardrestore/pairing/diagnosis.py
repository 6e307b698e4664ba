"""One cause behind many tensors that cannot be paired: quantised, not merged, not gathered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..checkpoint.entry import show_name
from ..checkpoint.model import Model
from ..checkpoint.quantisation import find_quantisation
from ..checkpoint.tensor import Tensor
from ..notes import Note

_ADAPTER = re.compile(
    r"(?:.*\.)?(?:base_layer|lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)"
    r"|ia3_l|(?:hada|lokr)_w\d\w*|vera_lambda_\w|oft_[rs]|modules_to_save|original_module)(?:\..*)?"
)
"""Names that peft gives to what it adds to a model, and to what it wraps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is the matter with one of the two models."""

    cause: str
    """A sentence with the number of tensors."""
    advice: str
    """The next step."""


def diagnose(base: Model, target: Model, empty: Sequence[str] = ()) -> Iterator[Diagnosis]:
    """Say what explains that base and target do not fit together; nothing if neither does.

    Parameters
    ----------
    base, target : Model
    empty : sequence of str
        Tensors that one of them holds without an element, and the other with some.
    """
    for role, model in (("base", base), ("target", target)):
        yield from _find_codes(role, model)
        yield from _find_adapter(role, model)
    if empty:
        yield Diagnosis(
            cause=f"empty tensors: {len(empty):,}, the first {show_name(empty[0])}: their weights "
            "are lost, as when DeepSpeed ZeRO-3 saves a model that it has not gathered",
            advice="save that model again with all its weights: by zero_to_fp32.py from the "
            "training's checkpoint, or with stage3_gather_16bit_weights_on_model_save",
        )


def _find_codes(role: str, model: Model) -> Iterator[Diagnosis]:
    found = find_quantisation(model)
    if found is not None:
        yield Diagnosis(
            cause=f"{role} {model.where} is quantised ({found.method}): {found.tensors:,} of its "
            f"{len(model.tensors):,} tensors hold codes ({', '.join(found.formats)}), not weights",
            advice=f"name a {role} that is not quantised: what it was made from, or what "
            "transformers' dequantize() and save_pretrained() make of it",
        )


def _find_adapter(role: str, model: Model) -> Iterator[Diagnosis]:
    found = _describe_adapter(model)
    if found:
        yield Diagnosis(cause=f"{role} {model.where} {found}", advice=_merge(role))


def note_adapter(target: Model) -> Iterator[Note]:
    """Say that a target holds an adapter beside the weights that are restored."""
    found = _describe_adapter(target)
    if found:
        text = f"target {found}: it stays as it is; next step: {_merge('target')}"
        yield Note(kind="unmerged-adapter", text=text)


def _describe_adapter(model: Model) -> str | None:
    names = [name for name in model.tensors if _ADAPTER.fullmatch(name)]
    if not names:
        return None
    return (
        f"holds an adapter that is not merged: {len(names):,} of its {len(model.tensors):,} "
        f"tensors are peft's, the first {show_name(names[0])}"
    )


def _merge(role: str) -> str:
    return f"merge it where the {role} was trained, by peft's merge_and_unload(), then save it"


def find_emptied(base: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the target's tensors without an element of which the base has some, by name."""
    return [
        tensor
        for name, tensor in target.items()
        if not tensor.elements and name in base and base[name].elements
    ]
