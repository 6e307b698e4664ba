"""What is known without writing a model: scan, show, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from ..figures.overview import Overview
from ..figures.path_overview import overview_of
from ..figures.profile_overview import overview_of_profile
from ..inputs.reference import Reference
from ..machine.progress import Observer
from ..options.checks import check_budget, check_output
from ..options.documented import documents_options
from ..options.table import ScanOptions
from ..profile.file import Profile
from ..request import find_budget, make_scan_request
from ..runs.profiler import make_profile
from ..runs.reporter import make_report


@documents_options(ScanOptions)
def scan(
    base: Reference,
    target: Reference,
    output: Reference,
    *,
    observer: Observer | None = None,
    **options: Unpack[ScanOptions],
) -> Overview:
    """Scan every weight that can be scored, and save what was found as a profile.

    Parameters
    ----------
    base, target : str or path-like
        As for ``restore``.
    output : str or path-like
        The profile: a safetensors file, by custom ``NAME.profile.safetensors``.
    observer : Observer, optional
        Receives progress.
    **options
        See ``ScanOptions``.

    Returns
    -------
    Overview
        The distribution of the scores.

    Raises
    ------
    ShardRestoreError
        Nothing is left behind then.
    """
    request = make_scan_request(options)
    path = check_output(output)
    make_profile(base, target, path, request, observer)
    with Profile(path) as profile:
        return overview_of_profile(profile)


def show(
    path: Reference,
    *,
    percents: Sequence[float] | None = None,
    region: str | Sequence[str] | None = None,
    strategy: str | Sequence[str] | None = None,
    score: str | None = None,
    max_memory: int | str | None = None,
) -> Overview:
    """Describe a profile or a finished model; no weight is read.

    Parameters
    ----------
    path : str or path-like
        A profile that ``scan`` has written, or a folder that a restoration has.
    percents : sequence of float, optional
        Shares that would be restored, of a profile: 10 if left out.
    region, strategy : str or sequence of str, optional
        Where and how, of a profile: ``transformer``, ``top``.
    score : str, optional
        What its weights must be ranked by; whatever they are if left out.
    max_memory : int or str, optional
        Memory budget of the whole process, such as ``1GiB``: as for ``restore``.

    Returns
    -------
    Overview

    Raises
    ------
    ShardRestoreError
        If it is neither, or damaged, or the request makes no sense for it.
    """
    return overview_of(
        path,
        percents=percents,
        region=region,
        strategy=strategy,
        score=score,
        max_memory_bytes=find_budget(check_budget("max_memory", max_memory)),
    )


def write_report(
    path: Reference,
    output: Reference,
    *,
    percents: Sequence[float] | None = None,
    region: str | Sequence[str] | None = None,
    strategy: str | Sequence[str] | None = None,
    score: str | None = None,
    max_memory: int | str | None = None,
    png: bool = False,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a page about a profile or a finished model; it needs no network.

    Parameters
    ----------
    path : str or path-like
        As for ``show``.
    output : str or path-like
        The page: an HTML file.
    percents, region, strategy, score, max_memory
        As for ``show``. The page's slider goes over all percents; these are marked.
    png : bool
        Whether to write its main pictures beside it too, as ``NAME.distribution.png``
        and ``NAME.layers.png``.
    overwrite : bool
        Whether files that are there may be replaced.

    Returns
    -------
    tuple of Path
        The files that were written.

    Raises
    ------
    ShardRestoreError
        As for ``show``, or if the files cannot be written.
    """
    return make_report(
        path,
        check_output(output),
        percents=percents,
        region=region,
        strategy=strategy,
        score=score,
        max_memory_bytes=find_budget(check_budget("max_memory", max_memory)),
        png=png,
        overwrite=overwrite,
    )
