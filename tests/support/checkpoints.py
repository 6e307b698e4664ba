"""Small random checkpoints, written byte by byte: any order, any sharding, any header."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from shardrestore.names import PAGE_FILE
from tests.support.oracle import TORCH_DTYPES, Stored

Tensors = dict[str, Stored]

ITEM_TYPES = {
    "BF16": np.uint16,
    "F16": np.uint16,
    "F32": np.uint32,
    "I64": np.int64,
    "U8": np.uint8,
}

RANKED = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.k_proj.bias",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.1.mlp.gate_proj.weight",
    "model.layers.10.self_attn.o_proj.weight",
    "model.layers.2.self_attn.q_norm.weight",
    "model.layers.10.input_layernorm.weight",
    "model.norm.weight",
    "model.embed_tokens.weight",
    "lm_head.weight",
    "classifier.weight",
)
"""Names whose tensors are weights; the order here is not the canonical one."""

PASSED_THROUGH = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": "F32",
    "model.embeddings.position_ids": "I64",
    "quantised.scales": "U8",
}
"""Names that only the target has and no region ranks (``quantised`` must be excluded)."""

SHAPES = (
    (),
    (1,),
    (0,),
    (3, 0, 2),
    (7,),
    (8,),
    (9, 1),
    (16, 16),
    (5, 41),
    (300,),
    (33, 31),
    (3, 17, 19),
    (64, 40),
)


def store(values: object, dtype: str = "F32", shape: Sequence[int] | None = None) -> Stored:
    """Store numbers in a format, rounded by torch."""
    tensor = torch.as_tensor(values, dtype=torch.float32)
    codes = tensor.to(TORCH_DTYPES[dtype]).contiguous()
    data = bytes(codes.view(torch.uint8).flatten().numpy()) if codes.numel() else b""
    if not codes.dim() and codes.numel():
        data = bytes(codes.reshape(1).view(torch.uint8).numpy())
    return Stored(dtype, tuple(tensor.shape if shape is None else shape), data)


def write_file(
    path: Path,
    tensors: Mapping[str, Stored],
    *,
    metadata: Mapping[str, str] | None = None,
    padding: int = 0,
) -> None:
    """Write one safetensors file: tensors in the given order, spaces after the header."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    begin = 0
    for name, stored in tensors.items():
        end = begin + len(stored.data)
        header[name] = {
            "shape": list(stored.shape),
            "dtype": stored.dtype,
            "data_offsets": [begin, end],
        }
        begin = end
    raw = json.dumps(header).encode() + b" " * padding
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for stored in tensors.values():
            file.write(stored.data)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a checkpoint is laid out in files; the same seed gives the same files."""

    shards: int
    """0: a single ``model.safetensors`` without an index."""
    seed: int
    metadata: bool = True
    padding: int = 0


def write_checkpoint(
    folder: Path,
    tensors: Mapping[str, Stored],
    layout: Layout = Layout(0, 0),
    side_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shuffle = random.Random(layout.seed)
    names = list(tensors)
    if layout.seed:
        shuffle.shuffle(names)
    metadata = {"format": "pt", "note": "été"} if layout.metadata else None
    if not layout.shards:
        files = {"model.safetensors": names}
    else:
        files = {}
        for name in names:
            shard = shuffle.randrange(layout.shards)
            files.setdefault(f"part-{shard}-of-{layout.shards}.safetensors", []).append(name)
        index = {
            "metadata": {"total_size": 1},  # others write nonsense here
            "weight_map": {name: file for file, inside in files.items() for name in inside},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for file, inside in files.items():
        write_file(
            folder / file,
            {name: tensors[name] for name in inside},
            metadata=metadata,
            padding=layout.padding,
        )
    for name, content in (side_files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones included.

    But for reports: they tell time and memory, and so differ between equal runs.
    """
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != PAGE_FILE
    }


@dataclass(frozen=True, slots=True)
class Case:
    """A pair of checkpoints."""

    base: Tensors
    target: Tensors
    tied: bool | None
    """Whether the target's configuration says that its head is its embedding; None if silent."""

    @property
    def twins(self) -> dict[str, str]:
        """The head as its embedding's twin, if its bytes are the same, whatever is said."""
        head, embedding = "lm_head.weight", "model.embed_tokens.weight"
        stored = self.target.get(head)
        is_same = stored is not None and stored == self.target.get(embedding)
        return {head: embedding} if is_same else {}

    @property
    def side_files(self) -> dict[str, bytes]:
        """What lies beside the target's weights."""
        config: dict[str, Any] = {"model_type": "llama", "dtype": "float32"}
        if self.tied is not None:
            config["tie_word_embeddings"] = self.tied
        return {
            "config.json": json.dumps(config).encode(),
            "tokenizer.json": b'{"version": "1.0"}\r\n',
            "remote/code.py": b"# code\n",
        }


def _palette(rng: np.random.Generator, kind: str, size: int) -> np.ndarray:
    """Float32 numbers of one kind."""
    if kind == "few":
        few = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1.5, 1e-8, -3e-9, 1e-3]
        return rng.choice(np.array(few, np.float32), size)
    if kind == "normal":
        return rng.normal(0, 0.02, size).astype(np.float32)
    if kind == "constant":
        return np.full(size, rng.choice([0.0, 0.25, -3.0]), np.float32)
    # Any finite pattern at all: subnormals and huge numbers with it.
    bits = rng.integers(0, 2**32, size, dtype=np.uint32)
    finite = (bits & 0x7F800000) != 0x7F800000
    return np.where(finite, bits, bits & 0x807FFFFF).astype(np.uint32).view(np.float32)


def _clip(values: np.ndarray, dtype: str) -> np.ndarray:
    """Keep what would round to infinity in a narrow format finite."""
    limit = {"F16": 6.0e4, "BF16": 3.3e38, "F32": 3.4e38}[dtype]
    return np.clip(values, -limit, limit)


KINDS = ("few", "normal", "constant", "any")


def _make_pair(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtypes: tuple[str, str],
    kind: str,
    changed: float,
    nonfinite: bool,
) -> tuple[Stored, Stored]:
    size = int(np.prod(shape))
    base = _clip(_palette(rng, kind, size), dtypes[0])
    target = base.copy()
    moved = rng.random(size) < changed
    other = _palette(rng, rng.choice(KINDS), size)
    nudged = base.astype(np.float64) * (1 + rng.normal(0, 0.01, size))
    nudged = np.clip(nudged, -3.4e38, 3.4e38).astype(np.float32)
    target[moved] = np.where(rng.random(size) < 0.5, nudged, other)[moved]
    target = _clip(target, dtypes[1])
    if nonfinite and size:
        for side in (base, target):
            odd = rng.choice(size, min(size, 3))
            side[odd] = rng.choice(np.array([np.nan, np.inf, -np.inf], np.float32), odd.size)
    return store(base, dtypes[0], shape), store(target, dtypes[1], shape)


DTYPES = st.sampled_from(["BF16", "F16", "F32"])
DTYPE_PAIRS = st.sampled_from([("BF16", "BF16"), ("F32", "F32")]) | st.tuples(DTYPES, DTYPES)


@st.composite
def cases(draw: st.DrawFn, *, nonfinite: bool | None = False) -> Case:
    """Draw a pair; ``nonfinite=None`` leaves to chance whether it holds NaN and infinity."""
    names = draw(st.lists(st.sampled_from(RANKED), min_size=1, max_size=6, unique=True))
    one_dtype = draw(st.none() | DTYPES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    base: Tensors = {}
    target: Tensors = {}
    for name in names:
        pair = (one_dtype,) * 2 if one_dtype else draw(DTYPE_PAIRS)
        base[name], target[name] = _make_pair(
            rng,
            draw(st.sampled_from(SHAPES)),
            pair,
            draw(st.sampled_from(KINDS)),
            draw(st.sampled_from([0.0, 0.1, 0.7, 1.0])),
            draw(st.booleans()) if nonfinite is None else nonfinite,
        )
    said = [False, None]
    embedding = "model.embed_tokens.weight"
    if embedding in target:
        head = draw(st.sampled_from(["own", "tied", "none in base"]))
        if head != "own":
            said = [True, True, False, None]
            target["lm_head.weight"] = target[embedding]
        other = "lm_head.weight" in base and base["lm_head.weight"].shape != base[embedding].shape
        if head == "none in base" or (head == "tied" and other):
            base.pop("lm_head.weight", None)
    for name in draw(st.lists(st.sampled_from(sorted(PASSED_THROUGH)), unique=True)):
        dtype = PASSED_THROUGH[name]
        data = rng.integers(0, 100, 5).astype(ITEM_TYPES[dtype]).tobytes()
        target[name] = Stored(dtype, (5,), data)
    if draw(st.booleans()):
        base["base.only"] = store([1.0, 2.0], "F16")
    return Case(base, target, draw(st.sampled_from(said)))


def layouts() -> st.SearchStrategy[Layout]:
    return st.builds(
        Layout, st.integers(0, 4), st.integers(0, 99), st.booleans(), st.integers(0, 9)
    )
