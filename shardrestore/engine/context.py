"""What all passes of a run work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.folder import Checkpoint
from ..checkpoint.model import Model
from ..kernels.interface import Kernels
from ..machine.device import Device
from ..machine.progress import Observer
from ..plan.memory import Sizing


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The inputs of a run, and the means to carry it out."""

    base: Model
    target: Model
    kernels: Kernels
    """Of processors; GPUs have their own."""
    device: Device
    """Where segments are scored and cut."""
    sizing: Sizing
    """Workers, and size of their blocks."""
    seed: int
    """Seed of random keys."""
    allow_nonfinite: bool
    """Whether NaN and infinite weights are welcome."""
    observer: Observer
    """Called by several threads at once: a ``SerialObserver``."""
    folder: Path
    """Where work files are kept, on a disk: ``/tmp`` may be memory."""

    @property
    def target_files(self) -> Checkpoint:
        """The target in files, of which pass 2 copies what is not restored."""
        if not isinstance(self.target, Checkpoint):
            raise TypeError(f"{self.target.where}: in memory, where there is nothing to copy")
        return self.target
