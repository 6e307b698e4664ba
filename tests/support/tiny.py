"""Pairs that are made and restored in a second."""

from __future__ import annotations

from benchmarks.models.llama import LargeModel
from benchmarks.models.pairs import Pair
from shardrestore.synthetic import LlamaShape

SHAPE = LlamaShape(
    num_hidden_layers=2,
    hidden_size=256,
    intermediate_size=704,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=1001,
)

PAIR = Pair(name="tiny", shape=SHAPE, shard_bytes=2_000_000)

MODEL = LargeModel(
    name="Tiny", shape=SHAPE, base_shard_bytes=2_000_000, target_shard_bytes=1_500_000
)
"""4 MB a side; the base in 3 shards, the target in 4."""
