"""Figures of models that are finished already, from their own reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..checkpoint.allowance import Allowance
from ..errors import CheckpointError
from ..figures.folder_overview import read_reports
from ..figures.model import (
    ChangeFigures,
    Choice,
    KeyRange,
    ModelFigures,
    TensorResult,
    TieFigures,
)
from ..figures.score_report import read_scores
from ..names import CHECKSUM_FILE, RECORD_FILE, STAGING_FOLDER
from ..output.card import output_name
from ..output.staging import Staging
from ..output.uploaded import read_uploaded
from ..plan.goal import Goal
from ..request import allow_documents
from .session import Session
from .sink import ShardSink
from .workspace import take_up


def find_finished(
    session: Session, outputs: Sequence[Path], sink: ShardSink
) -> tuple[ModelFigures, ...] | None:
    """Return the figures of a session that an earlier run has finished; None otherwise.

    What such a run has left beside its models, because it ended right after its last
    rename, is removed.
    """
    figures = read_finished(session, outputs)
    return figures if figures is not None and _clean_up(session, outputs, sink) else None


def _clean_up(session: Session, outputs: Sequence[Path], sink: ShardSink) -> bool:
    """Remove hidden folders; return false, and keep them, if a run is still to be finished."""
    with ExitStack() as stack:
        stagings = [
            stack.enter_context(Staging(output, overwrite=True, resume=True))
            for output in outputs
            if os.path.lexists(output / STAGING_FOLDER)
        ]
        if stagings:
            workspace = take_up(session, stagings, sink.identity)
            complete = workspace.is_published and sink.is_committed(workspace)
            if workspace.journal.begun and not complete:
                return False
        for staging in reversed(stagings):
            staging.finish()
        return True


def read_finished(session: Session, outputs: Sequence[Path]) -> tuple[ModelFigures, ...] | None:
    """Return the figures of a session whose outputs are all finished; None if one is not."""
    try:
        return read_figures(session, outputs)
    except CheckpointError:
        return None


def read_figures(session: Session, outputs: Sequence[Path]) -> tuple[ModelFigures, ...]:
    """Return the figures of a session's goals from the reports in their outputs.

    Raises
    ------
    CheckpointError
        If an output is not what the session would write, or not finished.
    """
    goals = session.work.goals
    return tuple(_read(session, goal, output) for goal, output in zip(goals, outputs, strict=True))


def _read(session: Session, goal: Goal, output: Path) -> ModelFigures:
    request = session.request
    allowance = allow_documents(request.limits.max_memory_bytes)
    reports = read_reports(output, allowance)
    asked = {
        "base": session.base.identity(),
        "target": session.target.identity(),
        "options": request.record(goal.region.name, goal.strategy, goal.percent),
    }
    if {key: reports.values.get(key) for key in asked} != asked:
        raise CheckpointError(f"{output}: holds another restoration")
    _check_age(session, output)
    _check_complete(session, output, allowance)
    scores = read_scores(output, allowance)
    record, overview = reports.record, reports.overview
    return ModelFigures(
        choice=Choice(
            region=goal.region.name,
            strategy=goal.strategy,
            percent=goal.percent,
            score=request.scoring.score,
        ),
        cut=overview.cuts[0].figures,
        tie_keys=KeyRange(first=record.tie_first_key, count=record.tie_keys),
        ties=TieFigures(count=record.ties, taken=record.ties_taken),
        changes=ChangeFigures(
            unchanged_share=overview.unchanged_share,
            zero_base_share=overview.zero_base_share,
            nonfinite=overview.nonfinite,
        ),
        scores=scores,
        tensors=tuple(
            TensorResult(
                name=tensor.name,
                tower=tensor.tower,
                kind=tensor.kind,
                layer=tensor.layer,
                module=tensor.module,
                elements=tensor.elements,
                restored=tensor.restored[0] or 0,
                mean_score=tensor.mean_score,
            )
            for tensor in overview.tensors
        ),
        notes=overview.notes,
        is_rounded=record.is_rounded,
    )


def _check_age(session: Session, output: Path) -> None:
    """Refuse a model that is older than its inputs: they were trained again since."""
    finished_ns = os.stat(output / RECORD_FILE).st_mtime_ns
    for checkpoint in (session.base, session.target):
        for shard in checkpoint.shards:
            if shard.source.identity().get("mtime_ns", 0) > finished_ns:
                raise CheckpointError(f"{output}: older than {shard.source.where}")


def _check_complete(session: Session, output: Path, allowance: Allowance) -> None:
    """Refuse a folder that lacks one of the shards; what is in them is for ``verify``."""
    uploaded = read_uploaded(output, allowance)
    for shard in session.work.shards:
        path = output / shard.filename
        if uploaded and uploaded.nbytes.get(shard.filename) == shard.nbytes:
            continue  # on the Hub, and perhaps deleted here
        if not path.is_file() or path.stat().st_size != shard.nbytes:
            raise CheckpointError(f"{path}: missing, or not of {shard.nbytes:,} bytes")
    for name in _list_copies(session):
        if not os.path.lexists(output / name):
            raise CheckpointError(f"{output / name}: missing, the target has it")
    names = [] if session.target.index is None else [session.target.index]
    names += [CHECKSUM_FILE] if session.request.checksum else []
    for name in names:
        if not (output / name).is_file():
            raise CheckpointError(f"{output / name}: missing")


def _list_copies(session: Session) -> list[str]:
    """Return the names that the target's other files have in an output."""
    return [output_name(file.name) for file in session.target.side_files.copied]
