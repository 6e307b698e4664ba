"""The pairs of checkpoints that are measured, made once and kept in a folder."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shardrestore.formats import FORMATS
from shardrestore.synthetic import LlamaShape, write_pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A base and a target to be made."""

    name: str
    shape: LlamaShape
    shard_bytes: int
    """Largest size of a shard in bytes; a larger tensor gets a shard of its own."""
    dtype: str = "BF16"

    @property
    def side_bytes(self) -> int:
        """Size of one side's weights in bytes."""
        return FORMATS[self.dtype].count_bytes(self.elements)

    @property
    def elements(self) -> int:
        """Elements of one side."""
        total = 0
        for _, shape in self.shape.tensors():
            elements = 1
            for extent in shape:
                elements *= extent
            total += elements
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTensor(LlamaShape):
    """A checkpoint that is a single tensor of a transformer block."""

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of the one tensor."""
        yield "model.layers.0.mlp.down_proj.weight", (self.hidden_size, self.intermediate_size)


def llama_1b(*, layers: int = 16, vocab_size: int = 32_000) -> LlamaShape:
    """Return the shape of the 1.1-billion-parameter pair, or one with fewer layers."""
    return LlamaShape(
        num_hidden_layers=layers,
        hidden_size=2048,
        intermediate_size=8192,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=vocab_size,
    )


BILLION = Pair(name="llama-1.1b", shape=llama_1b(), shard_bytes=500_000_000)
"""1.1 billion bfloat16 parameters in 5 shards: 2.2 GB a side."""

TENTH = Pair(
    name="llama-0.11b", shape=llama_1b(layers=1, vocab_size=12_100), shard_bytes=50_000_000
)
"""A tenth of ``BILLION``: blocks of the same width, but one."""


def growing_llama(hidden_size: int, dtype: str = "BF16") -> Pair:
    """Return a pair of a series in which everything grows with `hidden_size`.

    Width, depth, vocabulary and so tensors, shards and model: whatever a run held
    whole would show in its peak memory. The model grows as the cube of the width:
    768 is 0.06 GB a side in bfloat16, 1280 is 0.26 GB, 2560 is 2 GB.
    """
    shape = LlamaShape(
        num_hidden_layers=hidden_size // 256,
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=hidden_size // 256,
        vocab_size=4 * hidden_size,
    )
    name = f"llama-width-{hidden_size}-{dtype.lower()}"
    side_bytes = Pair(name=name, shape=shape, shard_bytes=1, dtype=dtype).side_bytes
    return Pair(name=name, shape=shape, shard_bytes=side_bytes // 2, dtype=dtype)


def one_tensor(side_bytes: int) -> Pair:
    """Return a pair whose sides are one bfloat16 tensor of about `side_bytes`."""
    shape = OneTensor(
        num_hidden_layers=1,
        hidden_size=1024,
        intermediate_size=side_bytes // 2048,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=1,
    )
    return Pair(name=f"one-tensor-{side_bytes / 1e9:g}gb", shape=shape, shard_bytes=side_bytes)


def make_pair(pair: Pair, folder: Path) -> Path:
    """Return the folder with ``base`` and ``target`` of a pair, made if it is not there."""
    key = hashlib.sha256(repr(pair).encode()).hexdigest()[:8]
    final = folder / f"{pair.name}-{key}"
    if not final.exists():
        print(f"making {pair.name}, {2 * pair.side_bytes / 1e9:.2f} GB …", file=sys.stderr)
        partial = final.with_name(final.name + ".part")
        shutil.rmtree(partial, ignore_errors=True)
        write_pair(partial, pair.shape, shard_bytes=pair.shard_bytes, dtype=pair.dtype)
        partial.rename(final)
    return final
