"""What a user can ask for, checked for everything that needs no file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .checkpoint.allowance import Allowance
from .checkpoint.selection import FilePolicy
from .errors import RequestError
from .formats import CASTS
from .granularity import DEFAULT_GRANULARITY, Granularity
from .machine.meter import measure_excess, measure_runtime
from .options.checks import check_percents, one_of, parse_size
from .options.table import (
    DEFAULT_MAX_MEMORY,
    MODULE_DEFAULTS,
    ModuleOptions,
    Options,
    ScanOptions,
    check_options,
)
from .pairing.filter import Filter, make_filter
from .pairing.rename import parse_rename
from .plan.memory import Limits
from .scores import SCORES
from .scoring import Scoring
from .selection.cut import Strategy

_SMALL_DOCUMENTS_BYTES = 16 << 20

_UNLIMITED_BYTES = sys.maxsize  # a process that holds models in memory has no budget


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
    """``auto``, ``cpu`` or names of GPUs, see ``check_device``."""
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
    keep: tuple[str, ...]
    drop: tuple[str, ...]
    follow_links: bool
    granularity: Granularity = DEFAULT_GRANULARITY
    """How finely the work is cut; no option."""
    kernel_set: str = "cpu"
    """Kernels of processors, see ``load_kernels``; no option."""

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

    def policy(self, role: str) -> FilePolicy:
        """Return what is asked of the files of an input: only the target's are copied."""
        if role == "base":
            return FilePolicy(follow_links=self.follow_links)
        return FilePolicy(keep=self.keep, drop=self.drop, follow_links=self.follow_links)

    def record(self, region: str, strategy: str, percent: float) -> dict[str, object]:
        """Return the options that decide one result, as JSON values."""
        scoring = self.scoring.record()
        return {
            "percent": percent,
            "region": region,
            "include": list(self.include),
            "exclude": list(self.exclude),
            "rename": scoring.pop("rename"),
            "strategy": strategy,
            "seed": self.seed if strategy == "random" else None,
            "dtype": scoring.pop("dtype"),
            "approximate": self.approximate,
            "allow_nonfinite": self.allow_nonfinite,
            **({"allow_unpaired": True} if self.filters[0].allow_unpaired else {}),
            **scoring,  # the score, where it is not the default
            **({"keep": list(self.keep)} if self.keep else {}),
            **({"drop": list(self.drop)} if self.drop else {}),
        }


def make_scan_request(options: ScanOptions) -> Request:
    """Check a request to scan all that can be scored.

    Raises
    ------
    RequestError
        If any part of it cannot be meant.
    """
    checked = check_options(options, ScanOptions)
    return _make_request((100.0,), check_options({"region": "all"}, Options) | checked)


def make_module_request(percent: float, options: ModuleOptions) -> Request:
    """Check a request to restore a module in memory.

    Raises
    ------
    RequestError
        If any part of it cannot be meant.
    """
    checked = check_options({**MODULE_DEFAULTS, **options}, ModuleOptions)
    fixed = {"report": False, "max_memory": _UNLIMITED_BYTES}
    request = _make_request(check_percents([percent]), check_options(fixed, Options) | checked)
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
    checked = check_options(options, Options)
    return _make_request(check_percents(percents), checked)


def _make_request(percents: tuple[float, ...], checked: Mapping[str, Any]) -> Request:
    """Return a request of checked options; a field with an option's name holds its value."""
    alike = {field.name for field in fields(Request)} & set(checked)
    return Request(
        percents=percents,
        filters=tuple(
            make_filter(
                region,
                checked["include"],
                checked["exclude"],
                allow_unpaired=checked["allow_unpaired"],
            )
            for region in checked["region"]
        ),
        scoring=_make_scoring(checked["score"], checked["dtype"], checked["rename"]),
        strategies=checked["strategy"],
        devices=checked["device"],
        max_memory_bytes=find_budget(checked["max_memory"]),
        max_device_memory_bytes=checked["max_device_memory"],
        streamed=checked["stream"],
        **{name: checked[name] for name in alike},
    )


def _make_scoring(score: str, dtype: str, renames: tuple[str, ...]) -> Scoring:
    for text in renames:
        parse_rename(text)
    return Scoring(score=score, cast=CASTS[dtype], renames=renames)


def refuse_other_score(where: Path, found: str, asked: str | None) -> None:
    """Refuse a profile or a model whose weights are ranked by another score than is asked for.

    Parameters
    ----------
    where : Path
        The profile or the model.
    found : str
        The score that it was made with.
    asked : str or None
        The score that is asked for; None for any.

    Raises
    ------
    RequestError
        Also if there is no such score.
    """
    if asked is not None and one_of(tuple(SCORES))("score", asked) != found:
        raise RequestError(
            f"{where}: was made with --score {found}, but {asked} is asked for: name one that was "
            "made with it, or leave out the score"
        )


def allow_documents(max_memory_bytes: int) -> Allowance:
    """Return what record and reports of a finished model, or a profile's text, may take.

    It is what the process itself leaves of a budget, and in any case enough for those of a
    model of some thousand tensors.
    """
    return Allowance(max(max_memory_bytes - measure_runtime(), _SMALL_DOCUMENTS_BYTES))


def find_budget(max_memory: int | None) -> int:
    """Return the budget for the whole process in bytes.

    Left out, it is 512 MiB; in a process that has loaded more than the command line ever
    does, torch or a model for example, what it holds already comes on top.
    """
    return parse_size(DEFAULT_MAX_MEMORY) + measure_excess() if max_memory is None else max_memory
