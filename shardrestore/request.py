"""What a user can ask for, checked for everything that needs no file."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import SupportsFloat, TypedDict, get_args

from .errors import RequestError
from .pairing.pairs import CAST_DTYPES, Filter, make_filter
from .pairing.rename import Rename, parse_rename
from .selection.cut import STRATEGIES, Strategy

DEFAULT_MAX_MEMORY = "512MiB"
DEFAULT_SEED = 32


class Options(TypedDict, total=False):
    """Keyword arguments that every function of the API takes; all may be left out."""

    region: str
    """``transformer`` (default), ``attention``, ``mlp``, ``embedding`` or ``all``."""
    include: Sequence[str]
    """Regular expressions; of the region, only tensors that match one of them take part."""
    exclude: Sequence[str]
    """Regular expressions; tensors that match one of them do not take part."""
    rename: Sequence[str]
    """``REGEX=REPL`` substitutions that turn names of the base into names of the target."""
    strategy: str
    """``top`` (default), ``bottom`` or ``random``."""
    seed: int
    """Seed of the random strategy; 32."""
    dtype: str
    """``auto`` (default) keeps every tensor's format; ``bf16``, ``fp16``, ``fp32`` cast it."""
    approximate: bool
    """Leave out the refining scan: cuts in float32 scores fall on bins 1/128 wide."""
    allow_nonfinite: bool
    """Go on with NaN or infinite weights in the region."""
    device: str
    """``auto`` (default) or ``cpu``."""
    workers: int | None
    """Worker threads at most; None: one for each processor."""
    max_memory: int | str
    """Budget for the whole process, in bytes or as ``"512MiB"`` (default)."""
    overwrite: bool
    """Whether the output folder may hold files already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A checked request."""

    percents: tuple[float, ...]
    admitted: Filter
    renames: tuple[Rename, ...]
    strategy: Strategy
    seed: int
    dtype: str
    approximate: bool
    allow_nonfinite: bool
    workers: int
    max_memory_bytes: int
    overwrite: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    rename: tuple[str, ...]

    @property
    def region(self) -> str:
        """Name of the region."""
        return self.admitted.region

    @property
    def key_seed(self) -> int | None:
        """Seed of the keys that are cut; None where they are scores."""
        return self.seed if self.strategy == "random" else None

    @property
    def cast(self) -> str | None:
        """Format that tensors are cast to; None for their own."""
        return CAST_DTYPES[self.dtype]

    def record(self, percent: float) -> dict[str, object]:
        """Return the options that decide the result for one percent, as JSON values."""
        return {
            "percent": percent,
            "region": self.region,
            "include": list(self.include),
            "exclude": list(self.exclude),
            "rename": list(self.rename),
            "strategy": self.strategy,
            "seed": self.key_seed,
            "dtype": self.dtype,
            "approximate": self.approximate,
            "allow_nonfinite": self.allow_nonfinite,
        }


def make_request(percents: Sequence[float], options: Options) -> Request:
    """Check a request.

    Raises
    ------
    RequestError
        If any part of it cannot be meant.
    """
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"unknown option: {', '.join(unknown)}")
    include = _check_texts("include", options.get("include", ()))
    exclude = _check_texts("exclude", options.get("exclude", ()))
    rename = _check_texts("rename", options.get("rename", ()))
    _check_device(options.get("device", "auto"))
    return Request(
        percents=_check_percents(percents),
        admitted=make_filter(options.get("region", "transformer"), include, exclude),
        renames=tuple(parse_rename(text) for text in rename),
        strategy=_check_strategy(options.get("strategy", "top")),
        seed=_check_integer("seed", options.get("seed", DEFAULT_SEED)),
        dtype=_check_dtype(options.get("dtype", "auto")),
        approximate=_check_flag("approximate", options.get("approximate", False)),
        allow_nonfinite=_check_flag("allow_nonfinite", options.get("allow_nonfinite", False)),
        workers=_check_workers(options.get("workers")),
        max_memory_bytes=parse_size(options.get("max_memory", DEFAULT_MAX_MEMORY)),
        overwrite=_check_flag("overwrite", options.get("overwrite", False)),
        include=include,
        exclude=exclude,
        rename=rename,
    )


def _check_texts(option: str, texts: object) -> tuple[str, ...]:
    # A single text is a sequence of letters: each would be an expression.
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise RequestError(f"{option} {texts!r}: expected a list of texts")
    checked = tuple(texts)
    if not all(isinstance(text, str) for text in checked):
        raise RequestError(f"{option} {checked!r}: expected a list of texts")
    return checked


def _check_integer(option: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise RequestError(f"{option} {value!r}: expected a whole number")
    return int(value)


def _check_flag(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"{option} {value!r}: expected True or False")
    return value


def _check_percents(percents: Sequence[object]) -> tuple[float, ...]:
    checked = tuple(map(_check_percent, percents))
    if not checked:
        raise RequestError("no percent: say how much to restore, for example 10")
    repeated = [percent for percent in checked if checked.count(percent) > 1]
    if repeated:
        raise RequestError(f"percent {repeated[0]:.15g} is asked for twice")
    return checked


def _check_percent(percent: object) -> float:
    if isinstance(percent, bool) or not isinstance(percent, SupportsFloat):
        raise RequestError(f"percent {percent!r}: expected a number")
    try:
        value = float(percent)
    except (OverflowError, TypeError) as error:
        raise RequestError(f"percent {percent!r:.80}: expected a number") from error
    if not (math.isfinite(value) and 0 < value <= 100):
        raise RequestError(f"percent {value:g}: must be above 0 and at most 100")
    return value


def _check_strategy(strategy: str) -> Strategy:
    for known in STRATEGIES:
        if strategy == known:
            return known
    raise RequestError(f"strategy {strategy!r}: choose one of {', '.join(get_args(Strategy))}")


def _check_dtype(dtype: object) -> str:
    if not isinstance(dtype, str) or dtype not in CAST_DTYPES:
        raise RequestError(f"dtype {dtype!r}: choose one of {', '.join(CAST_DTYPES)}")
    return dtype


def _check_workers(workers: int | None) -> int:
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    checked = _check_integer("workers", workers)
    if checked < 1:
        raise RequestError(f"workers {checked}: at least 1")
    return checked


def _check_device(device: object) -> None:
    if isinstance(device, str) and re.fullmatch(r"cuda(:\d+)?", device):
        raise RequestError(f"device {device}: GPUs are not supported yet: use --device cpu")
    if device not in ("auto", "cpu"):
        raise RequestError(f"device {device!r}: choose auto or cpu")


_UNITS = {"": 1, "b": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}


def parse_size(size: int | str) -> int:
    """Return a number of bytes, from one or from text such as ``512MiB``.

    ``MiB`` and ``M`` are 1024², ``MB`` is 1000²; case does not matter.

    Raises
    ------
    RequestError
        If the text is no size above zero.

    Examples
    --------
    >>> parse_size("1.5GiB")
    1610612736
    """
    if not isinstance(size, str):
        value = _check_integer("size", size)
    else:
        found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-z]*)\s*", size.lower())
        if not found or found[2] not in _UNITS:
            raise RequestError(f"size {size[:40]!r}: expected a number and a unit, as in 512MiB")
        value = int(float(found[1]) * _UNITS[found[2]])
    if value <= 0:
        raise RequestError(f"size {size!r}: must be above zero")
    return value
