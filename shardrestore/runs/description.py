"""What a restoration is reported to have done, from what the passes found."""

from __future__ import annotations

from ..figures.costs import Costs, DeviceFigures, Times
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
from ..figures.remarkable import note_changes
from ..machine.device import Device
from ..machine.meter import peak_resident_bytes
from ..machine.stopwatch import Stopwatch
from ..passes.cut import PlacedCut
from ..passes.gather import Gathered
from ..passes.restore import Restored
from ..plan.goal import Goal
from ..scoring import Scoring
from ..selection.cut import selected_histogram
from ..selection.histogram import describe_scores
from .session import ModelSession


def describe(
    goal: Goal, placed: PlacedCut, gathered: Gathered, done: Restored, scoring: Scoring
) -> ModelFigures:
    """Return the figures of one goal.

    Parameters
    ----------
    goal : Goal
    placed : PlacedCut
        Its cut.
    gathered : Gathered
        What pass 1 found.
    done : Restored
        What pass 2 did.
    scoring : Scoring
        How weights were scored.
    """
    region, cut = goal.region, placed.cut
    found = gathered.regions[region.name]
    # Counted for random cuts; the others' follow from the region's.
    chosen = done.scores or selected_histogram(found.scores, cut)
    choice = Choice(
        region=region.name, strategy=goal.strategy, percent=goal.percent, score=scoring.score
    )
    figures = CutFigures(
        region_elements=region.elements,
        selected_elements=cut.selected,
        threshold=cut.threshold,
        exact=goal.exact,
    )
    changes = ChangeFigures(
        unchanged_share=found.scores.unchanged() / region.elements,
        zero_base_share=found.zero_base / region.elements,
        nonfinite=found.nonfinite,
    )
    scores = ScoreFigures(total=describe_scores(found.scores), selected=describe_scores(chosen))
    return ModelFigures(
        choice=choice,
        cut=figures,
        tie_keys=KeyRange(first=cut.tie_first, count=cut.tie_span),
        ties=TieFigures(count=cut.ties, taken=cut.ties_taken),
        changes=changes,
        scores=scores,
        tensors=_describe_tensors(goal, gathered, done),
        notes=(*region.notes, *note_changes(choice, figures, changes, scores)),
        is_rounded=scoring.cast is None and any(pair.is_mixed for pair in region.pairs),
    )


def describe_costs(session: ModelSession, watch: Stopwatch, *, read_bytes: int) -> Costs:
    """Return what a session has taken until now, except the time of uploads.

    Parameters
    ----------
    session : ModelSession
    watch : Stopwatch
    read_bytes : int
        Bytes that were read from base and target.
    """
    work = session.work
    return Costs(
        read_bytes=read_bytes,
        written_bytes=work.weight_bytes,
        times=describe_times(watch),
        seconds=watch.elapsed - watch.seconds("upload"),
        workers=work.sizing.workers,
        projected_bytes=work.sizing.projected_bytes,
        device=describe_device(work.device),
        peak_rss_bytes=peak_resident_bytes(),
    )


def describe_times(watch: Stopwatch) -> Times:
    """Return what each part of a restoration has taken until now."""
    return Times(
        download_seconds=watch.seconds("download"),
        scan_seconds=watch.seconds("scan"),
        restore_seconds=watch.seconds("restore"),
    )


def describe_device(device: Device) -> DeviceFigures:
    """Return where weights were scored and cut."""
    return DeviceFigures(name=device.label, reason=device.explanation)


def _describe_tensors(goal: Goal, gathered: Gathered, done: Restored) -> tuple[TensorResult, ...]:
    return tuple(
        TensorResult(
            name=pair.name,
            tower=pair.place.tower,
            kind=pair.place.kind,
            layer=pair.place.layer,
            module=pair.place.module,
            elements=pair.target.elements,
            restored=done.selected.get(pair.name, 0),
            mean_score=gathered.tensor_means.get(pair.name, 0.0),
        )
        for pair in goal.region.pairs
    )
