"""The operations that formulas are written in; kernels bind their own to these names.

bfloat16 arithmetic rounds the result of each step, float32 arithmetic is exact to
its own rounding: there ``rounded`` does nothing.
"""

from __future__ import annotations

from typing import Any


def rounded(value: Any) -> Any:
    """Return a result of arithmetic in the format of the arithmetic, without its sign."""
    raise NotImplementedError


def magnitude(value: Any) -> Any:
    """Return a weight without its sign."""
    raise NotImplementedError


def constant(value: Any) -> Any:
    """Return a number in the format of the arithmetic."""
    raise NotImplementedError


def subtract(left: Any, right: Any) -> Any:
    """Return ``left - right``, in the memory of `left` where that may be used up."""
    raise NotImplementedError


def divide(left: Any, right: Any) -> Any:
    """Return ``left / right``, rounded once to nearest even."""
    raise NotImplementedError
