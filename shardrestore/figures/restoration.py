"""The result of a restoration, as the Python API returns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..documents import INLINE
from ..notes import Note
from .costs import Costs
from .model import ModelFigures, TensorResult
from .side_files import SideFileFigures


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RestorationReport:
    """What a restoration found and did, wherever the model is.

    The figures that most readers want are attributes of the report itself, too.
    """

    outputs: tuple[Path, ...]
    """The model folder that was written; none of a module in memory."""
    figures: ModelFigures = field(metadata=INLINE)
    """What was found and done."""
    costs: Costs = field(metadata=INLINE)
    """What it took."""

    @property
    def region(self) -> str:
        """Name of the region."""
        return self.figures.choice.region

    @property
    def strategy(self) -> str:
        """``top``, ``bottom`` or ``random``."""
        return self.figures.choice.strategy

    @property
    def percent(self) -> float:
        """Share of the region that was asked for, above 0, at most 100."""
        return self.figures.choice.percent

    @property
    def region_elements(self) -> int:
        """Elements that were ranked."""
        return self.figures.cut.region_elements

    @property
    def selected_elements(self) -> int:
        """Elements that were restored: exactly ``int(region_elements * percent / 100)``."""
        return self.figures.cut.selected_elements

    @property
    def threshold(self) -> float | None:
        """Score at the cut; None for random."""
        return self.figures.cut.threshold

    @property
    def unchanged_share(self) -> float:
        """Share of the region whose score is zero: fine-tuning left it alone."""
        return self.figures.changes.unchanged_share

    @property
    def zero_base_share(self) -> float:
        """Share of the region whose base weight is zero; such weights rank highest if changed."""
        return self.figures.changes.zero_base_share

    @property
    def tensors(self) -> tuple[TensorResult, ...]:
        """Tensors of the region, in canonical order."""
        return self.figures.tensors

    @property
    def notes(self) -> tuple[Note, ...]:
        """What must not be missed."""
        return self.figures.notes

    @property
    def seconds(self) -> float:
        """Wall time from the request to the finished model."""
        return self.costs.seconds

    @property
    def projected_bytes(self) -> int:
        """Peak memory that was planned."""
        return self.costs.projected_bytes

    @property
    def peak_rss_bytes(self) -> int:
        """Peak resident memory of the process so far, measured."""
        return self.costs.peak_rss_bytes

    def __repr__(self) -> str:
        at = "" if self.threshold is None else f", threshold {self.threshold:.6g}"
        place = f" in {self.outputs[0]}" if self.outputs else ""
        return (
            f"<{type(self).__name__}{place}: {self.strategy} {self.percent:g} % of {self.region}, "
            f"{self.selected_elements:,} of {self.region_elements:,} elements of "
            f"{len(self.tensors):,} tensors{at}, {self.seconds:.2f} s>"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Restoration(RestorationReport):
    """A finished restoration of one model, in a folder."""

    files: SideFileFigures
    """What became of the target's files besides its shards."""

    @property
    def output(self) -> Path:
        """The model folder that was written."""
        return self.outputs[0]
