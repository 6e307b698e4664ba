"""The kernels in numba: one core each, without the interpreter's lock.

Each function returns the same integers as its namesake in ``reference``. Loops
are written for LLVM to vectorise: 32-bit integers, no branches. Speeds in
comments are of one core of a 2-core AMD EPYC with AVX-512, in elements, on
chunks of 65,536 of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numba
import numpy as np

# numba asks for it at each first call, which is on a worker, where memory may be short:
# an import that lacks it ends in a SystemError of CPython's compiler.
import numpy.ma

from ..scores.score import Score, bind
from ..selection.cut import Cut
from ..selection.score import NAN_KEY
from .interface import Counts, Flags, Floats, Keys, Patterns

_NAN_KEY = np.uint32(NAN_KEY)
_INFINITY = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_HIGH_HALF = np.uint32(0xFFFF0000)


def _kernel(*signatures: str) -> Callable[[Callable[..., Any]], Any]:
    # Compiled for these types on first import, read from numba's cache on disk
    # afterwards. fastmath stays off: it would reorder and fuse roundings.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

    def compile_kernel(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(list(signatures), cache=True, **options)(function)
        except Exception:
            # No folder for the cache is writable, as in a read-only container
            # (RuntimeError), or the cache is damaged (EOFError): compile anew,
            # two seconds each time.
            return numba.njit(list(signatures), **options)(function)

    return compile_kernel


_inline = numba.njit(inline="always")


@_inline
def _value(bits: Any) -> Any:
    return np.uint32(bits).view(np.float32)


@_inline
def _bits(value: Any) -> Any:
    return np.float32(value).view(np.uint32)


@_inline
def _round_bfloat16(value: Any) -> Any:
    # To nearest even, as the high half of a float32 pattern; undefined for NaN.
    # numba widens integer expressions to 64 bits, the casts undo that.
    bits = _bits(value)
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    return np.uint32(np.uint32(bits + np.uint32(odd + np.uint32(0x7FFF))) & _HIGH_HALF)


@_kernel("void(uint16[::1], float32[::1])")
def widen_bfloat16(patterns: Patterns, out: Floats) -> None:
    for i in range(out.size):
        out[i] = _value(np.uint32(patterns[i]) << np.uint32(16))


@_kernel("void(uint16[::1], float32[::1])")
def widen_float16(patterns: Patterns, out: Floats) -> None:
    for i in range(out.size):
        bits = np.uint32(patterns[i])
        magnitude = np.uint32(np.uint32(bits & np.uint32(0x7FFF)) << np.uint32(13))
        normal = np.uint32(magnitude + np.uint32(112 << 23))
        # Below 2^-14 the value is an integer times 2^-24. Computed from the
        # integer, not by rescaling a float32 subnormal: exact whatever the
        # processor's treatment of subnormals.
        small = _bits(np.float32(np.int32(bits & np.uint32(0x3FF))) * np.float32(2.0**-24))
        result = normal if magnitude >= np.uint32(1 << 23) else small
        result = np.uint32(magnitude | _INFINITY) if magnitude >= np.uint32(31 << 23) else result
        sign = np.uint32(np.uint32(bits & np.uint32(0x8000)) << np.uint32(16))
        out[i] = _value(result | sign)


@_kernel("void(float32[::1], uint16[::1])")
def narrow_bfloat16(values: Floats, out: Patterns) -> None:
    for i in range(out.size):
        bits = _bits(values[i])
        rounded = np.uint32(_round_bfloat16(values[i]) >> np.uint32(16))
        is_nan = np.uint32(bits & _MAGNITUDE) > _INFINITY
        out[i] = np.uint16(np.uint32(0x7FC0) if is_nan else rounded)


@_kernel("void(float32[::1], uint16[::1])")
def narrow_float16(values: Floats, out: Patterns) -> None:
    for i in range(out.size):
        bits = _bits(values[i])
        magnitude = np.uint32(bits & _MAGNITUDE)
        odd = np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(1))
        # Rebias the exponent by -112 (two's complement), round half to even.
        normal = np.uint32(magnitude + np.uint32(0xC8000FFF))
        normal = np.uint32(np.uint32(normal + odd) >> np.uint32(13))
        # Below 2^-14: adding 0.5 aligns the float16 subnormal with the last
        # bits of the sum, and the addition itself rounds to nearest even.
        small = np.uint32(_bits(_value(magnitude) + np.float32(0.5)) - np.uint32(0x3F000000))
        result = normal if magnitude >= np.uint32(0x38800000) else small
        result = np.uint32(0x7C00) if magnitude >= np.uint32(0x47800000) else result
        sign = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000))
        result = np.uint32(result | sign)
        out[i] = np.uint16(np.uint32(0x7E00) if magnitude > _INFINITY else result)


def score_keys(score: Score, base: Patterns | Floats, target: Patterns | Floats, keys: Keys) -> int:
    bfloat16, float32 = compile_score(score)
    zeros: int = (bfloat16 if base.dtype == np.uint16 else float32)(base, target, keys)
    return zeros


def is_compiled() -> bool:
    """Return whether numba compiles these functions, and does not leave them to Python."""
    return not vars(numba.config)["DISABLE_JIT"]


@cache
def compile_score(score: Score) -> tuple[Callable[..., int], Callable[..., int]]:
    """Return the loops over bfloat16 patterns and over float32 values of a score.

    numba's cache compares the file of a loop alone, and what is inlined from the
    score's file is not in it: its contents are part of the loop's name.
    """
    source = getattr(score.numba, "__code__").co_filename  # noqa: B009  # mypy: a Callable
    mark = f"{score.name}_{crc32(Path(source).read_bytes()):08x}"
    loops = []
    for loop, rounded, signature in (
        (_score_keys_bfloat16, _rounded_bfloat16, "int64(uint16[::1], uint16[::1], uint32[::1])"),
        (_score_keys_float32, _rounded_float32, "int64(float32[::1], float32[::1], uint32[::1])"),
    ):
        names = {"rounded": rounded, "constant": rounded}
        formula = _inline(bind(score.numba, names, mark))
        loops.append(_kernel(signature)(bind(loop, {"_formula": formula}, mark)))
    return loops[0], loops[1]


_formula: Any = None  # bound by ``compile_score``


@_inline
def _rounded_bfloat16(value: Any) -> Any:
    return _value(np.uint32(_round_bfloat16(value) & _MAGNITUDE))


@_inline
def _rounded_float32(value: Any) -> Any:
    return np.float32(abs(np.float32(value)))


# 4.3 G/s; counters of 64 bits would halve the lanes, 2.9 G/s. Keys are written
# out and counted or compared by a second loop: both loops then vectorise, and a
# scan takes 1.7 G/s in all, against 1.1 where one loop does both.
def _score_keys_bfloat16(base: Patterns, target: Patterns, keys: Keys) -> Any:
    zeros = np.uint32(0)
    for i in range(keys.size):
        base_bits = np.uint32(np.uint32(base[i]) << np.uint32(16))
        target_bits = np.uint32(np.uint32(target[i]) << np.uint32(16))
        base_magnitude = np.uint32(base_bits & _MAGNITUDE)
        zeros = np.uint32(zeros + np.uint32(base_magnitude == 0))
        score = np.float32(abs(_formula(_value(base_bits), _value(target_bits))))
        keys[i] = _NAN_KEY if _bits(score) > _INFINITY else _round_bfloat16(score)
    return zeros


def _score_keys_float32(base: Floats, target: Floats, keys: Keys) -> Any:
    zeros = np.uint32(0)
    for i in range(keys.size):
        magnitude = np.float32(abs(base[i]))
        zeros = np.uint32(zeros + np.uint32(magnitude == np.float32(0)))
        bits = np.uint32(_bits(_formula(base[i], target[i])) & _MAGNITUDE)
        keys[i] = _NAN_KEY if bits > _INFINITY else bits
    return zeros


@_inline
def _mix(x: Any) -> Any:
    x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@_kernel("void(uint32, uint32, uint32, uint32[::1])")
def random_keys(word0: int, word1: int, start: int, keys: Keys) -> None:
    for i in range(keys.size):
        counter = np.uint32(np.uint32(start) + np.uint32(i))
        mixed = _mix(np.uint32(_mix(np.uint32(counter ^ word0)) ^ word1))
        keys[i] = np.uint32(mixed >> np.uint32(1))


# Neighbouring weights often fall into one bin, and an increment must wait for
# the one before it: four lanes count 1.6 G/s, a single one 1.0 (scores included).
@_kernel("void(uint32[::1], uint32[:, ::1])")
def count_bins(keys: Keys, counts: Counts) -> None:
    whole = keys.size - keys.size % 4 if counts.shape[0] >= 4 else 0
    for i in range(0, whole, 4):
        counts[0, keys[i] >> np.uint32(16)] += np.uint32(1)
        counts[1, keys[i + 1] >> np.uint32(16)] += np.uint32(1)
        counts[2, keys[i + 2] >> np.uint32(16)] += np.uint32(1)
        counts[3, keys[i + 3] >> np.uint32(16)] += np.uint32(1)
    for i in range(whole, keys.size):
        counts[0, keys[i] >> np.uint32(16)] += np.uint32(1)


@_kernel("void(uint32[::1], int32[::1], uint32[:, ::1])")
def count_lows(keys: Keys, slots: Any, counts: Counts) -> None:
    for i in range(keys.size):
        row = slots[keys[i] >> np.uint32(16)]
        if row >= 0:
            counts[row, keys[i] & np.uint32(0xFFFF)] += np.uint32(1)


@_kernel("int64(uint16[::1], uint16)", "int64(uint32[::1], uint32)")
def count_nonfinite(values: Any, exponent: Any) -> Any:
    found = np.int64(0)
    for i in range(values.size):
        found += np.int64((values[i] & exponent) == exponent)
    return found


_SELECT = "Tuple((int64, int64))(uint32[::1], uint32, uint32, uint32, uint32, int64, int64, int64, "


# Ties are rare but everywhere: about one element in a thousand of a bfloat16 pair. A
# first loop over 64 elements knows only whether one of them ties, and vectorises; the
# few groups with a tie are looked at again, one by one. 3.5 G/s; flagging each tie for
# a second loop takes 2.6 G/s, groups of 32 elements 3.1, of 256 up to 3.9 or down to 2.5.
_GROUP = 64


@_inline
def _take_ties(
    keys: Any,
    start: Any,
    end: Any,
    tie_first: Any,
    tie_span: Any,
    remainder: Any,
    needed: Any,
    ties: Any,
    base: Any,
    out: Any,
) -> Any:
    taken = np.int64(0)
    for i in range(start, end):
        if np.uint32(keys[i] - tie_first) < tie_span:
            remainder += needed
            if remainder >= ties:
                remainder -= ties
                out[i] = base[i]
                taken += 1
    return taken, remainder


@_kernel(
    _SELECT + "uint16[::1], uint16[::1], uint16[::1])",
    _SELECT + "uint32[::1], uint32[::1], uint32[::1])",
)
def _select(
    keys: Keys,
    first: Any,
    span: Any,
    tie_first: Any,
    tie_span: Any,
    remainder: Any,
    needed: Any,
    ties: Any,
    base: Any,
    target: Any,
    out: Any,
) -> Any:
    selected = np.int64(0)
    whole = keys.size - keys.size % _GROUP
    for start in range(0, whole, _GROUP):
        inside_count = np.uint32(0)
        tied = np.uint32(0)
        for i in range(start, start + _GROUP):  # a constant length, or it is not unrolled
            inside = np.uint32(keys[i] - first) < span
            out[i] = base[i] if inside else target[i]
            inside_count = np.uint32(inside_count + np.uint32(inside))
            tied = np.uint32(tied | np.uint32(np.uint32(keys[i] - tie_first) < tie_span))
        selected += np.int64(inside_count)
        if tied:
            taken, remainder = _take_ties(
                keys, start, start + _GROUP, tie_first, tie_span, remainder, needed, ties, base, out
            )
            selected += taken
    for i in range(whole, keys.size):
        inside = np.uint32(keys[i] - first) < span
        out[i] = base[i] if inside else target[i]
        selected += np.int64(inside)
    taken, remainder = _take_ties(
        keys, whole, keys.size, tie_first, tie_span, remainder, needed, ties, base, out
    )
    return selected + taken, remainder


def select(
    keys: Keys, cut: Cut, remainder: int, base: Any, target: Any, out: Any
) -> tuple[int, int]:
    selected: tuple[int, int] = _select(keys, *_rule(cut, remainder), base, target, out)
    return selected


def _rule(cut: Cut, remainder: int) -> tuple[int, ...]:
    """Return a cut as numbers, in the order in which compiled kernels take them."""
    ties = remainder, cut.ties_taken, cut.ties
    return cut.first, cut.span, cut.tie_first, cut.tie_span, *ties


@_kernel(
    "void(uint32[::1], uint32, uint32, uint32, uint32, int64, int64, int64, "
    "uint32[::1], uint32[:, ::1])"
)
def _count_selected(
    keys: Keys,
    first: Any,
    span: Any,
    tie_first: Any,
    tie_span: Any,
    remainder: Any,
    needed: Any,
    ties: Any,
    scores: Keys,
    counts: Counts,
) -> None:
    for i in range(keys.size):
        taken = np.uint32(keys[i] - first) < span
        if np.uint32(keys[i] - tie_first) < tie_span:
            remainder += needed
            if remainder >= ties:
                remainder -= ties
                taken = True
        if taken:
            counts[0, scores[i] >> np.uint32(16)] += np.uint32(1)


def count_selected(keys: Keys, cut: Cut, remainder: int, scores: Keys, counts: Counts) -> None:
    _count_selected(keys, *_rule(cut, remainder), scores, counts)


# Compacting without a branch: 1.0 ms for 524,288 elements of which a tenth differ, at random,
# is what NumPy takes for their positions alone, holding the interpreter's lock.
@_kernel(
    "int64(uint16[::1], uint16[::1], uint8[::1], uint16[::1])",
    "int64(uint32[::1], uint32[::1], uint8[::1], uint32[::1])",
)
def note_changes(held: Any, codes: Any, changed: Flags, former: Any) -> Any:
    count = np.int64(0)
    for byte in range(changed.size):
        start = byte * 8
        packed = np.uint32(0)
        for i in range(start, min(start + 8, held.size)):
            differs = held[i] != codes[i]
            former[count] = held[i]
            count += np.int64(differs)
            packed |= np.uint32(differs) << np.uint32(i - start)
        changed[byte] = packed
    return count


@_kernel(
    "void(uint8[::1], uint16[::1], uint16[::1])",
    "void(uint8[::1], uint32[::1], uint32[::1])",
)
def put_back(changed: Flags, former: Any, held: Any) -> None:
    count = 0
    for byte in range(changed.size):
        packed = np.uint32(changed[byte])
        i = byte * 8
        while packed:
            if packed & np.uint32(1):
                held[i] = former[count]
                count += 1
            packed >>= np.uint32(1)
            i += 1
