"""The kernels in torch, for a GPU: every rounding spelt out, nothing waited for.

Each function returns the same integers as its namesake in ``reference``, which documents it.
Tensors are one-dimensional, contiguous and of one device. torch has no arithmetic on uint16
and uint32, so patterns are int16 or int32 tensors of the same bits, and keys int32: they stay
below 2^31, where signed order is theirs.

What keeps the integers equal on any device is that only four operations on floats are left,
one IEEE operation each, between tensors: a difference, a sum, a quotient, a product with a
power of two. Rounding to 16 bits, magnitudes and tests for NaN are arithmetic on patterns. A
scalar operand could be converted on the host, or a division by it become a product; constants
are therefore tensors, filled on the device. ``kernels.device`` checks the result on each device.

Counts come back as tensors of the device and no operation waits for it, so that blocks can be
queued; ``note_changes`` alone does, as the size of what it returns is a count. Every function may
be called again after ``torch.OutOfMemoryError``: what it changes in place is changed by its last
operation, and by that once it has what it allocates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..formats import FORMATS
from ..scores.score import Score, bind
from ..selection.cut import Cut
from ..selection.score import (
    BINS,
    INFINITY_BIN,
    LOW_BITS,
    LOWS,
    NAN_KEY,
)

SCRATCH_BYTES_PER_ELEMENT = {
    "widen": 17,
    "narrow": 14,
    "score_keys": 12,
    "random_keys": 8,
    "count_zeros": 5,
    "count_bins": 8,
    "count_lows": 13,
    "count_nonfinite": 5,
    "select": 11,
    "count_selected": 11,
    "count_scores": 12,
    "restore_scores": 15,
    "note_changes": 13,
    "put_back": 1,  # on CUDA about 9: masked_scatter_ needs a prefix sum there; not measured
}
"""Most that each function allocates for an element at one moment, its result included, in bytes.

That of its most expensive format; the block kernels of ``fused`` need less. Measured by a test.
"""

TABLE_BYTES = 33 * (BINS + 1) * 4
"""What counting bins allocates whatever the elements, in bytes; ``count_lows``: its counts."""

TURN_ELEMENTS = 1 << 22
"""Elements whose ties take their turns together: below 2^40 ties, 64 bits hold every product."""

_INFINITY = INFINITY_BIN << LOW_BITS
_MAGNITUDE = 0x7FFFFFFF
_SIGN = -0x80000000
_HIGH_HALF = -0x10000

# Atomic additions to one address wait for each other, and 20 to 90 % of a pair may be unchanged:
# one bin. Neighbouring elements count in 32 tables, one for each thread of a warp, so that no
# two threads of it meet; a table for all bins costs 4 MiB and needs no case for the hot one.
_SPREAD = 32


def _constant(pattern: int, device: torch.device) -> Tensor:
    # Filled there: a copy of a scalar from the host would wait for the device.
    return torch.full((1,), pattern, dtype=torch.int32, device=device).view(torch.float32)


def _count(mask: Tensor) -> Tensor:
    # Without the dtype torch first makes an int64 of every element: 8 bytes instead of 4.
    return mask.sum(dtype=torch.int32).to(torch.int64)


def code_type(dtype: str) -> torch.dtype:
    """Return the type that codes of a format have here: signed integers of their size."""
    kind: torch.dtype = getattr(torch, FORMATS[dtype].torch_codes)
    return kind


def widen(codes: Tensor, dtype: str) -> Tensor:
    """Return the exact float32 values of codes of a format, one that is ranked.

    float32 codes are returned as they are, without a copy.
    """
    kernel = FORMATS[dtype].widen
    return codes.view(torch.float32) if kernel is None else _CASTS[kernel](codes)


def narrow(values: Tensor, dtype: str) -> Tensor:
    """Return float32 values as codes of a format, to nearest even; NaN has one code.

    Of ``F32`` every code is kept, NaN too, without a copy.
    """
    kernel = FORMATS[dtype].narrow
    return values.view(torch.int32) if kernel is None else _CASTS[kernel](values)


def widen_bfloat16(codes: Tensor) -> Tensor:
    """Return the exact float32 value of each bfloat16 pattern."""
    bits = codes.to(torch.int32)
    bits <<= 16
    return bits.view(torch.float32)


def widen_float16(codes: Tensor) -> Tensor:
    """Return the exact float32 value of each float16 pattern."""
    bits = codes.to(torch.int32)
    magnitude = (bits & 0x7FFF) << 13
    # Below 2^-14 the value is an integer times 2^-24: no float32 subnormal occurs.
    small = (bits & 0x3FF).to(torch.float32)
    small *= _constant(0x33800000, codes.device)
    wide = small.view(torch.int32)
    torch.where(magnitude < 1 << 23, wide, magnitude + (112 << 23), out=wide)
    # The exponent 31 of infinity and NaN becomes 255 = 31 + 2 * 112.
    torch.where(magnitude < 31 << 23, wide, magnitude.add_(224 << 23), out=wide)
    bits &= _SIGN
    wide |= bits
    return small


def narrow_bfloat16(values: Tensor) -> Tensor:
    """Round float32 values to bfloat16, to nearest even; NaN becomes 0x7FC0."""
    bits = values.view(torch.int32)
    nan = _find_nan(bits)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    return rounded.to(torch.int16).masked_fill_(nan, 0x7FC0)


def narrow_float16(values: Tensor) -> Tensor:
    """Round float32 values to float16, to nearest even; NaN becomes 0x7E00."""
    bits = values.view(torch.int32)
    magnitude = bits & _MAGNITUDE
    nan = magnitude > _INFINITY
    # Rebias the exponent by -112, round half to even.
    rounded = magnitude >> 13
    rounded &= 1
    rounded += magnitude
    rounded -= (112 << 23) - 0xFFF
    rounded >>= 13
    # Below 2^-14: adding 0.5 aligns the float16 subnormal with the last bits of the sum, and
    # the addition itself rounds to nearest even. What it may flush to zero rounds to zero.
    small = magnitude.view(torch.float32) + _constant(0x3F000000, values.device)
    aligned = small.view(torch.int32)
    aligned -= 0x3F000000
    torch.where(magnitude < 0x38800000, aligned, rounded, out=rounded)
    del small, aligned
    rounded.masked_fill_(magnitude >= 0x47800000, 0x7C00)
    torch.bitwise_and(bits >> 16, -0x8000, out=magnitude)
    rounded |= magnitude
    return rounded.to(torch.int16).masked_fill_(nan, 0x7E00)


_CASTS = {
    kernel.__name__: kernel
    for kernel in (widen_bfloat16, widen_float16, narrow_bfloat16, narrow_float16)
}


def _find_nan(bits: Tensor) -> Tensor:
    return (bits & _MAGNITUDE) > _INFINITY


def _round_bfloat16(bits: Tensor) -> None:
    """Make results of arithmetic magnitudes of bfloat16, in place; of any NaN, ``NAN_KEY``."""
    _make_magnitude(bits)
    odd = bits >> 16
    odd &= 1
    bits += odd
    bits += 0x7FFF
    bits &= _HIGH_HALF


def _make_magnitude(bits: Tensor) -> None:
    # IEEE arithmetic returns quiet NaNs, 0x7FC00000 and above, 0x7FFFFFFF on NVIDIA's GPUs:
    # rounding that one would carry into the sign and make it a zero.
    bits &= _MAGNITUDE
    bits.clamp_(max=NAN_KEY)


def score_keys(score: Score, base: Tensor, target: Tensor) -> Tensor:
    """Return the key of each weight's score, as int32.

    Parameters
    ----------
    score : Score
    base, target : tensor, shape (n,)
        int16 for bfloat16 patterns (bfloat16 arithmetic), else float32 values.
    """
    device = base.device
    if base.dtype == torch.int16:
        # The formula uses up what is widened here: nothing else holds it.
        base, target = widen(base, "BF16"), widen(target, "BF16")
        scores: Tensor = bind(score.torch, _bfloat16_operations(device), "torch")(base, target)
        keys = scores.view(torch.int32)
        _round_bfloat16(keys)
    else:
        scores = bind(score.torch, _float32_operations(device), "torch")(base, target)
        keys = scores.view(torch.int32)
        _make_magnitude(keys)
    return keys


def _bfloat16_operations(device: torch.device) -> dict[str, Callable[..., Tensor]]:
    def rounded(value: Tensor) -> Tensor:
        _round_bfloat16(value.view(torch.int32))
        return value

    def magnitude(value: Tensor) -> Tensor:
        bits = value.view(torch.int32)
        bits &= _MAGNITUDE
        return value

    def constant(value: float) -> Tensor:
        pattern = int(np.float32(value).view("u4"))
        odd = pattern >> 16 & 1
        return _constant(pattern + 0x7FFF + odd & 0x7FFF0000, device)

    return {
        "rounded": rounded,
        "magnitude": magnitude,
        "constant": constant,
        "subtract": Tensor.sub_,
    }


def _float32_operations(device: torch.device) -> dict[str, Callable[..., Tensor]]:
    def magnitude(value: Tensor) -> Tensor:
        return (value.view(torch.int32) & _MAGNITUDE).view(torch.float32)

    return {
        "rounded": lambda value: value,
        "magnitude": magnitude,
        "constant": lambda value: _constant(int(np.float32(value).view("u4")), device),
        "subtract": Tensor.sub,
    }


def count_zeros(base: Tensor) -> Tensor:
    """Return how many base weights, as ``score_keys`` takes them, are zero of either sign."""
    patterns = base if base.dtype == torch.int16 else base.view(torch.int32)
    return _count((patterns & (0x7FFF if base.dtype == torch.int16 else _MAGNITUDE)) == 0)


def random_keys(
    word0: int, word1: int, start: int, elements: int, device: torch.device | str
) -> Tensor:
    """Return the random keys of `elements` elements, the first of which has counter `start`."""
    keys = torch.arange(elements, dtype=torch.int32, device=device)
    keys += _signed(start)
    for word in (word0, word1):
        keys ^= _signed(word)
        _mix(keys)
    return _shift_right(keys, 1)


def _mix(x: Tensor) -> None:
    x ^= _shift_right(x, 16)
    x *= 0x7FEB352D
    x ^= _shift_right(x, 15)
    x *= _signed(0x846CA68B)
    x ^= _shift_right(x, 16)


def _signed(word: int) -> int:
    """Return the int32 of the same 32 bits."""
    return (word & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


def _shift_right(x: Tensor, places: int) -> Tensor:
    shifted = x >> places
    shifted &= _MAGNITUDE >> (places - 1)
    return shifted


def count_bins(keys: Tensor, counts: Tensor) -> None:
    """Add one to the counter of each key's bin; `counts` is int32 or int64, shape (BINS,)."""
    _add_bins(keys >> LOW_BITS, counts)


def _add_bins(bins: Tensor, counts: Tensor) -> None:
    """Count `bins`, which is used up; the bin ``BINS`` is for elements that do not count."""
    bins *= _SPREAD
    bins += _columns(bins)
    table = _tally(bins, (BINS + 1) * _SPREAD).view(BINS + 1, _SPREAD)
    counts += table.sum(1, dtype=torch.int32)[:BINS]


def _columns(like: Tensor) -> Tensor:
    columns = torch.arange(like.numel(), dtype=torch.int32, device=like.device)
    columns &= _SPREAD - 1
    return columns


def _tally(cells: Tensor, size: int) -> Tensor:
    # On CUDA, in torch's sources: bincount reads its input's maximum back and waits for it,
    # index_put_ sorts, scatter_add_ wants an int64 index of 8 bytes an element. index_add_
    # takes int32 and adds by native atomics (Indexing.cu: indexFuncLargeIndex).
    ones = torch.ones(1, dtype=torch.int32, device=cells.device).expand(cells.numel())
    return torch.zeros(size, dtype=torch.int32, device=cells.device).index_add_(0, cells, ones)


def count_lows(keys: Tensor, slots: Tensor, counts: Tensor) -> None:
    """Add one to the counter of each key's low bits, for keys of chosen bins.

    `slots` is int32, shape (BINS,), -1 for bins that are left out; `counts` is int32 or int64,
    shape (rows, LOWS).
    """
    rows = slots.index_select(0, keys >> LOW_BITS)
    rows *= LOWS
    cells = keys & (LOWS - 1)
    cells += rows
    spare = _columns(keys)
    spare += counts.numel()
    torch.where(rows < 0, spare, cells, out=cells)
    del rows, spare
    counts += _tally(cells, counts.numel() + _SPREAD)[: counts.numel()].view_as(counts)


def count_nonfinite(codes: Tensor, exponent: int) -> Tensor:
    """Return how many values of a format with these exponent bits are NaN or infinite."""
    return _count((codes & exponent) == exponent)


def select(
    keys: Tensor, cut: Cut, remainder: Tensor, base: Tensor, target: Tensor, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the base's pattern of each selected element to `out`, else the target's.

    Parameters
    ----------
    keys : tensor of int32, shape (n,)
    cut : Cut
        Of fewer than 2^40 ties.
    remainder : tensor of int64, shape ()
        ``(j * needed) % ties`` of the first tie in `keys`.
    base, target, out : tensor of int16 or int32, shape (n,)
        `out` may be one of the others.

    Returns
    -------
    selected : tensor of int64, shape ()
        How many elements of `keys` were selected.
    remainder : tensor of int64, shape ()
        The remainder for the first tie after `keys`.
    """
    taken, remainder = _take(keys, cut, remainder)
    selected = _count(taken)
    torch.where(taken, base, target, out=out)
    return selected, remainder


def _take(keys: Tensor, cut: Cut, remainder: Tensor) -> tuple[Tensor, Tensor]:
    """Return which elements are selected, and the remainder after them.

    The tie number j is taken if the quotient of ``j * needed`` by ``ties`` grows with it, that
    is if the remainder at j + 1 has wrapped around: if it is below `needed`. Ranks among the
    ties are a prefix sum, at most ``TURN_ELEMENTS`` of them at a time: 2^22 * 2^40 is 2^62.
    """
    last = cut.tie_first + cut.tie_span - 1
    taken = keys > last if cut.highest else keys < cut.tie_first
    for low in range(0, keys.numel(), TURN_ELEMENTS):
        part = keys[low : low + TURN_ELEMENTS]
        tied = part >= cut.tie_first
        tied &= part <= last
        phases = tied.to(torch.int64).cumsum_(0)
        phases *= cut.ties_taken
        phases += remainder
        phases.remainder_(cut.ties)
        remainder = phases[-1].clone()
        tied &= phases < cut.ties_taken
        del phases
        taken[low : low + TURN_ELEMENTS] |= tied
    return taken, remainder


def count_selected(
    keys: Tensor, cut: Cut, remainder: Tensor, scores: Tensor, counts: Tensor
) -> None:
    """Count the bins of `scores` over the elements that ``select`` selects by `keys`."""
    taken, _ = _take(keys, cut, remainder)
    bins = scores >> LOW_BITS
    bins.masked_fill_(taken.logical_not_(), BINS)
    del taken
    _add_bins(bins, counts)


def count_scores(score: Score, base: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Count the bins of all scores; return how many base weights are zero, as int64.

    ``score_keys``, ``count_bins`` and ``count_zeros`` in one.
    """
    zeros = count_zeros(base)
    bins = score_keys(score, base, target)
    bins >>= LOW_BITS
    _add_bins(bins, counts)
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
    """Score and ``select`` in one; parameters are those of both."""
    keys = score_keys(score, base_scored, target_scored)
    return select(keys, cut, remainder, base_codes, target_codes, out)


def note_changes(held: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Note where `held` differs from `codes`, and what it holds there; waits for the device.

    Parameters
    ----------
    held, codes : tensor of int16 or int32, shape (n,)

    Returns
    -------
    changed : tensor of uint8, shape (ceil(n / 8),)
        A bit for each element, the first one in the lowest bit.
    former : tensor of the type of `held`
        The elements of `held` that differ, one after the other.
    """
    differs = held != codes
    former = held[differs]  # by positions; masked_select takes twice as much on processors
    return _pack(differs), former


def put_back(changed: Tensor, former: Tensor, held: Tensor) -> None:
    """Set the elements of `held` that ``note_changes`` has noted to what they were."""
    held.masked_scatter_(_unpack(changed, held.numel()), former)


def _pack(flags: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(flags.view(torch.uint8), (0, -flags.numel() % 8))
    return (padded.view(-1, 8) << _places(flags.device)).sum(1, dtype=torch.uint8)


def _unpack(packed: Tensor, elements: int) -> Tensor:
    bits = packed.unsqueeze(1) >> _places(packed.device)
    bits &= 1
    return bits.view(-1)[:elements].view(torch.bool)


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
