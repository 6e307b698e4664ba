"""The kernels over whole blocks in Triton: each weight is read, scored and used in one go.

``count_scores`` and ``restore_scores`` are those of ``gpu``, which documents them, without
arrays of keys in between. Imported where CUDA and Triton are.

Every rounding is one IEEE operation: division is ``div_rn``, sums and differences are never
fused with products (``enable_fp_fusion=False``), rounding to bfloat16 and tests for NaN are
arithmetic on patterns. ``tests/unit/kernels/test_fused.py`` runs the kernels in Triton's
interpreter, compiles them for NVIDIA's sm_80 and sm_90, and looks for what must not be in
the PTX.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..scores.score import Score, bind
from ..selection.cut import Cut
from ..selection.score import BINS, LOW_BITS, NAN_KEY

TILE_ELEMENTS = 1024
"""Elements of one program; 2^10 of below 2^40 ties: 64 bits hold every product."""

# Programs in flight share 8 tables, 1 MiB: it stays in the L2 cache, where atomics are done.
_TABLES = 8
_ZEROS = tl.constexpr(BINS)  # the cell behind the bins counts zero base weights
_CELLS = tl.constexpr(BINS + 1)

_TILE = tl.constexpr(TILE_ELEMENTS)
_MAGNITUDE = tl.constexpr(0x7FFFFFFF)
_NAN = tl.constexpr(NAN_KEY)
_LOW_BITS = tl.constexpr(LOW_BITS)

# Triton compiles anew for integers that 16 divides; another cut must not wait for that.
_CUT = ["tie_first", "tie_last", "needed", "ties"]

# 4 warps: a thread has 8 elements of a tile.
_LAUNCH = {"enable_fp_fusion": False, "num_warps": 4}


@triton.jit
def _value(bits):
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _magnitude(value):
    # A NaN of NVIDIA's is 0x7FFFFFFF: rounded as it is, it would become a zero.
    return tl.minimum(value.to(tl.int32, bitcast=True) & _MAGNITUDE, _NAN)


@triton.jit
def _round_bfloat16(bits):
    return (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000


@triton.jit
def _rounded_bfloat16(value):
    return _value(_round_bfloat16(_magnitude(value)))


@triton.jit
def _constant_bfloat16(value):
    return _rounded_bfloat16(tl.full((), value, tl.float32))


@triton.jit
def _rounded_float32(value):
    return value


@triton.jit
def _constant_float32(value):
    return tl.full((), value, tl.float32)


@triton.jit
def _without_sign(value):
    return _value(value.to(tl.int32, bitcast=True) & _MAGNITUDE)


@triton.jit
def _divide(left, right):
    return tl.math.div_rn(left, right)


# Bound by ``compile_score``.
_formula_bfloat16: Any = None
_formula_float32: Any = None
_score: Any = None


def _score_tile(base, target, BFLOAT16: tl.constexpr):
    """Return keys, and magnitudes of the base that are zero where its weight is."""
    if BFLOAT16:
        base_bits = base.to(tl.int32) << 16
        score = _formula_bfloat16(_value(base_bits), _value(target.to(tl.int32) << 16))
        keys = _round_bfloat16(_magnitude(score))
        base_magnitude = base_bits & _MAGNITUDE
    else:
        keys = _magnitude(_formula_float32(base, target))
        base_magnitude = base.to(tl.int32, bitcast=True) & _MAGNITUDE
    return keys, base_magnitude


def _count_tile(
    base_at,
    target_at,
    tables_at,
    elements: tl.int64,
    tables: tl.int32,
    BFLOAT16: tl.constexpr,
):
    program = tl.program_id(0)
    at = program.to(tl.int64) * _TILE + tl.arange(0, _TILE)
    inside = at < elements
    base = tl.load(base_at + at, mask=inside, other=0)
    target = tl.load(target_at + at, mask=inside, other=0)
    keys, base_magnitude = _score(base, target, BFLOAT16)
    bins = keys >> _LOW_BITS
    # 20 to 90 % of a pair may be unchanged, and additions to one address wait for each other:
    # a tile adds up its bin 0 before it counts it.
    unchanged = tl.sum((inside & (bins == 0)).to(tl.int32))
    zeros = tl.sum((inside & (base_magnitude == 0)).to(tl.int32))
    table_at = tables_at + (program % tables) * _CELLS
    ones = tl.full((_TILE,), 1, tl.int32)
    tl.atomic_add(table_at + bins, ones, mask=inside & (bins != 0), sem="relaxed")
    tl.atomic_add(table_at, unchanged, sem="relaxed")
    tl.atomic_add(table_at + _ZEROS, zeros, sem="relaxed")


def _count_ties(
    base_at,
    target_at,
    ties_at,
    elements: tl.int64,
    tie_first: tl.int32,
    tie_last: tl.int32,
    BFLOAT16: tl.constexpr,
):
    program = tl.program_id(0)
    at = program.to(tl.int64) * _TILE + tl.arange(0, _TILE)
    inside = at < elements
    base = tl.load(base_at + at, mask=inside, other=0)
    target = tl.load(target_at + at, mask=inside, other=0)
    keys, _ = _score(base, target, BFLOAT16)
    tied = inside & (keys >= tie_first) & (keys <= tie_last)
    tl.store(ties_at + program, tl.sum(tied.to(tl.int32)))


def _restore_tile(
    base_at,
    target_at,
    base_codes_at,
    target_codes_at,
    out_at,
    remainders_at,
    selected_at,
    elements: tl.int64,
    tie_first: tl.int32,
    tie_last: tl.int32,
    needed: tl.int64,
    ties: tl.int64,
    BFLOAT16: tl.constexpr,
    HIGHEST: tl.constexpr,
):
    program = tl.program_id(0)
    at = program.to(tl.int64) * _TILE + tl.arange(0, _TILE)
    inside = at < elements
    base = tl.load(base_at + at, mask=inside, other=0)
    target = tl.load(target_at + at, mask=inside, other=0)
    keys, _ = _score(base, target, BFLOAT16)
    tied = inside & (keys >= tie_first) & (keys <= tie_last)
    ranks = tl.cumsum(tied.to(tl.int32), 0).to(tl.int64)
    phases = (tl.load(remainders_at + program) + ranks * needed) % ties
    beyond = keys > tie_last if HIGHEST else keys < tie_first
    taken = (inside & beyond) | (tied & (phases < needed))
    base_codes = tl.load(base_codes_at + at, mask=inside, other=0)
    target_codes = tl.load(target_codes_at + at, mask=inside, other=0)
    tl.store(out_at + at, tl.where(taken, base_codes, target_codes), mask=inside)
    tl.atomic_add(selected_at, tl.sum(taken.to(tl.int32)).to(tl.int64), sem="relaxed")


class ScoreKernels(NamedTuple):
    """The kernels of one score."""

    count_tile: Any
    count_ties: Any
    restore_tile: Any


@cache
def compile_score(score: Score) -> ScoreKernels:
    """Return the kernels of a score; Triton compiles each at its first launch."""
    # Triton's interpreter looks for its language among the names of each function.
    operations = {"magnitude": _without_sign, "divide": _divide, "tl": tl}
    bfloat16 = {"rounded": _rounded_bfloat16, "constant": _constant_bfloat16}
    float32 = {"rounded": _rounded_float32, "constant": _constant_float32}
    formulas = {
        f"_formula_{name}": triton.jit(bind(score.triton, operations | own, score.name))
        for name, own in (("bfloat16", bfloat16), ("float32", float32))
    }
    tile = triton.jit(bind(_score_tile, formulas, score.name))
    count, ties, restore = (
        bind(kernel, {"_score": tile}, score.name)
        for kernel in (_count_tile, _count_ties, _restore_tile)
    )
    decorate = triton.jit(do_not_specialize=_CUT)
    return ScoreKernels(triton.jit(count), decorate(ties), decorate(restore))


def count_scores(score: Score, base: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    elements, bfloat16 = base.numel(), base.dtype == torch.int16
    kernel = compile_score(score).count_tile
    tables = torch.zeros((_TABLES, BINS + 1), dtype=torch.int32, device=base.device)
    if elements:
        with torch.cuda.device_of(base):
            kernel[_grid(elements)](base, target, tables, elements, _TABLES, bfloat16, **_LAUNCH)
    total = tables.sum(0, dtype=torch.int32)
    zeros = total[BINS].to(torch.int64)
    counts += total[:BINS]
    return zeros


def restore_scores(
    score: Score,
    base_scored: Tensor,
    target_scored: Tensor,
    base_codes: Tensor,
    target_codes: Tensor,
    cut: Cut,
    remainder: Tensor,
    out: Tensor,
) -> tuple[Tensor, Tensor]:
    elements, device = out.numel(), out.device
    selected = torch.zeros((), dtype=torch.int64, device=device)
    if elements == 0:
        return selected, remainder
    grid = _grid(elements)
    ties = torch.empty(grid, dtype=torch.int32, device=device)
    tie_last = cut.tie_first + cut.tie_span - 1
    scored, bfloat16 = (base_scored, target_scored), base_scored.dtype == torch.int16
    kernels = compile_score(score)
    with torch.cuda.device_of(out):
        kernels.count_ties[grid](
            *scored, ties, elements, cut.tie_first, tie_last, bfloat16, **_LAUNCH
        )
        # The remainder before each tile, and after the last one. A tile's step is reduced
        # before they are added up: 2^22 tiles of below 2^40 each stay below 2^63.
        steps = ties.to(torch.int64).mul_(cut.ties_taken).remainder_(cut.ties)
        after = steps.cumsum(0).add_(remainder)
        before = (after - steps).remainder_(cut.ties)
        following = after[-1].remainder(cut.ties)
        # The last to allocate; nothing may fail once `out`, perhaps an input, is written.
        kernels.restore_tile[grid](
            *scored,
            base_codes,
            target_codes,
            out,
            before,
            selected,
            elements,
            cut.tie_first,
            tie_last,
            cut.ties_taken,
            cut.ties,
            bfloat16,
            cut.highest,
            **_LAUNCH,
        )
    return selected, following


def _grid(elements: int) -> tuple[int]:
    return (-(-elements // TILE_ELEMENTS),)
