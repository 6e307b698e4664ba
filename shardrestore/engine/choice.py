"""Which engine a worker has."""

from __future__ import annotations

from ..machine.executor import Control
from .cpu import CpuEngine
from .interface import Engine
from .job import Job


def open_engine(job: Job, control: Control) -> Engine:
    """Open an engine for one worker; called where that works.

    What imports torch is imported where a GPU is meant.
    """
    if job.device.in_place:
        from .in_memory import ResidentEngine

        return ResidentEngine(job, control)
    name = job.device.name_for(control.number)
    if name is not None:
        from .fallback import FallbackEngine

        return FallbackEngine(job, control, name)
    return CpuEngine(job, control)
