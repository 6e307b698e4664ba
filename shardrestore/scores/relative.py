"""The relative change of Ye et al. (EMNLP 2025, arXiv 2509.16596).

::

    r = |t - b| / (|b| + 1e-8)

In bfloat16 1e-8 is 1.0011718e-08. In float16 it would be 0 and an unchanged zero
not a number: float16 weights are scored in float32.
"""

from __future__ import annotations

from typing import Any

from .arithmetic import constant, divide, magnitude, rounded, subtract
from .score import Score


def in_numpy(base: Any, target: Any) -> Any:
    """On arrays."""
    return rounded(target - base) / rounded(abs(base) + constant(1e-8))


def in_numba(base: Any, target: Any) -> Any:
    """On numbers."""
    return rounded(target - base) / rounded(abs(base) + constant(1e-8))


def in_torch(base: Any, target: Any) -> Any:
    """On tensors."""
    difference = rounded(subtract(target, base))
    divisor = magnitude(base)
    divisor += constant(1e-8)
    difference /= rounded(divisor)
    return difference


def in_triton(base, target):  # type: ignore[no-untyped-def]
    """On tiles."""
    return divide(rounded(target - base), rounded(magnitude(base) + constant(1e-8)))


SCORE = Score(
    name="relative",
    label="relative change",
    definition="|tuned − base| / (|base| + 10⁻⁸): 1 is as much as the base weight itself",
    is_share=True,
    zero_base="such weights rank highest",
    large="as weights do whose base is all but zero",
    numpy=in_numpy,
    numba=in_numba,
    torch=in_torch,
    triton=in_triton,
)
