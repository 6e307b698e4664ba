"""What a score is: words for people, and its formula for each kind of kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, cast

Formula = Callable[[Any, Any], Any]
"""Takes weights of base and target as float32; returns scores; the kernel rounds the last step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    """One way to measure the change of a weight.

    Never negative except for its sign bit, which kernels clear: its pattern then orders as it
    does. NaN where a weight is not a number.
    """

    name: str
    """What ``--score`` calls it."""
    label: str
    """What it measures, as tables and messages say it."""
    definition: str
    """The formula as people write it, and what 1 means."""
    is_share: bool
    """Whether 1 is as much as the base weight, so that people may read scores as percents."""
    zero_base: str
    """What a base weight of zero means for the rank, for people."""
    large: str
    """Why a score may be 100 or more, as a clause for people; empty if nothing explains it."""
    numpy: Formula
    """On arrays: the truth."""
    numba: Formula
    """On two numbers, as a loop calls it."""
    torch: Formula
    """On tensors, in place: what is left of either tensor means nothing."""
    triton: Formula
    """On tiles."""


def bind(function: Callable[..., Any], names: Mapping[str, Any], mark: str) -> Callable[..., Any]:
    """Return a function with another meaning of some of its global names.

    numba and Triton compile what a name means in a function's globals. A parameter
    would serve numba as well, but its cache on disk cannot tell functions in closures
    apart, and Triton takes no functions as arguments in all versions.

    Parameters
    ----------
    function : callable
        Written in Python.
    names : mapping
        What each name means.
    mark : str
        Ends the name of the result, by which caches on disk tell it from others.
    """
    origin = cast("FunctionType", function)
    bound = FunctionType(origin.__code__, {**origin.__globals__, **names}, origin.__name__)
    bound.__qualname__ = f"{origin.__qualname__}_{mark}"
    bound.__module__ = origin.__module__
    bound.__doc__ = origin.__doc__
    bound.__annotations__ = origin.__annotations__  # Triton: which parameters are constants
    return bound
