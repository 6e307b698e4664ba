"""How much is measured on a device: what fits into it, or a trial where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from shardrestore.synthetic import LlamaShape

from ..models.llama import ITEM_BYTES, count_elements
from ..models.pairs import BILLION, TENTH, Pair
from .figures import Facts

LLAMA_8B = LlamaShape(
    num_hidden_layers=32,
    hidden_size=4096,
    intermediate_size=14336,
    num_attention_heads=32,
    num_key_value_heads=8,
    vocab_size=128_256,
)
"""The shapes of Llama-3-8B."""

ELEMENTS = 1 << 28
"""Of tensors for kernels: many times what a cache holds."""

LEAST_ELEMENTS = 1 << 22
"""Of the same, however full the device is."""

KERNEL_BYTES = 64
"""Memory for an element of the kernels' tensors, what is drawn and computed beside them too."""

DRAWING_BYTES = 8 << 30
"""Memory to draw the weights of the largest tensor, and to restore them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    pair: Pair
    """What is read and written."""
    elements: int
    """Of tensors for kernels."""
    shape: LlamaShape
    """Of the model in memory."""


TRIAL = Sizes(
    pair=TENTH,
    elements=1 << 20,
    shape=LlamaShape(
        num_hidden_layers=4,
        hidden_size=512,
        intermediate_size=1792,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=4096,
    ),
)
"""For processors, where nothing is asked of the figures."""


def fit_sizes(facts: Facts) -> Sizes:
    """Return the sizes for a device: a GPU's as large as its free memory allows."""
    if facts.gpu is None:
        return TRIAL
    elements = ELEMENTS
    while elements * KERNEL_BYTES > facts.free_bytes and elements > LEAST_ELEMENTS:
        elements //= 2
    shapes = [
        shape
        for shape in halve_layers(LLAMA_8B)
        if 2 * count_parameters(shape) * ITEM_BYTES + DRAWING_BYTES <= facts.free_bytes
    ]
    return Sizes(
        pair=BILLION,
        elements=elements,
        shape=shapes[0] if shapes else replace(LLAMA_8B, num_hidden_layers=1),
    )


def halve_layers(shape: LlamaShape) -> Iterator[LlamaShape]:
    """Yield a shape, then the same with half as many layers, and so on down to one."""
    layers = shape.num_hidden_layers
    while layers:
        yield replace(shape, num_hidden_layers=layers)
        layers //= 2


def count_parameters(shape: LlamaShape) -> int:
    """Return the number of elements of a model."""
    return sum(count_elements(extents) for _, extents in shape.tensors())
