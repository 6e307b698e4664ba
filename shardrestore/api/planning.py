"""What a restoration would do, from headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from ..errors import CheckpointError, OutputError
from ..figures.costs import DeviceFigures
from ..figures.model import Choice
from ..figures.planned import Plan, PlannedMemory, PlannedModel
from ..figures.side_files import describe_side_files
from ..inputs.reference import Reference
from ..options.checks import check_flag, check_output
from ..options.documented import documents_options
from ..options.table import DEFAULT_PERCENT, Options
from ..output.writer import free_bytes
from ..pairing.pairs import admitted_by
from ..pairing.ties import find_ties
from ..plan.work import RegionSurvey, survey_regions
from ..request import make_request
from ..runs.outputs import check_outputs, find_needs
from ..runs.session import Session


@documents_options(Options)
def plan(
    base: Reference,
    target: Reference,
    output: Reference | None = None,
    *,
    percent: float | Sequence[float] = DEFAULT_PERCENT,
    delete_after_upload: bool = False,
    **options: Unpack[Options],
) -> Plan:
    """Say what a restoration would do; reads headers, writes nothing.

    Parameters
    ----------
    base, target : str or path-like
        The two checkpoints: folders, or repositories on the Hub.
    output : str or path-like, optional
        Where the result would go. It is looked at, not written.
    percent : float or sequence of float
        Share of the region to restore; a sequence means a ``sweep``, and so do
        several regions or strategies.
    delete_after_upload : bool
        Whether the disk is that of ``restore_to_hub``, which holds one shard at a time.
    **options
        See ``Options``.

    Raises
    ------
    ShardRestoreError
        For anything that would stop the restoration before its first read, except
        an output that cannot be written: see ``Plan.output_problem``.
    """
    swept = isinstance(percent, Iterable)
    request = make_request(tuple(percent) if isinstance(percent, Iterable) else [percent], options)
    path = check_output(output or ".")
    one_by_one = check_flag("delete_after_upload", delete_after_upload)
    swept = swept or len(request.names) > 1
    outputs = [path / name for name in request.names] if swept else [path]
    with Session(base, target, request) as session:
        work = session.work
        problem = _find_output_problem(outputs, session, one_by_one) if output else None
        resumes = request.resume and output is not None and problem is None
        needs = find_needs(outputs, session, one_by_one=one_by_one, resumes=resumes)
        return Plan(
            base=session.base.where,
            target=session.target.where,
            base_bytes=session.base.nbytes,
            target_bytes=session.target.nbytes,
            regions=_survey(session),
            models=tuple(
                PlannedModel(
                    output=place if output else None,
                    choice=Choice(
                        region=goal.region.name,
                        strategy=goal.strategy,
                        percent=goal.percent,
                        score=request.scoring.score,
                    ),
                    region_elements=goal.region.elements,
                    selected_elements=goal.selected,
                )
                for place, goal in zip(outputs, work.goals, strict=True)
            ),
            reads=work.reads,
            read_bytes=work.read_bytes,
            written_bytes=work.weight_bytes * len(work.goals),
            download_bytes=session.downloads.nbytes,
            disk_needed_bytes=needs.nbytes,
            disk_free_bytes=_find_free_bytes(path),
            output_problem=problem,
            side_files=tuple(file.name for file in session.target.side_files.copied),
            files=describe_side_files(session.target.side_files),
            memory=PlannedMemory(
                workers=work.sizing.workers,
                block_bytes=work.sizing.block_bytes,
                projected_bytes=work.sizing.projected_bytes,
                chunk_elements=work.sizing.chunk_elements,
            ),
            device=DeviceFigures(name=work.device.label, reason=work.device.reason),
            projected_device_bytes=work.sizing.projected_device_bytes,
            max_memory_bytes=request.max_memory_bytes,
            max_device_memory_bytes=request.max_device_memory_bytes,
            remarks=session.downloads.remarks,
            notes=work.notes,
        )


def _survey(session: Session) -> tuple[RegionSurvey, ...]:
    admitted, target = session.request.filters[0], session.target
    ties = find_ties(target, admitted_by([replace(admitted, region="all")]))
    return survey_regions(session.base, target, admitted, session.request.scoring, ties)


def _find_free_bytes(path: Path) -> int:
    try:
        return free_bytes(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(f"{path}: cannot be looked at: {error}") from error


def _find_output_problem(outputs: Sequence[Path], session: Session, one_by_one: bool) -> str | None:
    try:
        check_outputs(outputs, session, one_by_one=one_by_one)
    except (OutputError, CheckpointError) as error:
        return str(error)
    return None
