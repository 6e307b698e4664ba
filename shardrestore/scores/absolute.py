"""The absolute change: the control for the relative one.

::

    r = |t - b|

It is the score of skill grafting (Panigrahi et al., ICML 2023, arXiv 2302.06600), and what
magnitude pruning of task vectors ranks by. Large weights change most: it says little of
small ones, which the relative change ranks highest.
"""

from __future__ import annotations

from typing import Any

from .arithmetic import subtract
from .score import Score


def in_numpy(base: Any, target: Any) -> Any:
    """On arrays."""
    return target - base


def in_numba(base: Any, target: Any) -> Any:
    """On numbers."""
    return target - base


def in_torch(base: Any, target: Any) -> Any:
    """On tensors."""
    return subtract(target, base)


def in_triton(base, target):  # type: ignore[no-untyped-def]
    """On tiles."""
    return target - base


SCORE = Score(
    name="absolute",
    label="absolute change",
    definition="|tuned − base|",
    is_share=False,
    zero_base="such weights rank like any other",
    large="",
    numpy=in_numpy,
    numba=in_numba,
    torch=in_torch,
    triton=in_triton,
)
