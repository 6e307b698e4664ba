"""Making a plan: what a request would do, from headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from ..errors import CheckpointError, OutputError
from ..figures.costs import DeviceFigures
from ..figures.model import Choice
from ..figures.planned import Plan, PlannedMemory, PlannedModel
from ..figures.side_files import describe_side_files
from ..inputs.reference import Reference
from ..output.writer import free_bytes
from ..pairing.filter import admitted_by
from ..pairing.region_survey import RegionSurvey, survey_regions
from ..pairing.ties import find_ties, suppose_ties
from ..request import Request
from .outputs import check_outputs, find_needs
from .session import Session


def make_plan(
    base: Reference,
    target: Reference,
    output: Path | None,
    request: Request,
    *,
    swept: bool,
    one_by_one: bool,
) -> Plan:
    """Say what a request would do; reads headers, writes nothing.

    Parameters
    ----------
    base, target : str or path-like
    output : Path or None
        Where the result would go; it is looked at, not written.
    request : Request
    swept : bool
        Whether each model has a folder of its own within `output`.
    one_by_one : bool
        Whether each shard leaves the disk before the next is begun.

    Raises
    ------
    ShardRestoreError
        For anything that would stop the run before its first read, except an output
        that cannot be written: see ``Plan.output_problem``.
    """
    folder = output or Path()
    outputs = [folder / name for name in request.names] if swept else [folder]
    with Session(base, target, request) as session:
        work = session.work
        problem = None
        if output is not None:
            problem = _find_output_problem(outputs, session, one_by_one)
        resumes = request.resume and output is not None and problem is None
        needs = find_needs(outputs, session, one_by_one=one_by_one, resumes=resumes)
        return Plan(
            base=session.base.where,
            target=session.target.where,
            base_bytes=session.base.nbytes,
            target_bytes=session.target.nbytes,
            regions=_survey(session),
            models=_list_models(session, outputs if output is not None else ()),
            reads=work.reads,
            read_bytes=work.read_bytes,
            written_bytes=work.weight_bytes * len(work.goals),
            download_bytes=session.downloads.nbytes,
            disk_needed_bytes=needs.nbytes,
            disk_free_bytes=_find_free_bytes(folder),
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


def _list_models(session: Session, outputs: Sequence[Path]) -> tuple[PlannedModel, ...]:
    """Return what would be written, and where if that is known."""
    return tuple(
        PlannedModel(
            output=place,
            choice=Choice(
                region=goal.region.name,
                strategy=goal.strategy,
                percent=goal.percent,
                score=session.request.scoring.score,
            ),
            region_elements=goal.region.elements,
            selected_elements=goal.selected,
        )
        for place, goal in zip_longest(outputs, session.work.goals)
    )


def _survey(session: Session) -> tuple[RegionSurvey, ...]:
    admitted, target = session.request.filters[0], session.target
    # Of what is on the Hub, plans read headers alone; what the request needs is known already.
    wanted = admitted_by([replace(admitted, region="all")])
    ties = find_ties(target, wanted) if target.on_disk else suppose_ties(target)
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
