"""The public functions: plan, restore, sweep, scan, show, write_report, verify, push."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from .checkpoint.staging import JOURNAL_FILE, STAGING_FOLDER
from .checkpoint.writer import free_bytes
from .errors import CheckpointError, OutputError, RequestError
from .hub.destination import check_writable, parse_destination
from .hub.reference import Reference
from .overview import overview_of, overview_of_profile
from .passes.memory import Sizing
from .passes.plan import RegionSurvey, survey_regions
from .passes.progress import Observer
from .profile.file import Profile
from .report.overview import Overview
from .report.result import Restoration
from .request import (
    DEFAULT_MAX_MEMORY,
    Options,
    ScanOptions,
    check_workers,
    make_request,
    make_scan_request,
    parse_size,
    parse_stream,
)
from .runs.outputs import check_outputs
from .runs.profiler import make_profile
from .runs.pushing import Pushed, push_folder
from .runs.reporter import make_report
from .runs.runner import run
from .runs.session import Session
from .runs.targets import TargetOutcome, run_targets
from .verification.verify import Verification, verify_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model that a request would write."""

    output: Path | None
    """Its folder; None if no output is named."""
    region: str
    strategy: str
    percent: float
    region_elements: int
    selected_elements: int
    """Elements that would be restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request would do, from headers alone."""

    base: str
    """As messages name it."""
    target: str
    base_bytes: int
    """Size of the base's weight files."""
    target_bytes: int
    """Size of the target's weight files."""
    regions: tuple[RegionSurvey, ...]
    """What each region would mean for these checkpoints."""
    models: tuple[PlannedModel, ...]
    reads: int
    """How often weights are read: 2; one more with the refining scan, one less with a profile."""
    read_bytes: int
    written_bytes: int
    """Bytes of all weight files that would be written."""
    download_bytes: int
    """What is downloaded into the Hub's cache first: of repositories that are not streamed."""
    disk_needed_bytes: int
    """What the outputs take, and work files meanwhile."""
    disk_free_bytes: int
    """Free space where the output would be; in the current folder if none is named."""
    output_problem: str | None
    """Why the output cannot be written as asked; None if it can, or if none is named."""
    side_files: tuple[str, ...]
    """Files that would be copied as they are."""
    sizing: Sizing
    """Workers, block size and projected memory."""
    max_memory_bytes: int
    remarks: tuple[str, ...]
    """What the user should know of the inputs."""


def plan(
    base: Reference,
    target: Reference,
    output: Reference | None = None,
    *,
    percent: float | Sequence[float] = 10.0,
    **options: Unpack[Options],
) -> Plan:
    """Say what a restoration would do; reads headers, writes nothing.

    Parameters
    ----------
    base, target : str or path-like
        The two checkpoint folders.
    output : str or path-like, optional
        Where the result would go. It is looked at, not written.
    percent : float or sequence of float
        Share of the region to restore; a sequence means a ``sweep``, and so do
        several regions or strategies.
    **options
        See ``Options``.

    Raises
    ------
    ShardRestoreError
        For whatever would stop the restoration before its first read, but for
        an output that cannot be written: see ``Plan.output_problem``.
    """
    swept = isinstance(percent, Iterable)
    request = make_request(tuple(percent) if isinstance(percent, Iterable) else [percent], options)
    path = _output_path(output or ".")
    swept = swept or len(request.names) > 1
    outputs = [path / name for name in request.names] if swept else [path]
    with Session(base, target, request) as session:
        work = session.work
        return Plan(
            base=session.base.where,
            target=session.target.where,
            base_bytes=session.base.nbytes,
            target_bytes=session.target.nbytes,
            regions=survey_regions(
                session.base,
                session.target,
                request.filters[0],
                renames=request.renames,
                dtype=request.dtype,
            ),
            models=tuple(
                PlannedModel(
                    output=place if output else None,
                    region=goal.region.name,
                    strategy=goal.strategy,
                    percent=goal.percent,
                    region_elements=goal.region.elements,
                    selected_elements=goal.selected,
                )
                for place, goal in zip(outputs, work.goals, strict=True)
            ),
            reads=work.reads,
            read_bytes=work.read_bytes,
            written_bytes=work.weight_bytes * len(work.goals),
            download_bytes=session.downloads.nbytes,
            disk_needed_bytes=work.disk_bytes,
            disk_free_bytes=_find_free_bytes(path),
            output_problem=_find_output_problem(outputs, session) if output else None,
            side_files=tuple(file.name for file in session.target.side_files),
            sizing=work.sizing,
            max_memory_bytes=request.max_memory_bytes,
            remarks=session.downloads.remarks,
        )


def restore(
    base: Reference,
    target: Reference,
    output: Reference,
    *,
    percent: float = 10.0,
    observer: Observer | None = None,
    **options: Unpack[Options],
) -> Restoration:
    """Restore a share of a fine-tuned model's weights and write the result.

    Parameters
    ----------
    base : str or path-like
        Folder of the checkpoint before fine-tuning.
    target : str or path-like
        Folder of the checkpoint after it.
    output : str or path-like
        Folder to write: a complete model with reports. Created if missing.
    percent : float
        Share of the region's elements to restore, above 0, at most 100.
    observer : Observer, optional
        Told about progress.
    **options
        See ``Options``.

    Returns
    -------
    Restoration

    Raises
    ------
    ShardRestoreError
        Nothing that was there is lost; what is finished may be kept for ``resume``,
        see ``ShardRestoreError.resumable``.

    Examples
    --------
    >>> result = restore("llama", "llama-sft", "restored", percent=10)  # doctest: +SKIP
    >>> result.selected_elements  # doctest: +SKIP
    97307852
    """
    started = time.perf_counter()
    request = make_request([percent], options)
    if len(request.names) > 1:
        raise RequestError(
            f"{len(request.names)} models are asked for, {', '.join(request.names)}: restore "
            "writes one, sweep writes several"
        )
    with Session(base, target, request) as session:
        (result,) = run(session, [_output_path(output)], observer, started)
        return result


def sweep(
    base: Reference,
    target: Reference,
    output: Reference,
    *,
    percents: Sequence[float],
    observer: Observer | None = None,
    **options: Unpack[Options],
) -> tuple[Restoration, ...]:
    """Restore several shares at once; both inputs are read as often as for one.

    Parameters
    ----------
    base, target : str or path-like
        As for ``restore``.
    output : str or path-like
        Each model goes into its folder ``restore_<region>_<strategy>_<percent>pct``.
    percents : sequence of float
        Shares to restore, by each strategy in each region of the options.
    observer : Observer, optional
        Told about progress.
    **options
        See ``Options``.

    Returns
    -------
    tuple of Restoration
        Region by region, therein strategy by strategy, percent by percent.

    Raises
    ------
    ShardRestoreError
        As for ``restore``: all models get their names, or none.
    """
    started = time.perf_counter()
    request = make_request(tuple(percents), options)
    path = _output_path(output)
    with Session(base, target, request) as session:
        return run(session, [path / name for name in request.names], observer, started)


def sweep_targets(
    base: Reference,
    targets: Sequence[Reference],
    output: Reference,
    *,
    percents: Sequence[float],
    observer: Observer | None = None,
    **options: Unpack[Options],
) -> tuple[TargetOutcome, ...]:
    """Sweep several models that were fine-tuned from one base, one after the other.

    Parameters
    ----------
    base : str or path-like
    targets : sequence of str or path-like
        Their folders' names must differ.
    output : str or path-like
        Each model goes into ``<target's name>/restore_<region>_<strategy>_<percent>pct``.
    percents : sequence of float
    observer : Observer, optional
    **options
        As for ``sweep``, but for a profile, which is one target's.

    Returns
    -------
    tuple of TargetOutcome
        In the order of `targets`. A target that fails does not keep the others
        from being restored: see ``TargetOutcome.error``.

    Raises
    ------
    RequestError, OutputError
        If the request makes no sense for any target, or the disk is too small
        for all of them; nothing has been written then.
    """
    request = make_request(tuple(percents), options)
    return run_targets(base, targets, _output_path(output), request, observer)


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
        Told about progress.
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
    path = _output_path(output)
    make_profile(base, target, path, request, observer)
    with Profile(path) as profile:
        return overview_of_profile(profile)


def show(
    path: Reference,
    *,
    percents: Sequence[float] | None = None,
    region: str | Sequence[str] | None = None,
    strategy: str | Sequence[str] | None = None,
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

    Returns
    -------
    Overview

    Raises
    ------
    ShardRestoreError
        If it is neither, or damaged, or the request makes no sense for it.
    """
    return overview_of(path, percents=percents, region=region, strategy=strategy)


def write_report(
    path: Reference,
    output: Reference,
    *,
    percents: Sequence[float] | None = None,
    region: str | Sequence[str] | None = None,
    strategy: str | Sequence[str] | None = None,
    png: bool = False,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write what a profile or a finished model tells as one page that needs no network.

    Parameters
    ----------
    path : str or path-like
        As for ``show``.
    output : str or path-like
        The page: an HTML file.
    percents, region, strategy
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
        _output_path(output),
        percents=percents,
        region=region,
        strategy=strategy,
        png=png,
        overwrite=overwrite,
    )


def verify(
    output: Reference,
    *,
    base: Reference | None = None,
    target: Reference | None = None,
    stream: str | None = None,
    workers: int | None = None,
    max_memory: int | str = DEFAULT_MAX_MEMORY,
    observer: Observer | None = None,
) -> Verification:
    """Check every element of a finished model folder against its inputs.

    Parameters
    ----------
    output : str or path-like
        A folder that a restoration has written, with its ``shardrestore.json``.
    base, target : str or path-like, optional
        Where the inputs are now, if not where the record says.
    stream : str, optional
        ``base``, ``target`` or ``both``: read it from the Hub instead of downloading it.
    workers : int, optional
        Worker threads at most; one for each processor if left out.
    max_memory : int or str
        Budget for the whole process, in bytes or as ``"512MiB"``.
    observer : Observer, optional
        Told about the stage ``verify``.

    Returns
    -------
    Verification
        Whatever is wrong with the folder is a result, not an exception.

    Raises
    ------
    ShardRestoreError
        If there is no readable record, an input is gone or changed, or the budget
        is too small.
    """
    return verify_folder(
        output,
        base=base,
        target=target,
        streamed=parse_stream(stream),
        workers=check_workers(workers),
        max_memory_bytes=parse_size(max_memory),
        observer=observer,
    )


def push(
    output: Reference,
    repository: str,
    *,
    public: bool = False,
    revision: str | None = None,
    delete_after_upload: bool = False,
    observer: Observer | None = None,
) -> Pushed:
    """Upload a finished model to the Hub, in one commit.

    Parameters
    ----------
    output : str or path-like
        A folder that ``restore`` has written.
    repository : str
        ``ORG/NAME``. It is created if missing, and used as it is otherwise.
    public : bool
        Who may see a repository that is created: everybody, or only you (default).
    revision : str, optional
        The branch; created if missing. ``main`` if left out.
    delete_after_upload : bool
        Whether the weight files are deleted from `output` once the Hub confirms that the
        commit holds them. The reports stay, and a note that says where the weights are.
    observer : Observer, optional
        Told about the stage ``push``.

    Returns
    -------
    Pushed

    Raises
    ------
    ShardRestoreError
        The branch is as it was, and nothing has been deleted. What has been sent is not
        sent again by the next call.
    """
    return push_folder(
        _output_path(output),
        parse_destination(repository, revision),
        public=public,
        delete_after_upload=delete_after_upload,
        observer=observer,
    )


def check_push(repository: str, *, revision: str | None = None) -> None:
    """Check that a model could be pushed, before it is made; nothing is created.

    Parameters
    ----------
    repository : str
        As for ``push``.
    revision : str, optional
        As for ``push``.

    Raises
    ------
    ShardRestoreError
        If the name is none, there is no token, or it does not allow to write there.
    """
    check_writable(parse_destination(repository, revision))


def find_unfinished(output: Reference) -> tuple[Path, ...]:
    """Return the outputs in and below a folder whose run was not finished and can be resumed.

    Parameters
    ----------
    output : str or path-like
        As for ``restore``, ``sweep`` or ``sweep_targets``.
    """
    path = _output_path(output)
    journals = (
        journal
        for depth in ("", "*/", "*/*/")
        for journal in path.glob(f"{depth}{STAGING_FOLDER}/{JOURNAL_FILE}")
    )
    return tuple(journal.parent.parent for journal in journals)


def _output_path(output: Reference) -> Path:
    """Return the output as a path; an empty one would silently be the current folder."""
    if not os.fspath(output):
        raise RequestError("--output is empty: name a folder")
    try:
        return Path(output).expanduser()
    except RuntimeError as error:  # ~nobody
        raise RequestError(f"--output {os.fspath(output)}: {error}") from error


def _find_free_bytes(path: Path) -> int:
    try:
        return free_bytes(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(f"{path}: cannot be looked at: {error}") from error


def _find_output_problem(outputs: Sequence[Path], session: Session) -> str | None:
    try:
        check_outputs(outputs, session)
    except (OutputError, CheckpointError) as error:
        return str(error)
    return None
