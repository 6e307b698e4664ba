"""Kernels, compiled for this machine; or why they cannot be."""

from __future__ import annotations

import os

from ..errors import RequestError
from ..kernels import load_kernels
from ..kernels.interface import Kernels
from ..scores.score import Score


def compile_kernels(name: str = "cpu", score: Score | None = None) -> Kernels:
    """Return a set of kernels; see ``load_kernels``.

    Raises
    ------
    RequestError
        If the environment keeps numba from compiling them.
    """
    try:
        return load_kernels(name, score)
    except ValueError as error:
        names = sorted(name for name in os.environ if name.startswith("NUMBA_"))
        place = f"of {', '.join(names)}" if names else "in .numba_config.yaml"
        raise RequestError(
            f"numba, which compiles the kernels, does not start: {error} "
            f"Unset what is wrong {place}"
        ) from error
