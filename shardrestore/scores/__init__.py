"""The scores that weights can be ranked by: a file each, and a line each in ``SCORES``.

Nothing here imports NumPy, numba, torch or Triton: a score is written in terms of
the operations in ``arithmetic``, and the kernels bind those of their own to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import absolute, relative
from .score import Score

SCORES: Mapping[str, Score] = {
    relative.SCORE.name: relative.SCORE,
    absolute.SCORE.name: absolute.SCORE,
}
"""Every score by its name; the first is the default."""

DEFAULT_SCORE = next(iter(SCORES))
"""The score where none is asked for, and of files that name none."""
