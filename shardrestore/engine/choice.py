"""Which engine a worker has."""

from __future__ import annotations

from ..machine.workers import StopSignal
from .context import Context
from .cpu import CpuEngine
from .interface import Engine


def open_engine(context: Context, stop: StopSignal) -> Engine:
    """Open an engine for one worker; called in the worker's thread.

    What imports torch is imported where a GPU is meant.
    """
    if context.device.in_place:
        from .in_memory import ResidentEngine

        return ResidentEngine(context, stop)
    name = context.device.take_turn()
    if name is not None:
        from .fallback import FallbackEngine

        return FallbackEngine(context, stop, name)
    return CpuEngine(context, stop)
