"""What a user can ask for, checked for everything that needs no file."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import SupportsFloat, TypedDict, cast, get_args, get_type_hints

from .errors import RequestError
from .formats import CASTS
from .machine.meter import measure_excess
from .pairing.pairs import Filter, make_filter
from .pairing.rename import parse_rename
from .plan.memory import Limits
from .scoring import Scoring
from .selection.cut import STRATEGIES, Strategy

DEFAULT_MAX_MEMORY = "512MiB"
DEFAULT_MAX_DEVICE_MEMORY = "1GiB"
DEFAULT_SEED = 32

_UNLIMITED_BYTES = sys.maxsize  # who holds models in memory has no budget for the process


class ScoreOptions(TypedDict, total=False):
    """What scored weights are, wherever they are."""

    include: Sequence[str]
    """Regular expressions; only tensors that match one of them take part."""
    exclude: Sequence[str]
    """Regular expressions; tensors that match one of them do not take part."""
    rename: Sequence[str]
    """``REGEX=REPL`` substitutions that turn names of the base into names of the target."""
    workers: int | None
    """Worker threads at most; None: one for each processor."""
    max_device_memory: int | str
    """Budget on each GPU, besides models that are there, in bytes or as ``"1GiB"`` (default)."""
    stream: str | None
    """``base``, ``target`` or ``both``: read it from the Hub as often as it is needed, instead
    of downloading it; None: neither. For a module in memory ``base`` is the default, else None."""


class CutOptions(TypedDict, total=False):
    """Which of the scored weights are restored."""

    region: str | Sequence[str]
    """``transformer`` (default), ``attention``, ``mlp``, ``embedding`` or ``all``; for a sweep
    also several."""
    strategy: str | Sequence[str]
    """``top`` (default), ``bottom`` or ``random``; for a sweep also several."""
    seed: int
    """Seed of the random strategy; 32."""
    approximate: bool
    """Leave out the refining scan: cuts in float32 scores fall on bins 1/128 wide."""
    allow_nonfinite: bool
    """Go on with NaN or infinite weights in the region."""


class ScanOptions(ScoreOptions, total=False):
    """Keyword arguments of whatever scores weights of files; all may be left out."""

    dtype: str
    """``auto`` (default) keeps every tensor's format; ``bf16``, ``fp16``, ``fp32`` cast it."""
    device: str
    """``auto`` (default), ``cpu``, ``cuda``, ``cuda:1``, ``cuda:0,cuda:1`` or ``mps``."""
    max_memory: int | str | None
    """Budget for the whole process, in bytes or as ``"512MiB"``. Left out, it is 512 MiB, beside
    what a process holds that is larger than the command line."""
    overwrite: bool
    """Whether what is at the output may be replaced."""


class Options(ScanOptions, CutOptions, total=False):
    """Keyword arguments of whatever restores weights of files; all may be left out."""

    profile: str | os.PathLike[str] | None
    """A profile of these weights (see ``scan``): pass 1 is not repeated."""
    checksum: bool
    """Write ``SHA256SUMS`` beside each model's files."""
    resume: bool
    """Go on with an unfinished run of the same request; anew if there is none."""
    report: bool
    """Write ``report.html`` beside each model's files (default)."""


class ModuleOptions(ScoreOptions, CutOptions, total=False):
    """Keyword arguments of whatever restores a module in memory; all may be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A checked request."""

    percents: tuple[float, ...]
    filters: tuple[Filter, ...]
    """One for each region, all with the same patterns."""
    scoring: Scoring
    strategies: tuple[Strategy, ...]
    seed: int
    approximate: bool
    allow_nonfinite: bool
    profile: Path | None
    devices: tuple[str, ...]
    """``auto``, ``cpu`` or names of GPUs, see ``parse_device``."""
    workers: int
    max_memory_bytes: int
    max_device_memory_bytes: int
    streamed: frozenset[str]
    """Roles, ``base`` and ``target``, of what is not downloaded."""
    overwrite: bool
    checksum: bool
    resume: bool
    report: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what a sweep writes, one for each region, strategy and percent."""
        return tuple(
            f"restore_{one.region}_{strategy}_{percent:.15g}pct"
            for one in self.filters
            for strategy in self.strategies
            for percent in self.percents
        )

    @property
    def limits(self) -> Limits:
        """What the work may take."""
        return Limits(
            workers=self.workers,
            max_memory_bytes=self.max_memory_bytes,
            max_device_memory_bytes=self.max_device_memory_bytes,
        )

    def record(self, region: str, strategy: str, percent: float) -> dict[str, object]:
        """Return the options that decide one result, as JSON values."""
        scoring = self.scoring.record()
        return {
            "percent": percent,
            "region": region,
            "include": list(self.include),
            "exclude": list(self.exclude),
            "rename": scoring["rename"],
            "strategy": strategy,
            "seed": self.seed if strategy == "random" else None,
            "dtype": scoring["dtype"],
            "approximate": self.approximate,
            "allow_nonfinite": self.allow_nonfinite,
        }


def make_scan_request(options: ScanOptions) -> Request:
    """Check a request to scan all that can be scored.

    Raises
    ------
    RequestError
        If any part of it cannot be meant.
    """
    _refuse_unknown(options, ScanOptions)
    return make_request([100.0], cast("Options", {"region": "all", **options}))


def make_module_request(percent: float, options: ModuleOptions) -> Request:
    """Check a request to restore a module in memory.

    Raises
    ------
    RequestError
        If any part of it cannot be meant.
    """
    _refuse_unknown(options, ModuleOptions)
    fixed = {"report": False, "max_memory": _UNLIMITED_BYTES}
    request = make_request([percent], cast("Options", {"stream": "base", **options, **fixed}))
    if len(request.names) > 1:
        raise RequestError(
            f"{len(request.names)} restorations are asked for: a module holds one: choose one "
            "region and one strategy"
        )
    return request


def make_request(percents: Sequence[float], options: Options) -> Request:
    """Check a request.

    Raises
    ------
    RequestError
        If any part of it cannot be meant.
    """
    _refuse_unknown(options, Options)
    include = _check_texts("include", options.get("include", ()))
    exclude = _check_texts("exclude", options.get("exclude", ()))
    return Request(
        percents=_check_percents(percents),
        filters=tuple(
            make_filter(region, include, exclude)
            for region in _check_choices("region", options.get("region", "transformer"))
        ),
        scoring=_check_scoring(options),
        strategies=tuple(
            map(_check_strategy, _check_choices("strategy", options.get("strategy", "top")))
        ),
        seed=_check_integer("seed", options.get("seed", DEFAULT_SEED)),
        approximate=check_flag("approximate", options.get("approximate", False)),
        allow_nonfinite=check_flag("allow_nonfinite", options.get("allow_nonfinite", False)),
        profile=_check_profile(options.get("profile")),
        devices=parse_device(options.get("device", "auto")),
        workers=check_workers(options.get("workers")),
        max_memory_bytes=parse_budget(options.get("max_memory")),
        max_device_memory_bytes=parse_size(
            options.get("max_device_memory", DEFAULT_MAX_DEVICE_MEMORY)
        ),
        streamed=parse_stream(options.get("stream")),
        overwrite=check_flag("overwrite", options.get("overwrite", False)),
        checksum=check_flag("checksum", options.get("checksum", False)),
        resume=check_flag("resume", options.get("resume", False)),
        report=check_flag("report", options.get("report", True)),
        include=include,
        exclude=exclude,
    )


def _refuse_unknown(options: Mapping[str, object], known: type) -> None:
    unknown = sorted(set(options) - set(get_type_hints(known)))
    if unknown:
        raise TypeError(f"unknown option: {', '.join(unknown)}")


def _check_texts(option: str, texts: object) -> tuple[str, ...]:
    # A single text is a sequence of letters: each would be an expression.
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise RequestError(f"{option} {texts!r}: expected a list of texts")
    checked = tuple(texts)
    if not all(isinstance(text, str) for text in checked):
        raise RequestError(f"{option} {checked!r}: expected a list of texts")
    return checked


def _check_choices(option: str, choices: object) -> tuple[str, ...]:
    """Return one choice, or several different ones, as a tuple."""
    if not isinstance(choices, Iterable):
        raise RequestError(f"{option} {choices!r}: expected a name, or a list of names")
    checked = (choices,) if isinstance(choices, str) else _check_texts(option, choices)
    if not checked:
        raise RequestError(f"no {option}: name at least one")
    repeated = [choice for choice in checked if checked.count(choice) > 1]
    if repeated:
        raise RequestError(f"{option} {repeated[0]} is asked for twice")
    return checked


def _check_path(option: str, path: object, kind: str) -> Path:
    if not isinstance(path, (str, os.PathLike)):  # bytes, say: Path would not take them
        raise RequestError(f"{option} {path!r}: expected a path")
    if not os.fspath(path):
        raise RequestError(f"{option} is empty: name a {kind}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~nobody
        raise RequestError(f"{option} {os.fspath(path)}: {error}") from error


def _check_profile(path: object) -> Path | None:
    return None if path is None else _check_path("profile", path, "file")


def _check_integer(option: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise RequestError(f"{option} {value!r}: expected a whole number")
    return int(value)


def check_flag(option: str, value: object) -> bool:
    """Return a flag; a text such as ``"no"`` would count as true.

    Raises
    ------
    RequestError
        If it is neither True nor False.
    """
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


def _check_scoring(options: Options) -> Scoring:
    dtype: object = options.get("dtype", "auto")
    if not isinstance(dtype, str) or dtype not in CASTS:
        raise RequestError(f"dtype {dtype!r}: choose one of {', '.join(CASTS)}")
    renames = _check_texts("rename", options.get("rename", ()))
    for text in renames:
        parse_rename(text)
    return Scoring(cast=CASTS[dtype], renames=renames)


def check_workers(workers: int | None) -> int:
    """Return the number of worker threads: what is asked for, or one for each processor."""
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    checked = _check_integer("workers", workers)
    if checked < 1:
        raise RequestError(f"workers {checked}: at least 1")
    return checked


STREAMS: Mapping[str | None, frozenset[str]] = {
    None: frozenset(),
    "base": frozenset({"base"}),
    "target": frozenset({"target"}),
    "both": frozenset({"base", "target"}),
}
"""Which inputs each choice of ``stream`` means."""


def parse_stream(stream: object) -> frozenset[str]:
    """Return the roles of the inputs that are not to be downloaded.

    Raises
    ------
    RequestError
        If it is no such choice.
    """
    if stream is None or (isinstance(stream, str) and stream in STREAMS):
        return STREAMS[stream]
    raise RequestError(f"stream {stream!r}: choose base, target or both")


def parse_device(device: object) -> tuple[str, ...]:
    """Return the names of devices that are asked for: of several GPUs, or one of something.

    Raises
    ------
    RequestError
        If it is no such choice.

    Examples
    --------
    >>> parse_device("cuda:0,cuda:1"), parse_device("cuda")
    (('cuda:0', 'cuda:1'), ('cuda:0',))
    """
    if isinstance(device, str):
        if device in ("auto", "cpu", "mps", "torch:cpu"):
            return (device,)
        if re.fullmatch(r"cuda(:\d{1,3})?(,cuda(:\d{1,3})?)*", device, re.ASCII):
            numbers = [int(name.partition(":")[2] or 0) for name in device.split(",")]
            repeated = [number for number in numbers if numbers.count(number) > 1]
            if repeated:
                raise RequestError(f"device {device}: cuda:{repeated[0]} is named twice")
            return tuple(f"cuda:{number}" for number in numbers)
    raise RequestError(
        f"device {device!r}: choose auto, cpu, mps, cuda, cuda:1, or several as in cuda:0,cuda:1"
    )


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


def parse_budget(max_memory: int | str | None) -> int:
    """Return the budget for the whole process in bytes.

    Left out, it is 512 MiB; in a process that has loaded more than the command line ever
    does, torch or a model for example, what it holds already comes on top.

    Raises
    ------
    RequestError
        If it is no size above zero.
    """
    if max_memory is None:
        return parse_size(DEFAULT_MAX_MEMORY) + measure_excess()
    return parse_size(max_memory)


def parse_output(output: object) -> Path:
    """Return the output as a path; an empty one would silently be the current folder.

    Raises
    ------
    RequestError
        If it is no path, empty, or of nobody's home.
    """
    return _check_path("--output", output, "folder")
