"""What an overview is asked of: a path, which may be a profile or a finished model."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import CheckpointError, RequestError
from ..options.table import DEFAULT_PERCENT, Options
from ..profile.file import Profile
from ..request import Request, allow_documents, make_request, refuse_other_score
from .detail import Detail
from .folder_overview import overview_of_folder
from .overview import Overview
from .profile_overview import detail_of_profile, overview_of_profile


def overview_of(
    path: str | os.PathLike[str],
    *,
    percents: Sequence[float] | None = None,
    region: str | Sequence[str] | None = None,
    strategy: str | Sequence[str] | None = None,
    score: str | None = None,
    max_memory_bytes: int = sys.maxsize,
) -> Overview:
    """Return the overview of a profile or of a finished model.

    Parameters
    ----------
    path : str or path-like
        A profile, or a folder that a restoration has written.
    percents : sequence of float, optional
        Shares that would be restored; 10 if left out.
    region : str or sequence of str, optional
        Regions that would be restored; ``transformer`` if left out.
    strategy : str or sequence of str, optional
        ``top`` or ``bottom``, or both; ``top`` if left out.
    score : str, optional
        What its weights must be ranked by; whatever they are if left out.
    max_memory_bytes : int
        Budget of the process: what it leaves is for documents.

    Raises
    ------
    RequestError
        If a cut cannot be made, or is asked of a finished model, which shows its own.
    CheckpointError
        If there is no such path, or the folder is no finished model or a damaged one.
    ProfileError
        If the file is no profile or a damaged one.
    MemoryBudgetError
        If what is to be parsed is too large.
    """
    place = _find(path)
    if os.path.isdir(place):
        _refuse_cuts(place, percents, region, strategy)
        overview = overview_of_folder(place, allow_documents(max_memory_bytes))
        refuse_other_score(place, overview.score, score)
        return overview
    request = _make_request(percents, region, strategy)
    with Profile(place, allowance=allow_documents(max_memory_bytes)) as profile:
        refuse_other_score(place, profile.contents.scoring.score, score)
        return overview_of_profile(
            profile,
            percents=request.percents,
            regions=[chosen.region for chosen in request.filters],
            strategies=request.strategies,
        )


def detail_of(
    path: str | os.PathLike[str],
    *,
    percents: Sequence[float] | None = None,
    region: str | Sequence[str] | None = None,
    strategy: str | Sequence[str] | None = None,
    score: str | None = None,
    max_memory_bytes: int = sys.maxsize,
) -> tuple[Overview, Detail | None]:
    """Return the overview of a profile or of a finished model, and what a page shows beside it.

    Parameters and errors are those of ``overview_of``. A finished model has no detail.
    """
    place = _find(path)
    if os.path.isdir(place):
        _refuse_cuts(place, percents, region, strategy)
        overview = overview_of_folder(place, allow_documents(max_memory_bytes))
        refuse_other_score(place, overview.score, score)
        return overview, None
    request = _make_request(percents, region, strategy)
    with Profile(place, allowance=allow_documents(max_memory_bytes)) as profile:
        refuse_other_score(place, profile.contents.scoring.score, score)
        return detail_of_profile(
            profile,
            percents=request.percents,
            regions=[chosen.region for chosen in request.filters],
            strategies=request.strategies,
        )


def _refuse_cuts(folder: Path, *asked: object) -> None:
    if any(one is not None for one in asked):
        raise RequestError(
            f"{folder}: a finished model shows its own cut only: leave out percent, region and "
            "strategy, or name a profile, which answers any"
        )


def _make_request(
    percents: Sequence[float] | None,
    region: str | Sequence[str] | None,
    strategy: str | Sequence[str] | None,
) -> Request:
    options: Options = {}
    if region is not None:
        options["region"] = region
    if strategy is not None:
        options["strategy"] = strategy
    return make_request((DEFAULT_PERCENT,) if percents is None else percents, options)


def _find(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not text:
        raise RequestError("the path is empty: name a profile or a finished model's folder")
    try:
        place = Path(text).expanduser()
        if os.path.lexists(place):
            return place
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{text!r}: not a usable path: {error}") from error
    raise CheckpointError(
        f"{place}: no such file or folder: name a profile that `shardrestore scan` has written, "
        "or the folder of a finished model"
    )
