"""Figures of models that are finished already, from their own reports."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..checkpoint.document import read_document
from ..errors import CheckpointError
from ..figures.folder_overview import overview_of_folder
from ..figures.model import (
    ChangeFigures,
    Choice,
    CutFigures,
    KeyRange,
    ModelFigures,
    ScoreFigures,
    TensorResult,
    TieFigures,
)
from ..names import CHECKSUM_FILE, RECORD_FILE, STAGING_FOLDER, STATISTICS_FILE
from ..output.staging import Staging
from ..output.uploaded import read_uploaded
from ..plan.goal import Goal
from ..selection.histogram import ScoreStatistics
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
            complete = workspace.moves is not None and sink.is_committed(workspace)
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
    overview = overview_of_folder(output)
    record = json.loads(read_document(output / RECORD_FILE))
    request = session.request
    asked = {
        "base": session.base.identity(),
        "target": session.target.identity(),
        "options": request.record(goal.region.name, goal.strategy, goal.percent),
    }
    if {key: record.get(key) for key in asked} != asked:
        raise CheckpointError(f"{output}: holds another restoration")
    _check_age(session, output)
    _check_complete(session, output)
    cut = record["cut"]
    statistics = json.loads(read_document(output / STATISTICS_FILE))
    return ModelFigures(
        choice=Choice(
            region=goal.region.name,
            strategy=goal.strategy,
            percent=goal.percent,
            score=request.scoring.score,
        ),
        cut=CutFigures(
            region_elements=cut["region_elements"],
            selected_elements=cut["selected_elements"],
            threshold=cut["threshold"],
            exact=cut["exact"],
        ),
        tie_keys=KeyRange(first=cut["tie_first_key"], count=cut["tie_keys"]),
        ties=TieFigures(count=cut["ties"], taken=cut["ties_taken"]),
        changes=ChangeFigures(
            unchanged_share=cut["unchanged_share"],
            zero_base_share=cut["zero_base_share"],
            nonfinite=cut["nonfinite_weights"],
        ),
        scores=ScoreFigures(
            total=_statistics(statistics["total_rel_diffs"]),
            selected=_statistics(statistics["selected_rel_diffs"]),
        ),
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
    )


def _check_age(session: Session, output: Path) -> None:
    """Refuse a model that is older than its inputs: they were trained again since."""
    finished_ns = os.stat(output / RECORD_FILE).st_mtime_ns
    for checkpoint in (session.base, session.target):
        for shard in checkpoint.shards:
            if shard.source.identity().get("mtime_ns", 0) > finished_ns:
                raise CheckpointError(f"{output}: older than {shard.source.where}")


def _check_complete(session: Session, output: Path) -> None:
    """Refuse a folder that lacks one of the shards; what is in them is for ``verify``."""
    uploaded = read_uploaded(output)
    for shard in session.work.shards:
        path = output / shard.filename
        if uploaded and uploaded.nbytes.get(shard.filename) == shard.nbytes:
            continue  # on the Hub, and perhaps deleted here
        if not path.is_file() or path.stat().st_size != shard.nbytes:
            raise CheckpointError(f"{path}: missing, or not of {shard.nbytes:,} bytes")
    names = [] if session.target.index is None else [session.target.index]
    names += [CHECKSUM_FILE] if session.request.checksum else []
    for name in names:
        if not (output / name).is_file():
            raise CheckpointError(f"{output / name}: missing")


def _statistics(values: dict[str, float | None]) -> ScoreStatistics:
    """Return statistics; what JSON could not hold was no finite number."""
    return ScoreStatistics(**{key: float("nan") if v is None else v for key, v in values.items()})
