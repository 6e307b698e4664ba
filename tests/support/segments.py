"""Hard inputs for kernels, whatever they are written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from shardrestore.selection.cut import Cut, Strategy
from shardrestore.selection.score import BINS, LOWS, NAN_KEY

LENGTHS = [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 65_536]

ALL_16_BITS = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)

# Zeros, smallest and largest subnormals, smallest normals, around 1e-8, 1, the largest, infinity,
# NaN; then halfway cases of float16's subnormals and normals, and of bfloat16.
_SPECIAL = """
    00000000 00000001 00000002 007FFFFF 00800000 00800001 32000000 322BCC76 322BCC77 322BCC78
    33800000 3F7FFFFF 3F800000 3F800001 477FE000 477FEFFF 477FF000 477FF001 7F7F0000 7F7F7FFF
    7F7F8000 7F7F8001 7F7FFFFF 7F800000 7F800001 7FC00000 7FFFFFFF
    387FFFFF 387FE000 33000000 33000001 32FFFFFF 33C00000 38800000 38801000 38801001 38803000
    3F808000 3F818000 3F808001 00008000 00018000
"""
SPECIAL_FLOATS = np.array([int(bits, 16) for bits in _SPECIAL.split()], np.uint32)
SPECIAL_FLOATS = np.concatenate([SPECIAL_FLOATS, SPECIAL_FLOATS | np.uint32(0x80000000)])


def random_floats(rng: np.random.Generator, size: int) -> np.ndarray:
    """Any float32 pattern, special ones among them."""
    bits = rng.integers(0, 2**32, size, dtype=np.uint32)
    special = rng.choice(SPECIAL_FLOATS, size)
    return np.where(rng.random(size) < 0.3, special, bits).astype(np.uint32)


def random_keys(rng: np.random.Generator, size: int) -> np.ndarray:
    """Keys, some of them equal and some of them the largest there are."""
    keys = rng.integers(0, 2**31, size, dtype=np.uint32)
    few = np.array([0, 1, 0xFFFF, 0x10000, 0x3F800000, NAN_KEY, 2**31 - 1], np.uint32)
    return np.where(rng.random(size) < 0.5, rng.choice(few, size), keys).astype(np.uint32)


def neighbours_of_every_16_bit_value(widen: Any) -> np.ndarray:
    """Each value, the midpoint to the next, and the floats just around both."""
    wide = np.empty(1 << 16, np.float32)
    widen(ALL_16_BITS, wide)
    bits = wide.view(np.uint32)
    half = bits.copy()
    with np.errstate(all="ignore"):
        half[:-1] = (
            ((wide[:-1].astype(np.float64) + wide[1:]) / 2).astype(np.float32).view(np.uint32)
        )
    around = [bits, bits + 1, bits - 1, half, half + 1, half - 1]
    return np.concatenate([*around, SPECIAL_FLOATS]).astype(np.uint32)


def bfloat16_targets() -> np.ndarray:
    """What every base pattern meets: special patterns and a large random sample."""
    special = [0, 1, 2, 0x40, 0x7F, 0x80, 0x81, 0x322B, 0x322C, 0x322D, 0x3F80, 0x3F81]
    special += [0x7F00, 0x7F7E, 0x7F7F, 0x7F80, 0x7F81, 0x7FC0, 0x7FFF]
    signed = np.array(special + [pattern | 0x8000 for pattern in special], np.uint16)
    drawn = np.random.default_rng(3).integers(0, 1 << 16, 200, dtype=np.uint16)
    return np.concatenate([signed, drawn])


def bfloat16_pairs(part: int) -> tuple[np.ndarray, np.ndarray]:
    """A quarter of all bases against special targets, random ones, and their own neighbours."""
    bases = ALL_16_BITS[part::4]
    fixed = np.tile(bfloat16_targets(), (bases.size, 1))
    steps = np.array([-256, -128, -9, -3, -2, -1, 0, 1, 2, 3, 5, 17, 127, 128, 129, 256, 0x8000])
    near = (bases[:, None].astype(np.int64) + steps).astype(np.uint16)
    target = np.concatenate([fixed, near], axis=1)
    return np.repeat(bases, target.shape[1]), target.ravel()


def float32_pairs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Patterns: special ones against each other, random ones, and neighbours."""
    rng = np.random.default_rng(seed)
    grid = np.array(np.meshgrid(SPECIAL_FLOATS, SPECIAL_FLOATS)).reshape(2, -1).astype(np.uint32)
    base = np.concatenate([grid[0], random_floats(rng, 1 << 18)])
    target = np.concatenate([grid[1], random_floats(rng, 1 << 18)])
    near = rng.integers(-2, 3, base.size).astype(np.int64)
    return np.tile(base, 2), np.concatenate([target, (base + near).astype(np.uint32)])


@dataclass(frozen=True, slots=True)
class Selection:
    """A cut, and the remainder where its ties begin."""

    cut: Cut
    remainder: int


def make_cut(strategy: Strategy, tie_first: int, tie_span: int, taken: int, ties: int) -> Cut:
    """A cut at some keys, of which kernels look at nothing else."""
    return Cut(
        strategy=strategy,
        percent=0.0,
        elements=ties,
        selected=taken,
        tie_first=tie_first,
        tie_span=tie_span,
        ties=ties,
        ties_taken=taken,
    )


def selections() -> st.SearchStrategy[Selection]:
    """Ranges of keys as cuts make them: above, below, everything, nothing."""

    @st.composite
    def build(draw: st.DrawFn) -> Selection:
        span = draw(st.sampled_from([1, LOWS]))
        bin_ = draw(st.sampled_from([0, 1, 0x3F80, 0x7FC0, BINS - 1]))
        tie_first = (bin_ << 16) + (draw(st.integers(0, LOWS - 1)) if span == 1 else 0)
        strategy: Strategy = "top" if draw(st.booleans()) else "bottom"
        ties = draw(st.integers(1, 2**40) | st.integers(1, 50))
        remainder, taken = draw(st.integers(0, ties - 1)), draw(st.integers(1, ties))
        return Selection(make_cut(strategy, tie_first, span, taken, ties), remainder)

    return build()


def keys_near(rng: np.random.Generator, size: int, cut: Cut) -> np.ndarray:
    """Random keys of which half tie or just do not."""
    low, high = cut.tie_first, cut.tie_first + cut.tie_span
    near = np.array([low - 1, low, high - 1, high], np.int64).clip(0, 2**31 - 1)
    keys = random_keys(rng, size)
    return np.where(rng.random(size) < 0.5, rng.choice(near, size), keys).astype(np.uint32)
