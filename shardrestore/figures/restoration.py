"""The result of a restoration, as the Python API returns it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ..selection.histogram import ScoreStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorResult:
    """What was measured and done in one tensor of the region."""

    name: str
    tower: str
    """``language``, ``vision``, ``audio`` or ``projector``."""
    kind: str
    """``attention``, ``mlp``, ``embedding``, ``norm`` or ``other``."""
    layer: int | None
    """Index of its transformer block; None outside the blocks."""
    module: str
    """Name of its module: ``q_proj``, ``experts.down_proj``."""
    elements: int
    restored: int
    """Elements set back to the base's values."""
    mean_score: float
    """Mean relative change before the restoration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleKind:
    """Sums over the tensors of one kind."""

    kind: str
    tensors: int
    elements: int
    restored: int

    @property
    def restored_share(self) -> float:
        """Share of the elements that was restored, 0 to 1."""
        return self.restored / self.elements if self.elements else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorationReport:
    """What a restoration found and did, wherever the model is."""

    region: str
    strategy: str
    percent: float
    region_elements: int
    """Elements that were ranked."""
    selected_elements: int
    """Elements that were restored: exactly ``int(region_elements * percent / 100)``."""
    threshold: float | None
    """Score at the cut; None for random."""
    exact: bool
    """Whether the cut separates scores exactly, not only to its bin (``approximate``)."""
    tie_first: int
    """Smallest key at the cut; see ``selection.score`` for what a key is."""
    tie_span: int
    """Number of keys that count as tied there: 1 if exact in float32, a bin's otherwise."""
    ties: int
    """Elements whose key ties."""
    ties_taken: int
    """How many of them were restored, spread evenly in canonical order."""
    unchanged_share: float
    """Share of the region whose score is zero: fine-tuning left it alone."""
    zero_base_share: float
    """Share of the region whose base weight is zero; such weights rank highest if changed."""
    nonfinite: int
    """NaN and infinite weights in the region, of base and target together."""
    total_scores: ScoreStatistics
    """Scores of the region."""
    selected_scores: ScoreStatistics
    """Scores of the restored elements."""
    tensors: tuple[TensorResult, ...]
    """Tensors of the region, in canonical order."""
    read_bytes: int
    """Bytes read from base and target, all passes together."""
    written_bytes: int
    """Bytes of the model's weight files; in memory, of the elements whose bits changed."""
    download_seconds: float
    """Bringing inputs to disk; 0 where nothing was to be downloaded."""
    scan_seconds: float
    """Time of pass 1, refinement included; shared by all percents of a sweep."""
    restore_seconds: float
    """Time of pass 2; shared by all percents of a sweep."""
    seconds: float
    """Wall time from the request to the finished model."""
    device: str
    """Where weights were scored and cut: ``cpu``, or GPUs and what they are."""
    device_reason: str
    """Why there, if the choice was left to us, and whether it ran out of memory; else empty."""
    workers: int
    """Worker threads."""
    projected_bytes: int
    """Peak memory that was planned."""
    peak_rss_bytes: int
    """Peak resident memory of the process so far, measured."""

    def module_kinds(self) -> tuple[ModuleKind, ...]:
        """Return what was restored per module kind, the largest kind first."""
        kinds = dict.fromkeys(tensor.kind for tensor in self.tensors)
        sums = (
            ModuleKind(
                kind=kind,
                tensors=sum(tensor.kind == kind for tensor in self.tensors),
                elements=sum(tensor.elements for tensor in self.tensors if tensor.kind == kind),
                restored=sum(tensor.restored for tensor in self.tensors if tensor.kind == kind),
            )
            for kind in kinds
        )
        return tuple(sorted(sums, key=lambda kind: -kind.elements))


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration(RestorationReport):
    """A finished restoration of one model, in a folder."""

    output: Path
    """The model folder that was written."""

    @classmethod
    def of(cls, report: RestorationReport, output: Path) -> Restoration:
        """Return a report, and with it the folder that it is about."""
        values = {field.name: getattr(report, field.name) for field in fields(RestorationReport)}
        return cls(output=output, **values)
