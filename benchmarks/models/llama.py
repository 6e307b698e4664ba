"""The real shapes and shards of Llama 2 in bfloat16."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shardrestore.synthetic import LlamaShape

ITEM_BYTES = 2
GB = 1_000_000_000

Tensors = Sequence[tuple[str, tuple[int, ...]]]
"""Name and shape of tensors, in the order of their files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeModel:
    """A model that is too large for the everyday benchmarks, and how its sides are sharded."""

    name: str
    shape: LlamaShape
    base_shard_bytes: int
    target_shard_bytes: int

    @property
    def tensors(self) -> Tensors:
        """All tensors, in the order of the files."""
        return list(self.shape.tensors())

    @property
    def side_bytes(self) -> int:
        """Size of one side's weights in bytes."""
        return sum(count_elements(shape) for _, shape in self.tensors) * ITEM_BYTES

    def with_layers(self, layers: int) -> LargeModel:
        """Return the same model with fewer layers."""
        return replace(self, shape=replace(self.shape, num_hidden_layers=layers))


LLAMA_7B = LargeModel(
    name="Llama-2-7B",
    shape=LlamaShape(
        num_hidden_layers=32,
        hidden_size=4096,
        intermediate_size=11008,
        num_attention_heads=32,
        num_key_value_heads=32,
        vocab_size=32_000,
    ),
    base_shard_bytes=10 * GB,
    target_shard_bytes=5 * GB,
)
"""13.5 GB a side; the base in 2 shards, as published, the target in 3, as trainers save it."""

LLAMA_70B = LargeModel(
    name="Llama-2-70B",
    shape=LlamaShape(
        num_hidden_layers=80,
        hidden_size=8192,
        intermediate_size=28672,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=32_000,
    ),
    base_shard_bytes=10 * GB,
    target_shard_bytes=10 * GB,
)
"""138 GB a side in 15 shards, as published."""


def count_elements(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    return math.prod(shape)


def split(tensors: Tensors, shard_bytes: int) -> dict[str, Tensors]:
    """Return the tensors of each shard by its file name, filled in order up to a size."""
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for name, shape in tensors:
        nbytes = count_elements(shape) * ITEM_BYTES
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += nbytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{number:05}-of-{len(shards):05}.safetensors": shard
        for number, shard in enumerate(shards, start=1)
    }
