"""The kernels in NumPy: slow, plain, and the definition of every other one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..scores.score import Score, bind
from ..selection.cut import Cut
from ..selection.score import BINS, LOW_BITS, LOWS, NAN_KEY
from .interface import Codes, Counts, Flags, Floats, Keys, Patterns


def widen_bfloat16(patterns: Patterns, out: Floats) -> None:
    """Write the exact float32 value of each bfloat16 pattern to `out`."""
    np.left_shift(patterns, 16, out=out.view(np.uint32), dtype=np.uint32)


def widen_float16(patterns: Patterns, out: Floats) -> None:
    """Write the exact float32 value of each float16 pattern to `out`."""
    with np.errstate(invalid="ignore"):
        out[:] = patterns.view(np.float16)


def narrow_bfloat16(values: Floats, out: Patterns) -> None:
    """Round float32 values to bfloat16, to nearest even; NaN becomes 0x7FC0."""
    out[:] = _round_bfloat16(values)
    out[np.isnan(values)] = 0x7FC0


def narrow_float16(values: Floats, out: Patterns) -> None:
    """Round float32 values to float16, to nearest even; NaN becomes 0x7E00."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        out[:] = values.astype(np.float16).view(np.uint16)
    out[np.isnan(values)] = 0x7E00


def score_keys(score: Score, base: Patterns | Floats, target: Patterns | Floats, keys: Keys) -> int:
    """Write the key of each weight's score to `keys`.

    Parameters
    ----------
    score : Score
    base, target : ndarray of uint16 or float32, shape (n,)
        bfloat16 patterns (bfloat16 arithmetic) or float32 values.
    keys : ndarray of uint32, shape (n,)
        Receives the keys.

    Returns
    -------
    int
        How many base weights are zero, of either sign.
    """
    bfloat16 = base.dtype == np.uint16
    if bfloat16:
        base, target = _bfloat16_value(base.view(np.uint16)), _bfloat16_value(target.view("u2"))
    rounded = _rounded_bfloat16 if bfloat16 else np.abs
    names = {"rounded": rounded, "constant": lambda value: rounded(np.array(value, np.float32))}
    with np.errstate(all="ignore"):
        scores = rounded(bind(score.numpy, names, "numpy")(base, target))
    keys[:] = scores.view(np.uint32)
    keys[np.isnan(scores)] = NAN_KEY
    return int(np.count_nonzero(base == 0))


def _bfloat16_value(patterns: Patterns) -> Floats:
    return (patterns.astype(np.uint32) << 16).view(np.float32)


def _rounded_bfloat16(values: Floats) -> Floats:
    """Return magnitudes rounded to bfloat16; NaN stays NaN."""
    magnitudes = np.abs(values)
    wide = (_round_bfloat16(magnitudes).astype(np.uint32) << 16).view(np.float32)
    return np.where(np.isnan(magnitudes), np.float32(np.nan), wide)


def _round_bfloat16(values: Floats) -> Patterns:
    """Return bfloat16 patterns, rounded to nearest even; undefined for NaN."""
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def random_keys(word0: int, word1: int, start: int, keys: Keys) -> None:
    """Write the random key of each element to `keys`.

    The hash is two rounds of the 32-bit mixer "lowbias32" (C. Wellons, "hash
    prospector", bias 0.17), each after adding one word of the stream to the
    counter by exclusive or.

    Parameters
    ----------
    word0, word1 : int
        The two 32-bit words of the elements' stream, see ``selection.stream``.
    start : int
        Counter of the first element, below 2^32.
    keys : ndarray of uint32, shape (n,)
        Receives the keys, each below 2^31.
    """
    counters = np.arange(start, start + keys.size, dtype=np.uint64).astype(np.uint32)
    keys[:] = _mix(_mix(counters ^ np.uint32(word0)) ^ np.uint32(word1)) >> np.uint32(1)


def _mix(x: Keys) -> Keys:
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def count_bins(keys: Keys, counts: Counts) -> None:
    """Add one to the counter of each key's bin.

    Parameters
    ----------
    keys : ndarray of uint32, shape (n,)
    counts : ndarray of uint32, shape (lanes, BINS)
        A bin's count is the sum over its lanes: which lane is used is free.
    """
    counts[0] += np.bincount(keys >> LOW_BITS, minlength=BINS).astype(np.uint32)


def count_lows(keys: Keys, slots: npt.NDArray[np.int32], counts: Counts) -> None:
    """Add one to the counter of each key's low bits, for keys of chosen bins.

    Parameters
    ----------
    keys : ndarray of uint32, shape (n,)
    slots : ndarray of int32, shape (BINS,)
        Row of `counts` that a bin counts into, -1 for bins that are left out.
    counts : ndarray of uint32, shape (rows, LOWS)
    """
    rows = slots[keys >> LOW_BITS]
    chosen = rows >= 0
    np.add.at(counts, (rows[chosen], keys[chosen] & (LOWS - 1)), 1)


def count_nonfinite(values: Codes, exponent: int) -> int:
    """Return how many values are NaN or infinite.

    Parameters
    ----------
    values : ndarray of uint16 or uint32, shape (n,)
        Patterns of any binary floating-point format.
    exponent : int
        The format's exponent bits: 0x7F80 (bfloat16), 0x7C00 (float16),
        0x7F800000 (float32).
    """
    return int(np.count_nonzero((values & exponent) == exponent))


def select(
    keys: Keys, cut: Cut, remainder: int, base: Codes, target: Codes, out: Codes
) -> tuple[int, int]:
    """Write the base's pattern of each selected element to `out`, else the target's.

    An element is selected if its key lies in ``[first, first + span)``, or if
    it ties (its key lies in ``[tie_first, tie_first + tie_span)``) and its turn
    has come: the tie number j of all `ties` is taken if and only if
    ``((j + 1) * ties_taken) // ties > (j * ties_taken) // ties``.

    Parameters
    ----------
    keys : ndarray of uint32, shape (n,)
    cut : Cut
        Has both ranges of keys, how many ties there are, and how many are taken.
    remainder : int
        ``(j * ties_taken) % ties`` of the first tie in `keys`.
    base, target, out : ndarray of uint16 or uint32, shape (n,)

    Returns
    -------
    selected : int
        How many elements of `keys` were selected.
    remainder : int
        The remainder for the first tie after `keys`.
    """
    taken, remainder = _taken(keys, cut, remainder)
    out[:] = np.where(taken, base, target)
    return int(np.count_nonzero(taken)), remainder


def count_selected(keys: Keys, cut: Cut, remainder: int, scores: Keys, counts: Counts) -> None:
    """Count the bins of `scores` over the elements that ``select`` selects by `keys`.

    Parameters as in ``select``; `scores` are the score keys of the same
    elements, `counts` as in ``count_bins``. For random selection, whose keys
    say nothing of the scores it takes.
    """
    taken, _ = _taken(keys, cut, remainder)
    count_bins(scores[taken], counts)


def note_changes(held: Codes, codes: Codes, changed: Flags, former: Codes) -> int:
    """Note where `held` differs from `codes`, and what it holds there.

    Parameters
    ----------
    held, codes : ndarray of uint16 or uint32
    changed : ndarray of uint8, shape (ceil(held.size / 8),)
        Receives a bit for each element, the first one in the lowest bit.
    former : ndarray, of the type and size of `held`
        Receives the elements of `held` that differ, one after the other; what follows
        them means nothing.

    Returns
    -------
    int
        How many differ.
    """
    differs = held != codes
    count = int(np.count_nonzero(differs))
    changed[:] = np.packbits(differs, bitorder="little")
    former[:count] = held[differs]
    return count


def put_back(changed: Flags, former: Codes, held: Codes) -> None:
    """Set the elements of `held` that ``note_changes`` has noted to what they were."""
    flags = np.unpackbits(changed, count=held.size, bitorder="little").astype(np.bool_)
    held[flags] = former


def _taken(keys: Keys, cut: Cut, remainder: int) -> tuple[npt.NDArray[np.bool_], int]:
    wide = keys.astype(np.int64)
    taken = (wide >= cut.first) & (wide < cut.first + cut.span)
    tied = np.flatnonzero((wide >= cut.tie_first) & (wide < cut.tie_first + cut.tie_span))
    for index in tied:
        remainder += cut.ties_taken
        if remainder >= cut.ties:
            remainder -= cut.ties
            taken[index] = True
    return taken, remainder
