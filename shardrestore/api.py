"""The public functions: plan a restoration, carry out one, or a sweep of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from .checkpoint.folder import Checkpoint, open_checkpoint
from .checkpoint.staging import Staging
from .checkpoint.writer import free_bytes
from .errors import CheckpointError, MemoryBudgetError, OutputError, RequestError
from .outputs import check_outputs
from .passes.memory import Sizing
from .passes.plan import RegionSurvey, Work, plan_work, survey_regions
from .passes.progress import Observer
from .report.result import Restoration
from .request import Options, Request, make_request
from .runner import Runner

Reference = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request would do, from headers alone."""

    base: Path
    target: Path
    base_bytes: int
    """Size of the base's weight files."""
    target_bytes: int
    """Size of the target's weight files."""
    region: str
    regions: tuple[RegionSurvey, ...]
    """What each region would mean for these checkpoints."""
    percents: tuple[float, ...]
    tensors: int
    """Tensors of the region."""
    region_elements: int
    selected_elements: tuple[int, ...]
    """Elements that would be restored, one number for each percent."""
    reads: int
    """How often the region is read: 2, or 3 with the refining scan."""
    read_bytes: int
    written_bytes: int
    disk_needed_bytes: int
    disk_free_bytes: int
    """Free space where the output would be; in the current folder if none is named."""
    output_problem: str | None
    """Why the output cannot be written as asked; None if it can, or if none is named."""
    side_files: tuple[str, ...]
    """Files that would be copied as they are."""
    sizing: Sizing
    """Workers, block size and projected memory."""
    max_memory_bytes: int


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
        Share of the region to restore; a sequence means a ``sweep``.
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
    outputs = _name_outputs(path, request) if swept else [path]
    with open_checkpoint(base, "base") as opened_base, open_checkpoint(target, "target") as opened:
        work = _plan_work(opened_base, opened, request)
        return Plan(
            base=opened_base.folder,
            target=opened.folder,
            base_bytes=opened_base.nbytes,
            target_bytes=opened.nbytes,
            region=request.region,
            regions=survey_regions(
                opened_base,
                opened,
                request.admitted,
                renames=request.renames,
                dtype=request.dtype,
            ),
            percents=request.percents,
            tensors=len(work.pairing.pairs),
            region_elements=work.pairing.elements,
            selected_elements=work.counts,
            reads=work.reads,
            read_bytes=work.read_bytes,
            written_bytes=work.written_bytes,
            disk_needed_bytes=work.disk_bytes,
            disk_free_bytes=_find_free_bytes(path),
            output_problem=_find_output_problem(
                outputs, opened_base, opened, work, request.overwrite
            )
            if output
            else None,
            side_files=tuple(file.name for file in opened.side_files),
            sizing=work.sizing,
            max_memory_bytes=request.max_memory_bytes,
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
        Nothing is left behind then, and nothing that was there is lost.

    Examples
    --------
    >>> result = restore("llama", "llama-sft", "restored", percent=10)  # doctest: +SKIP
    >>> result.selected_elements  # doctest: +SKIP
    97307852
    """
    request = make_request([percent], options)
    (result,) = _run(base, target, [_output_path(output)], request, observer)
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
        Shares to restore.
    observer : Observer, optional
        Told about progress.
    **options
        See ``Options``.

    Returns
    -------
    tuple of Restoration
        In the order of `percents`.

    Raises
    ------
    ShardRestoreError
        As for ``restore``: all models get their names, or none.
    """
    request = make_request(tuple(percents), options)
    return _run(base, target, _name_outputs(_output_path(output), request), request, observer)


def _output_path(output: Reference) -> Path:
    """Return the output as a path; an empty one would silently be the current folder."""
    if not os.fspath(output):
        raise RequestError("--output is empty: name a folder")
    try:
        return Path(output).expanduser()
    except RuntimeError as error:  # ~nobody
        raise RequestError(f"--output {os.fspath(output)}: {error}") from error


def _name_outputs(output: Path, request: Request) -> list[Path]:
    """Return the folder of each percent within a sweep's output."""
    return [
        output / f"restore_{request.region}_{request.strategy}_{percent:.15g}pct"
        for percent in request.percents
    ]


def _find_free_bytes(path: Path) -> int:
    try:
        return free_bytes(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(f"{path}: cannot be looked at: {error}") from error


def _find_output_problem(
    outputs: Sequence[Path], base: Checkpoint, target: Checkpoint, work: Work, overwrite: bool
) -> str | None:
    try:
        check_outputs(outputs, base, target, work, overwrite=overwrite)
    except (OutputError, CheckpointError) as error:
        return str(error)
    return None


def _run(
    base: Reference,
    target: Reference,
    outputs: Sequence[Path],
    request: Request,
    observer: Observer | None,
) -> tuple[Restoration, ...]:
    started = time.perf_counter()
    with open_checkpoint(base, "base") as opened_base, open_checkpoint(target, "target") as opened:
        work = _plan_work(opened_base, opened, request)
        check_outputs(outputs, opened_base, opened, work, overwrite=request.overwrite)
        stagings: list[Staging] = []
        try:
            stagings.extend(Staging(output, overwrite=request.overwrite) for output in outputs)
            runner = Runner(opened_base, opened, request, work, stagings, observer)
            return runner.carry_out(started)
        except MemoryError as error:
            raise MemoryBudgetError(
                "the system refused memory that was planned "
                f"({work.sizing.projected_bytes:,} bytes in all): lower --workers or --max-memory, "
                "or raise the limit (`ulimit -v`)"
            ) from error
        finally:
            for staging in reversed(stagings):
                staging.discard()


def _plan_work(base: Checkpoint, target: Checkpoint, request: Request) -> Work:
    return plan_work(
        base,
        target,
        request.admitted,
        renames=request.renames,
        percents=request.percents,
        dtype=request.dtype,
        cast=request.cast,
        approximate=request.approximate,
        random=request.key_seed is not None,
        workers=request.workers,
        max_memory_bytes=request.max_memory_bytes,
    )
