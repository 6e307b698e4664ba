"""What a restoration is reported to have done, from what the passes found."""

from __future__ import annotations

from ..figures.restoration import RestorationReport, TensorResult
from ..passes.cut import PlacedCut
from ..passes.gather import Gathered
from ..passes.restore import Restored
from ..plan.goal import Goal
from ..plan.work import Work
from ..selection.cut import selected_histogram
from ..selection.histogram import describe_scores


def describe(
    goal: Goal, placed: PlacedCut, gathered: Gathered, done: Restored, work: Work
) -> RestorationReport:
    """Return the report of one goal; times and peak memory are still to be added.

    Parameters
    ----------
    goal : Goal
    placed : PlacedCut
        Its cut.
    gathered : Gathered
        What pass 1 found.
    done : Restored
        What pass 2 did.
    work : Work
        Of which the goal is one.
    """
    region, cut = goal.region, placed.cut
    found = gathered.regions[region.name]
    # Counted for random cuts; the others' follow from the region's.
    chosen = done.scores or selected_histogram(found.scores, cut)
    return RestorationReport(
        region=region.name,
        strategy=goal.strategy,
        percent=goal.percent,
        region_elements=region.elements,
        selected_elements=cut.selected,
        threshold=cut.threshold,
        exact=goal.exact,
        tie_first=cut.tie_first,
        tie_span=cut.tie_span,
        ties=cut.ties,
        ties_taken=cut.ties_taken,
        unchanged_share=found.scores.unchanged() / region.elements,
        zero_base_share=found.zero_base / region.elements,
        nonfinite=found.nonfinite,
        total_scores=describe_scores(found.scores),
        selected_scores=describe_scores(chosen),
        tensors=_describe_tensors(goal, gathered, done),
        read_bytes=work.read_bytes,
        written_bytes=work.weight_bytes,
        download_seconds=0.0,
        scan_seconds=0.0,
        restore_seconds=0.0,
        seconds=0.0,
        device=work.device.label,
        device_reason=work.device.story,
        workers=work.sizing.workers,
        projected_bytes=work.sizing.projected_bytes,
        peak_rss_bytes=0,
    )


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
