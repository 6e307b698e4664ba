"""What a verification has found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..documents import rounded, unless
from ..scores import DEFAULT_SCORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found out about a model folder."""

    output: Path
    score: str = field(metadata=unless(DEFAULT_SCORE))
    """What weights are ranked by: a key of ``SCORES``."""
    ok: bool = field(init=False)
    """Whether the folder is what its record says, in everything that is checked."""
    problems: tuple[str, ...]
    """Sentences that name file, tensor and element; at most 20, and how many more."""
    differing_elements: int
    """Elements, of the region and outside, that are not what they must be."""
    region_elements: int
    """Elements of the region, counted."""
    selected_elements: int
    """Elements that had to be restored, counted by their keys."""
    threshold: float | None
    """As recorded; None for random."""
    ties: int
    """Elements that tie at the cut, counted."""
    ties_taken: int
    """As recorded."""
    tensors: int
    """Tensors of the output that were compared, of the region and outside."""
    compared_bytes: int
    """Bytes of the output's tensors that were compared."""
    hashed_input_bytes: int | None = field(metadata=unless(None))
    """Bytes of inputs on the Hub that have the listed SHA-256; None if that was not asked for."""
    seconds: float = field(metadata=rounded(3))
    peak_rss_bytes: int
    """Peak resident memory of the process so far."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ok", not self.problems)
