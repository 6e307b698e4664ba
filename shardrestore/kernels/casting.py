"""Codes of one format as float32 values, and as codes of another: which kernel does it.

The passes and verification, the makers of test pairs and the device check cast through here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import FORMATS
from .interface import Codes, Floats, Kernels


def widen(kernels: Kernels, codes: Codes, dtype: str, out: Floats) -> Floats:
    """Return the exact float32 values of codes of a format.

    Parameters
    ----------
    kernels : Kernels
    codes : ndarray of uint16 or uint32, shape (n,)
    dtype : str
        Their format, one that is ranked.
    out : ndarray of float32
        Scratch for at least n values.

    Returns
    -------
    ndarray of float32, shape (n,)
        A view of `out`, or of `codes` where the format is float32.
    """
    kernel = FORMATS[dtype].widen
    if kernel is None:
        return codes.view(np.float32)
    out = out[: codes.size]
    getattr(kernels, kernel)(codes, out)
    return out


def narrow(kernels: Kernels, values: Floats, dtype: str, out: Codes) -> Codes:
    """Return float32 values as codes of a format, rounded to nearest even.

    Parameters
    ----------
    kernels : Kernels
    values : ndarray of float32, shape (n,)
    dtype : str
        A format that is ranked.
    out : ndarray of uint32
        Scratch for at least n codes.

    Returns
    -------
    ndarray of uint16 or uint32, shape (n,)
        A view of `out`.
    """
    row = FORMATS[dtype]
    codes: Codes = out.view(row.code_type)[: values.size]
    if row.narrow is None:
        codes[:] = values.view(row.code_type)  # as they are: the payload of a NaN stays
    else:
        getattr(kernels, row.narrow)(values, codes)
    return codes


class Caster:
    """Casts of one worker, through scratch that is allocated once.

    Parameters
    ----------
    kernels : Kernels
    elements : int
        How many are cast at once, at most.
    """

    def __init__(self, kernels: Kernels, elements: int) -> None:
        self._kernels = kernels
        self._values = np.empty(elements, np.float32)
        self._scored = [np.empty(elements, np.float32) for _ in range(2)]
        self._codes = [np.empty(elements, np.uint32) for _ in range(2)]

    def cast(self, codes: Codes, source: str, dtype: str, side: int) -> Codes:
        """Return codes of format `source` in format `dtype`, rounded to nearest even.

        They are `codes` themselves where both are the same; else a view of scratch, which is
        valid until the side, base (0) or target (1), is cast again.
        """
        if source == dtype:
            return codes
        values = widen(self._kernels, codes, source, self._values)
        return narrow(self._kernels, values, dtype, self._codes[side])

    def values(self, codes: Codes, dtype: str, side: int) -> Floats:
        """Return the values of codes; valid until the side is asked for again."""
        return widen(self._kernels, codes, dtype, self._scored[side])


def view_codes(buffer: npt.NDArray[np.uint8], dtype: str, low: int, high: int) -> Any:
    """Return elements of a buffer as the codes of their format, without a copy."""
    row = FORMATS[dtype]
    return buffer[row.count_bytes(low) : row.count_bytes(high)].view(row.code_type)
