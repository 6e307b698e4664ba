"""Which tensors take part: a region, narrowed by patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..checkpoint.tensor import Tensor
from ..errors import RequestError
from .regions import REGIONS, in_region
from .rename import compile_pattern
from .towers import Towers


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tensors take part: a region, narrowed by patterns."""

    region: str
    include: tuple[re.Pattern[str], ...]
    """If any: the name must contain a match of one of them."""
    exclude: tuple[re.Pattern[str], ...]
    """The name must not contain a match of any of them."""
    allow_unpaired: bool
    """Whether what cannot be paired is left out, not refused."""

    def admits(self, tensor: Tensor, towers: Towers) -> bool:
        """Return whether a tensor of the target, which has these towers, takes part."""
        return self.admits_name(tensor.name) and in_region(
            tensor.name, tensor.shape, self.region, towers
        )

    def admits_name(self, name: str) -> bool:
        """Return whether the patterns admit a name, whatever its region."""
        included = not self.include or any(pattern.search(name) for pattern in self.include)
        return included and not any(pattern.search(name) for pattern in self.exclude)


def admitted_by(filters: Sequence[Filter]) -> Callable[[Tensor, Towers], bool]:
    """Return a function that says whether any of some filters admits a tensor."""

    def admits(tensor: Tensor, towers: Towers) -> bool:
        return any(one.admits(tensor, towers) for one in filters)

    return admits


def make_filter(
    region: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    allow_unpaired: bool = False,
) -> Filter:
    """Build a filter from what a user writes.

    Raises
    ------
    RequestError
        If the region is unknown or a pattern is no regular expression.
    """
    if region not in REGIONS:
        raise RequestError(f"region {region!r}: choose one of {', '.join(REGIONS)}")
    return Filter(
        region=region,
        include=tuple(compile_pattern(text, "--include") for text in include),
        exclude=tuple(compile_pattern(text, "--exclude") for text in exclude),
        allow_unpaired=allow_unpaired,
    )
