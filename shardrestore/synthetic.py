"""Llama-shaped pairs of checkpoints made of random numbers, for demos and benchmarks.

Written shard by shard in small blocks, without torch: making a pair takes no
more memory than restoring it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .checkpoint.header import encode_header
from .checkpoint.index import encode_index
from .errors import OutputError
from .formats import FORMATS
from .kernels import casting, reference
from .kernels.interface import Codes
from .names import INDEX_FILE, SINGLE_FILE

_DEMO_MARKER = ".shardrestore-demo"
_BLOCK_ELEMENTS = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """Dimensions of a Llama-like model, named as in its ``config.json``."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of every tensor, in the order of the file."""
        hidden, wide = self.hidden_size, self.intermediate_size
        narrow = hidden // self.num_attention_heads * self.num_key_value_heads
        yield "model.embed_tokens.weight", (self.vocab_size, hidden)
        for layer in range(self.num_hidden_layers):
            block = f"model.layers.{layer}"
            yield f"{block}.self_attn.q_proj.weight", (hidden, hidden)
            yield f"{block}.self_attn.k_proj.weight", (narrow, hidden)
            yield f"{block}.self_attn.v_proj.weight", (narrow, hidden)
            yield f"{block}.self_attn.o_proj.weight", (hidden, hidden)
            yield f"{block}.mlp.gate_proj.weight", (wide, hidden)
            yield f"{block}.mlp.up_proj.weight", (wide, hidden)
            yield f"{block}.mlp.down_proj.weight", (hidden, wide)
            yield f"{block}.input_layernorm.weight", (hidden,)
            yield f"{block}.post_attention_layernorm.weight", (hidden,)
        yield "model.norm.weight", (hidden,)
        yield "lm_head.weight", (self.vocab_size, hidden)

    def config(self, dtype: str) -> bytes:
        """Return a ``config.json`` that transformers loads."""
        document = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": FORMATS[dtype].torch,
            "tie_word_embeddings": False,
        }
        return (json.dumps(document | asdict(self), indent=2) + "\n").encode()


DEMO_SHAPE = LlamaShape(
    num_hidden_layers=4,
    hidden_size=768,
    intermediate_size=2048,
    num_attention_heads=12,
    num_key_value_heads=6,
    vocab_size=16000,
)
"""51 million parameters: in bfloat16 a side takes 101 MB, the pair 202 MB."""


def write_pair(
    folder: Path, shape: LlamaShape, *, shard_bytes: int, dtype: str = "BF16", seed: int = 0
) -> tuple[Path, Path]:
    """Write a base and a target that fine-tuning might have made of it.

    Base weights are normal with standard deviation 0.02; the target adds
    normal updates whose scale differs from tensor to tensor, 1e-5 to 1e-3. In
    bfloat16 many of them vanish in rounding, as they do in real pairs.

    Parameters
    ----------
    folder : Path
        Receives the folders ``base`` and ``target``.
    shape : LlamaShape
    shard_bytes : int
        Largest size of a shard's data in bytes; a larger tensor gets a shard of its own.
    dtype : {"BF16", "F16", "F32"}
    seed : int

    Returns
    -------
    base, target : Path
    """
    shards = _split_into_shards(list(shape.tensors()), shard_bytes, FORMATS[dtype].element_bytes)
    sides = folder / "base", folder / "target"
    for side in sides:
        side.mkdir(parents=True)
        (side / "config.json").write_bytes(shape.config(dtype))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        filename = (
            SINGLE_FILE
            if len(shards) == 1
            else f"model-{number:05}-of-{len(shards):05}.safetensors"
        )
        _write_shard(sides, filename, shard, dtype, [seed, number])
        weight_map |= {name: filename for name, _ in shard}
    if len(shards) > 1:
        elements = sum(_elements(shape) for shard in shards for _, shape in shard)
        total = FORMATS[dtype].count_bytes(elements)
        for side in sides:
            (side / INDEX_FILE).write_bytes(encode_index(weight_map, total))
    return sides


def make_demo_pair(folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write the pair of ``shardrestore demo``, or find it where it was written before.

    Parameters
    ----------
    folder : str or path-like
        Receives the folders ``base`` and ``target``: 202 MB, three shards each.
        It must be missing, empty, or the demo's from an earlier call.

    Returns
    -------
    base, target : Path

    Raises
    ------
    OutputError
        If the folder holds anything else, or cannot be written.
    """
    try:
        path = Path(folder).expanduser()
    except RuntimeError as error:  # ~nobody
        raise OutputError(f"{os.fspath(folder)}: {error}") from error
    marker, partial = path / _DEMO_MARKER, path / ".partial"
    try:
        if not marker.exists() and path.exists() and any(path.iterdir()):
            raise OutputError(f"{path}: holds files that are not the demo's: name an empty folder")
        path.mkdir(parents=True, exist_ok=True)
        marker.touch()
        if not ((path / "base").exists() and (path / "target").exists()):
            for leftover in (partial, path / "base", path / "target"):
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                for side in write_pair(partial, DEMO_SHAPE, shard_bytes=40_000_000):
                    side.rename(path / side.name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"{error.filename or path}: the demo cannot be written: {error.strerror}: it needs "
            "about 320 MB; name another folder"
        ) from error
    return path / "base", path / "target"


Tensors = list[tuple[str, tuple[int, ...]]]


def _split_into_shards(tensors: Tensors, shard_bytes: int, item_bytes: int) -> list[Tensors]:
    shards: list[Tensors] = [[]]
    size = 0
    for name, shape in tensors:
        nbytes = _elements(shape) * item_bytes
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += nbytes
    return shards


def _elements(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _write_shard(
    sides: tuple[Path, Path], filename: str, tensors: Tensors, dtype: str, seed: list[int]
) -> None:
    random = np.random.default_rng(seed)
    header = encode_header([(name, dtype, shape) for name, shape in tensors], {"format": "pt"})
    paths = [side / filename for side in sides]
    with open(paths[0], "xb") as base_file, open(paths[1], "xb") as target_file:
        base_file.write(header)
        target_file.write(header)
        for _, shape in tensors:
            scale = np.float32(10.0 ** random.uniform(-5, -3))
            left = _elements(shape)
            while left:
                count = min(left, _BLOCK_ELEMENTS)
                base = random.standard_normal(count, np.float32) * np.float32(0.02)
                base_codes = _encode(base, dtype)
                update = random.standard_normal(count, np.float32) * scale
                base_file.write(base_codes.data)
                target_file.write(_encode(base + update, dtype).data)
                left -= count


def _encode(values: npt.NDArray[np.float32], dtype: str) -> Codes:
    return casting.narrow(reference, values, dtype, np.empty(values.size, np.uint32))
