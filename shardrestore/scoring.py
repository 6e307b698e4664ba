"""How weights are scored, as one value that everything carries whole.

What decides the score of a weight, wherever it is computed: which score it is, the format
in which both sides enter it, and which names of the base are paired with which names of the target.
Two scans with equal scorings of equal weights find equal counts; profiles, journals
and records therefore hold it and compare it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .documents import key, to_json, unless
from .formats import CASTS
from .scores import DEFAULT_SCORE, SCORES

_NAMES = {cast: name for name, cast in CASTS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How the weights of a target are scored against those of its base.

    Examples
    --------
    >>> Scoring(cast="BF16").record()
    {'dtype': 'bf16', 'rename': []}
    """

    cast: str | None = field(default=None, metadata=key("dtype", convert=_NAMES.__getitem__))
    """Format that both sides are cast to as they are read; None for each tensor's own."""
    renames: tuple[str, ...] = field(default=(), metadata=key("rename"))
    """Substitutions ``REGEX=REPL`` that turn names of the base into names of the target."""

    score: str = field(default=DEFAULT_SCORE, metadata=unless(DEFAULT_SCORE))
    """A key of ``SCORES``; what was written before there were two does not name it."""

    def record(self) -> dict[str, Any]:
        """Return the scoring as JSON values, under the names of the options."""
        values: dict[str, Any] = to_json(self)
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Scoring:
        """Read what ``record`` returns; other keys are left alone.

        Raises
        ------
        ValueError
            If a value is missing or of another kind.
        """
        dtype, renames = values.get("dtype"), values.get("rename")
        score = values.get("score", DEFAULT_SCORE)
        if not isinstance(score, str) or score not in SCORES:
            raise ValueError(f"score {score!r:.40}: expected one of {', '.join(SCORES)}")
        if not isinstance(dtype, str) or dtype not in CASTS:
            raise ValueError(f"dtype {dtype!r:.40}: expected one of {', '.join(CASTS)}")
        if not (isinstance(renames, list) and all(isinstance(text, str) for text in renames)):
            raise ValueError(f"rename {renames!r:.40}: expected a list of texts")
        return cls(score=score, cast=CASTS[dtype], renames=tuple(renames))
