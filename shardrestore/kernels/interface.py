"""What a set of kernels offers; ``reference`` and ``cpu`` are such sets."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..scores.score import Score

Patterns = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

LANES = 4
"""Rows of a count array that ``count_bins`` may spread its increments over."""


class Kernels(Protocol):
    """The functions of ``kernels.reference``, which documents them."""

    def widen_bfloat16(self, patterns: Patterns, out: Floats) -> None: ...
    def widen_float16(self, patterns: Patterns, out: Floats) -> None: ...
    def narrow_bfloat16(self, values: Floats, out: Patterns) -> None: ...
    def narrow_float16(self, values: Floats, out: Patterns) -> None: ...
    def score_keys(self, score: Score, base: Any, target: Any, keys: Keys) -> int: ...
    def random_keys(self, word0: int, word1: int, start: int, keys: Keys) -> None: ...
    def count_bins(self, keys: Keys, counts: Counts) -> None: ...
    def count_lows(self, keys: Keys, slots: npt.NDArray[np.int32], counts: Counts) -> None: ...
    def count_nonfinite(self, values: Any, exponent: Any) -> int: ...
    def select(
        self,
        keys: Keys,
        first: int,
        span: int,
        tie_first: int,
        tie_span: int,
        remainder: int,
        needed: int,
        ties: int,
        base: Any,
        target: Any,
        out: Any,
    ) -> tuple[int, int]: ...
    def count_selected(
        self,
        keys: Keys,
        first: int,
        span: int,
        tie_first: int,
        tie_span: int,
        remainder: int,
        needed: int,
        ties: int,
        scores: Keys,
        counts: Counts,
    ) -> None: ...
    def note_changes(self, held: Any, codes: Any, changed: Flags, former: Any) -> int: ...
    def put_back(self, changed: Flags, former: Any, held: Any) -> None: ...
