"""What the workers of a run know of it, wherever they work."""

from __future__ import annotations

from dataclasses import dataclass

from ..checkpoint.folder import Checkpoint
from ..checkpoint.model import Model
from ..granularity import Granularity
from ..inputs.opened import Inputs
from ..kernels.interface import Kernels
from ..machine.compiler import compile_kernels
from ..machine.device import Device
from ..plan.memory import Sizing
from ..scores import SCORES
from ..scores.score import Score
from ..scoring import Scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run's work, as far as all its passes have it in common; it can be pickled."""

    inputs: Inputs
    """Base and target; another process opens them again."""
    device: Device
    """Where segments are scored and cut."""
    sizing: Sizing
    """Workers, and size of their blocks."""
    granularity: Granularity
    """Sizes of the pieces of work."""
    scoring: Scoring
    """How weights are scored."""
    seed: int
    """Seed of random keys."""
    allow_nonfinite: bool
    """Whether NaN and infinite weights are welcome."""
    kernel_set: str
    """Kernels of processors, see ``load_kernels``; GPUs have their own."""

    def __post_init__(self) -> None:
        # Here, with one thread and no buffers yet: a compiler's libraries take memory.
        compile_kernels(self.kernel_set, self.score)

    @property
    def score(self) -> Score:
        """The score that weights are ranked by."""
        return SCORES[self.scoring.score]

    @property
    def base(self) -> Model:
        """The base, open in this process."""
        return self.inputs.base

    @property
    def target(self) -> Model:
        """The target, open in this process."""
        return self.inputs.target

    @property
    def target_files(self) -> Checkpoint:
        """The target in files, of which pass 2 copies what is not restored."""
        if not isinstance(self.target, Checkpoint):
            raise TypeError(f"{self.target.where}: in memory, where there is nothing to copy")
        return self.target

    @property
    def kernels(self) -> Kernels:
        """The kernels of processors, loaded."""
        return compile_kernels(self.kernel_set, self.score)
