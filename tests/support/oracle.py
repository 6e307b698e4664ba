"""What a restoration must give, computed with everything in memory and by torch.

Shares no arithmetic and no cut with shardrestore: scores are torch's own, the selection is a
sort. Only the two words of a random stream are taken from it, hashed on in plain NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

from shardrestore.selection.stream import stream_words

TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
CASTS = {"auto": None, "bf16": "BF16", "fp16": "F16", "fp32": "F32"}
EXPONENTS = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}

# The published tool's substrings; the names in tests.support.checkpoints are Llama's.
REGIONS = {
    "transformer": lambda name: "layers" in name and "norm" not in name,
    "embedding": lambda name: "embed_tokens" in name or "lm_head" in name,
    "attention": lambda name: "self_attn." in name,
    "mlp": lambda name: "mlp." in name,
    "all": lambda name: True,
}
BUFFERS = ("position_ids", "inv_freq")


@dataclass(frozen=True, slots=True, repr=False)
class Stored:
    """A tensor as it stands in a file."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def __repr__(self) -> str:
        more = "…" if len(self.data) > 16 else ""
        return f"{self.dtype}{list(self.shape)} {self.data[:16].hex(' ', 2)}{more}"

    def values(self) -> torch.Tensor:
        if not self.data:
            return torch.empty(0, dtype=TORCH_DTYPES[self.dtype])
        return torch.frombuffer(bytearray(self.data), dtype=TORCH_DTYPES[self.dtype])


def load(folder: Path) -> dict[str, Stored]:
    """Read a whole checkpoint with safetensors' own reader."""
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if not (folder / files[0]).exists():
        files = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    tensors = {}
    for file in files:
        for name, entry in safetensors.deserialize((folder / file).read_bytes()):
            tensors[name] = Stored(entry["dtype"], tuple(entry["shape"]), bytes(entry["data"]))
    return tensors


@dataclass(frozen=True, slots=True)
class Expected:
    """What a restoration must give."""

    tensors: dict[str, Stored]
    """Every tensor of the output."""
    elements: int
    selected: int
    threshold: float | None
    ties: int
    ties_taken: int
    scores: dict[str, np.ndarray]
    """float32 scores of each tensor of the region."""
    taken: dict[str, np.ndarray]
    """Whether each element of the region is restored."""
    zero_base: int
    nonfinite: dict[str, int]
    """NaN and infinite weights of both sides, by tensor, where there are any."""
    overflows: dict[str, int]
    """Finite weights of both sides that the output's format makes infinite, by tensor."""
    outside_overflows: bool
    """Whether a cast makes finite weights outside the region infinite."""

    def all_scores(self) -> np.ndarray:
        return np.concatenate(list(self.scores.values()))

    def all_taken(self) -> np.ndarray:
        return np.concatenate(list(self.taken.values()))


def in_region(name: str, region: str) -> bool:
    return REGIONS[region](name) and not name.endswith(BUFFERS)


def expect(
    base: Mapping[str, Stored],
    target: Mapping[str, Stored],
    *,
    percent: float,
    region: str = "transformer",
    exclude: Sequence[str] = (),
    strategy: str = "top",
    seed: int = 32,
    dtype: str = "auto",
    approximate: bool = False,
    score: str = "relative",
    segment_elements: int = 1 << 26,
    twins: Mapping[str, str] | None = None,
    **_: Any,
) -> Expected:
    """Restore in memory. ``twins`` maps tied heads to their embeddings."""
    twins = twins or {}
    cast = CASTS[dtype]
    names = [
        name
        for name in sorted(target, key=lambda name: [ord(c) for c in name])
        if in_region(name, region) and name not in twins and not name.startswith(tuple(exclude))
    ]
    sides = {name: _as_written(_partner(base, name), target[name], cast) for name in names}
    scores = {name: _score(*pair, score) for name, pair in sides.items()}
    empty = [np.empty(0, np.float32)]
    if strategy == "random":
        ranks = [_random_keys(seed, name, scores[name].size, segment_elements) for name in names]
        order = np.concatenate(empty + ranks).astype(np.uint32)
        low_bits_count = True  # random keys are never cut approximately
    else:
        order = _rising(np.concatenate(empty + list(scores.values())))
        low_bits_count = not approximate
    if not low_bits_count:
        order = order >> 16
    count = int(order.size * float(percent) / 100.0)
    taken, at, ties, ties_taken = _select(order, count, highest=strategy == "top")
    threshold = None
    if strategy != "random" and count:
        bits = np.uint32(at if low_bits_count else at << 16)
        threshold = float(bits.view(np.float32))
    taken_of = dict(
        zip(names, np.split(taken, np.cumsum([scores[name].size for name in names])), strict=False)
    )
    tensors = {}
    for name, stored in target.items():
        source = twins.get(name, name)
        if source in taken_of:
            ours, theirs = _as_written(_partner(base, source), stored, cast)
            mixed = np.where(taken_of[source], _codes(ours), _codes(theirs))
            tensors[name] = Stored(cast or stored.dtype, stored.shape, mixed.tobytes())
        elif cast and stored.dtype in TORCH_DTYPES:
            codes = _codes(stored.values().to(TORCH_DTYPES[cast]))
            tensors[name] = Stored(cast, stored.shape, codes.tobytes())
        else:
            tensors[name] = stored
    nonfinite, overflows = {}, {}
    for name in names:
        raw = _partner(base, name).values(), target[name].values()
        written = _as_written(_partner(base, name), target[name], cast)
        nonfinite[name] = sum(int((~torch.isfinite(side)).sum()) for side in raw)
        overflows[name] = sum(_overflows(*pair) for pair in zip(raw, written, strict=True))
    outside_overflows = any(
        _overflows(stored.values(), stored.values().to(TORCH_DTYPES[cast]))
        for name, stored in target.items()
        if cast and stored.dtype in TORCH_DTYPES and name not in names and name not in twins
    )
    return Expected(
        tensors=tensors,
        elements=order.size,
        selected=count,
        threshold=threshold,
        ties=ties,
        ties_taken=ties_taken,
        scores=scores,
        taken=taken_of,
        zero_base=sum(int((pair[0] == 0).sum()) for pair in sides.values()),
        nonfinite={name: found for name, found in nonfinite.items() if found},
        overflows={name: found for name, found in overflows.items() if found},
        outside_overflows=outside_overflows,
    )


def _partner(base: Mapping[str, Stored], name: str) -> Stored:
    """A base without a head of its own uses its embedding."""
    if name == "lm_head.weight" and name not in base:
        return base["model.embed_tokens.weight"]
    return base[name]


def _as_written(
    base: Stored, target: Stored, cast: str | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides in the output's format, in which they are scored, too."""
    dtype = TORCH_DTYPES[cast or target.dtype]
    return base.values().to(dtype), target.values().to(dtype)


def _overflows(raw: torch.Tensor, written: torch.Tensor) -> int:
    return int((torch.isfinite(raw) & ~torch.isfinite(written)).sum())


FORMULAS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "absolute": lambda base, target: target.sub(base).abs(),
    "relative": lambda base, target: target.sub(base).abs().div(base.abs().add(1e-8)),
}
"""Each score in torch's own arithmetic, that of its tensors' format."""


def _score(base: torch.Tensor, target: torch.Tensor, score: str) -> np.ndarray:
    if not base.dtype == target.dtype == torch.bfloat16:
        base, target = base.float(), target.float()
    return FORMULAS[score](base, target).float().numpy()


def _rising(scores: np.ndarray) -> np.ndarray:
    """Integers that order as the scores do, NaN highest."""
    keys = scores.astype(np.float32).view(np.uint32) & np.uint32(0x7FFFFFFF)
    keys[np.isnan(scores)] = 0x7FC00000
    return keys


def _select(order: np.ndarray, count: int, *, highest: bool) -> tuple[np.ndarray, int, int, int]:
    if not count:
        return np.zeros(order.size, bool), 0, 0, 0
    ranked = np.sort(order)
    at = int(ranked[order.size - count] if highest else ranked[count - 1])
    taken = order > at if highest else order < at
    tied = np.flatnonzero(order == at)
    ties, needed = len(tied), count - int(taken.sum())
    turn = [(j + 1) * needed // ties > j * needed // ties for j in range(ties)]
    taken[tied[turn]] = True
    return taken, at, ties, needed


def _random_keys(seed: int, name: str, elements: int, segment_elements: int) -> np.ndarray:
    index = np.arange(elements, dtype=np.uint64)
    keys = np.zeros(elements, np.uint64)
    for segment in range(-(-elements // segment_elements)):
        word0, word1 = stream_words(seed, name, segment)
        inside = slice(segment * segment_elements, (segment + 1) * segment_elements)
        counter = index[inside] - np.uint64(segment * segment_elements)
        keys[inside] = _mix(_mix(counter ^ np.uint64(word0)) ^ np.uint64(word1)) >> np.uint64(1)
    return keys


def _mix(x: np.ndarray) -> np.ndarray:
    mask = np.uint64(0xFFFFFFFF)
    x = x ^ (x >> np.uint64(16))
    x = (x * np.uint64(0x7FEB352D)) & mask
    x = x ^ (x >> np.uint64(15))
    x = (x * np.uint64(0x846CA68B)) & mask
    return x ^ (x >> np.uint64(16))


def _codes(values: torch.Tensor) -> np.ndarray:
    kind = torch.int32 if values.dtype == torch.float32 else torch.int16
    return values.view(kind).numpy().view(np.uint32 if kind is torch.int32 else np.uint16)


def codes_of(stored: Stored) -> np.ndarray:
    """The integer patterns of a stored tensor of weights."""
    return np.frombuffer(stored.data, np.uint32 if stored.dtype == "F32" else np.uint16)


def same_weights(found: Stored, expected: Stored) -> bool:
    """Equal to the last bit, but that any NaN stands for any other."""
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        return False
    if found.data == expected.data or found.dtype not in TORCH_DTYPES:
        return found.data == expected.data
    one, other = codes_of(found), codes_of(expected)
    differ = one != other
    nan = torch.isnan(found.values()) & torch.isnan(expected.values())
    return bool(np.all(nan.numpy()[differ]))
