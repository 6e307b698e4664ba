"""The integer key that orders as the score of a weight does, whichever score it is.

A score (see ``scores``) is never negative, so its bit pattern, read as an unsigned
integer, orders as the score itself. Every score becomes one 31-bit key:

- both weights bfloat16, as they are or rounded to it: each step is rounded to bfloat16, as
  torch does on the CPU; the key is the 16-bit pattern of the score, shifted left by 16;
- anything else: float32 arithmetic on the exact values; the key is the 31-bit
  pattern of the score.

The high 15 bits of a key are its *bin*. A bfloat16 score is its bin; float32
scores that share a bin differ by less than 1/128 of their value. A score that
is not a number has one key of its own, above infinity: it ranks highest, as
``torch.topk`` ranks it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

KEY_BITS = 31
"""Bits of a key: a float32 pattern without its sign."""

LOW_BITS = 16
"""Bits of a key below its bin."""

BINS = 1 << (KEY_BITS - LOW_BITS)
"""Number of bins: one for each non-negative bfloat16 pattern."""

LOWS = 1 << LOW_BITS
"""Number of keys in a bin."""

KEYS = 1 << KEY_BITS
"""Number of keys; every key is below it."""

INFINITY_BIN = 0x7F80
"""Bin of an infinite score; scores that are no number lie above it."""

NAN_KEY = 0x7FC00000
"""The one key of every score that is not a number."""


def score_of_key(key: int) -> float:
    """Return the score whose key is `key`.

    Parameters
    ----------
    key : int
        A key, 0 ≤ key < 2^31.

    Returns
    -------
    float
        The score; NaN for ``NAN_KEY``.

    Examples
    --------
    >>> score_of_key(0x3F800000)
    1.0
    """
    return float(np.uint32(key).view(np.float32))


@lru_cache(maxsize=2)
def bin_scores(*, exact: bool) -> npt.NDArray[np.float64]:
    """Return the score that stands for each bin in sums and means.

    Parameters
    ----------
    exact : bool
        True where scores are bfloat16, so that a bin is one score. False where
        they are float32: the middle of the bin, at most 1/256 off.

    Returns
    -------
    ndarray of float64, shape (BINS,)
        Ascending; NaN above ``INFINITY_BIN``. Shared by all callers: read-only.
    """
    low = 0 if exact else LOWS // 2
    keys = (np.arange(BINS, dtype=np.uint32) << LOW_BITS) + np.uint32(low)
    # Zero and infinity stand alone in their bins in practice: an unchanged
    # weight must count as exactly 0, an overflowed score as exactly infinite.
    keys[0] = 0
    keys[INFINITY_BIN] = INFINITY_BIN << LOW_BITS
    keys[INFINITY_BIN + 1 :] = NAN_KEY
    scores = keys.view(np.float32).astype(np.float64)
    scores.flags.writeable = False
    return scores
