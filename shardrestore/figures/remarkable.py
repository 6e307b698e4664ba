"""What a change of weights has that must not be missed: figures that fine-tuning does not make."""

from __future__ import annotations

from collections.abc import Iterator

from ..notes import Note
from ..scores import SCORES
from .model import ChangeFigures, Choice, CutFigures, ScoreFigures

LARGEST_MEDIAN = 0.5
"""Median relative change beyond what fine-tuning makes.

Fine-tuned pairs have medians from 0 to some percent. Weights of another training have about
1.4, the median of |C - 1| for a quotient C of two normal numbers; differences of weights, 1.
"""


def note_changes(
    choice: Choice, cut: CutFigures, changes: ChangeFigures, scores: ScoreFigures
) -> Iterator[Note]:
    """Yield what is odd in the changes of a region, or in what was chosen of them."""
    region, count = choice.region, cut.region_elements
    if SCORES[choice.score].is_share and scores.total.median > LARGEST_MEDIAN:
        yield Note(
            kind="change",
            text=f"The median change of region {region} is {scores.total.median:.0%} of the base "
            f"weight; fine-tuning stays far below {LARGEST_MEDIAN:.0%}. Is this the base that the "
            "target was trained from? A target that holds differences of weights (a delta) must "
            "be added to its base first.",
        )
    if changes.unchanged_share == 1:
        yield Note(
            kind="identical",
            text=f"All {count:,} weights of region {region} are the same in base and target: "
            "nothing was changed, so nothing was restored. Is this the fine-tuned model?",
        )
    elif scores.selected.max == 0:
        yield Note(
            kind="unchanged",
            text=f"None of the {cut.selected_elements:,} weights that were chosen differs between "
            f"base and target: the output is the target. {changes.unchanged_share:.2%} of region "
            f"{region} are unchanged.",
        )
    elif choice.strategy == "top" and choice.percent < 100 and scores.selected.min == 0:
        changed = round(count * (1 - changes.unchanged_share))
        yield Note(
            kind="unchanged",
            text=f"Only {changed:,} weights of region {region} differ between base and target: all "
            f"of them are restored, and the rest of the {cut.selected_elements:,} that were chosen "
            "change nothing. A larger percentage gives the same weights.",
        )
