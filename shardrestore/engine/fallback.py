"""A GPU that runs out of memory: smaller chunks, and at last a processor, segment by segment.

A segment is the unit: nothing of it is kept before it is whole, its blocks are written where
they belong however often, and its progress is reported once. So it is repeated from its beginning,
with no bookkeeping within it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from ..errors import DeviceError
from ..machine.device import is_out_of_memory
from ..machine.executor import Control
from ..plan.segment import Segment
from .cpu import CpuEngine
from .delegating import ForwardingEngine, Result
from .gpu import GpuEngine
from .interface import Advance, Engine
from .job import Job
from .workspace import Workspace


class FallbackEngine(ForwardingEngine):
    """An engine on a GPU, and on a processor where the GPU has no room.

    Parameters
    ----------
    job : Job
    control : Control
    name : str
        The device, as torch names it.
    """

    def __init__(self, job: Job, control: Control, name: str) -> None:
        self._job = job
        self._control = control
        self._name = name
        self._processor: CpuEngine | None = None
        self._gpu: GpuEngine | None = None
        try:
            self._gpu = GpuEngine(job, control, name)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise self._explain(error) from error
            self._give_up()

    @property
    def space(self) -> Workspace:
        """Buffers for whatever is read and not scored."""
        engine = self._gpu or self._processor
        assert engine is not None
        return engine.space

    def _carry_out(
        self,
        segment: Segment,
        task: Callable[[Engine, Advance], Result],
        advance: Advance,
        restart: Callable[[], None],
    ) -> Result:
        """Do a segment from its beginning, as often as the GPU runs out of memory."""
        progress = _Progress(advance)
        while self._gpu is not None:
            try:
                with self._gpu.at_work():
                    return task(self._gpu, progress.restart())
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise self._explain(error) from error
            # Not before the exception is gone, which keeps what the GPU held for the segment.
            self._take_less()
            self._begin_anew(restart)
        assert self._processor is not None
        return task(self._processor, progress.restart())

    def _take_less(self) -> None:
        assert self._gpu is not None
        if self._gpu.shrink():
            self._note("going on with smaller chunks")
            return
        space = self._gpu.space
        self._gpu = None
        self._give_up(space)

    def _begin_anew(self, restart: Callable[[], None]) -> None:
        # On a GPU in the queue of kernels, which then read what was put back.
        with nullcontext() if self._gpu is None else self._gpu.at_work():
            restart()

    def _give_up(self, space: Workspace | None = None) -> None:
        """Go on with a processor, in the buffers that there are."""
        self._processor = CpuEngine(self._job, self._control, space)
        self._note("going on with processors")

    def _explain(self, error: RuntimeError) -> DeviceError:
        reason = str(error).partition("\n")[0]
        in_place = self._job.device.in_place
        advice = "move the model to the processor" if in_place else "continue with --device cpu"
        return DeviceError(f"{self._name} failed: {reason}: {advice}")

    def _note(self, remedy: str) -> None:
        self._control.note(f"{self._name} is out of memory: {remedy}")


class _Progress:
    """Passes progress on, except what an earlier attempt has reported already."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._told = 0
        self._done = 0

    def restart(self) -> Advance:
        """Begin another attempt."""
        self._done = 0
        return self._tell

    def _tell(self, elements: int) -> None:
        self._done += elements
        if self._done > self._told:
            self._advance(self._done - self._told)
            self._told = self._done
