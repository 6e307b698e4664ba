"""The queues of one worker on a GPU, and the buffers that blocks pass through.

CUDA has streams: copies in, kernels and copies out go on at once, and events say what waits
for what. Other devices have none that matter here: there, everything is done when it is asked
for, and waiting is nothing.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from ..plan.memory import GPU_SLOTS
from .workspace import Buffers, as_bytes


class Slot:
    """One set of buffers, in host memory and on the device: base, target, and each output.

    Parameters
    ----------
    device : torch.device
    block_bytes : int
        Size of each buffer.
    """

    def __init__(self, device: torch.device, block_bytes: int) -> None:
        self._device = device
        self._block_bytes = block_bytes
        self._inputs = [self._make_pair() for _ in range(2)]
        self._outputs: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.loaded, self.computed, self.returned = (_Event(device) for _ in range(3))

    def _make_pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        host = _allocate_host(self._block_bytes, pinned=self._device.type == "cuda")
        return host, torch.empty(self._block_bytes, dtype=torch.uint8, device=self._device)

    @property
    def host(self) -> Buffers:
        """Host buffers of base and target."""
        (base, _), (target, _) = self._inputs
        return base.numpy(), target.numpy()

    def copy_in(self, side: int, nbytes: int) -> torch.Tensor:
        """Copy bytes of the base (0) or the target (1) to the device; return them there."""
        host, there = self._inputs[side]
        there[:nbytes].copy_(host[:nbytes], non_blocking=host.is_pinned())
        return there[:nbytes]

    def outputs(self, count: int, nbytes: int) -> list[torch.Tensor]:
        """Return the device's buffers of some outputs."""
        while len(self._outputs) < count:
            self._outputs.append(self._make_pair())
        return [there[:nbytes] for _, there in self._outputs[:count]]

    def copy_out(self, count: int, nbytes: int) -> None:
        """Copy some outputs from the device."""
        for host, there in self._outputs[:count]:
            host[:nbytes].copy_(there[:nbytes], non_blocking=host.is_pinned())

    def results(self, count: int, nbytes: int) -> list[memoryview]:
        """Return some outputs, which have been copied."""
        return [as_bytes(host.numpy())[:nbytes] for host, _ in self._outputs[:count]]


def _allocate_host(nbytes: int, *, pinned: bool) -> torch.Tensor:
    """Return host memory; page-locked, so that a GPU copies it by itself, if the system allows."""
    if pinned:
        try:
            return torch.empty(nbytes, dtype=torch.uint8, device="cpu", pin_memory=True)
        except RuntimeError:  # a limit on locked memory: copies then wait for the processor
            pass
    return torch.empty(nbytes, dtype=torch.uint8, device="cpu")


class _Event:
    """A point in a queue that others wait for; reached at once where there are no queues."""

    def __init__(self, device: torch.device) -> None:
        # Blocking: a thread that waits sleeps, and leaves its core to the readers.
        self._event = torch.cuda.Event(blocking=True) if device.type == "cuda" else None

    def record(self) -> None:
        """Set it at the end of the current queue."""
        if self._event is not None:
            self._event.record()

    def hold_back(self) -> None:
        """Let the current queue go on from here only after it."""
        if self._event is not None:
            self._event.wait()

    def wait(self) -> None:
        """Wait for it."""
        if self._event is not None:
            self._event.synchronize()


class Queues:
    """Copies in, kernels and copies out of one worker.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            # The calling thread's: torch would go back to the first device now and then, which
            # may be nobody's, and take memory there.
            torch.cuda.set_device(device)
        streams = self._in, self._kernels, self._out = _take_streams(device)
        weakref.finalize(self, _give_back, device, streams)

    def make_slots(self, block_bytes: int) -> Sequence[Slot]:
        """Return sets of buffers for these queues."""
        slots = [Slot(self.device, block_bytes) for _ in range(GPU_SLOTS)]
        self.wait()
        return slots

    def computing(self) -> AbstractContextManager[object]:
        """Make the queue of kernels the current one."""
        return _as_current(self._kernels)

    @contextmanager
    def loading(self, slot: Slot) -> Iterator[None]:
        """Make the queue of copies in the current one; kernels wait for what is queued then.

        The slot's host buffers are free to be filled, its device buffers once it is their turn.
        """
        slot.loaded.wait()
        with _as_current(self._in):
            slot.computed.hold_back()
            yield
            slot.loaded.record()
        slot.loaded.hold_back()

    def send_back(self, slot: Slot, count: int, nbytes: int) -> None:
        """Queue copies of a slot's outputs to the host, after the kernels queued so far."""
        slot.computed.record()
        with _as_current(self._out):
            slot.computed.hold_back()
            slot.copy_out(count, nbytes)
            slot.returned.record()

    def wait(self) -> None:
        """Wait until the device has done whatever was asked of it, by anybody."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def release_memory(self) -> None:
        """Give back what torch keeps of the device's memory without using it."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


_Streams = tuple["torch.cuda.Stream | None", ...]

_idle: defaultdict[torch.device, list[_Streams]] = defaultdict(list)
_idle_lock = threading.Lock()


def _take_streams(device: torch.device) -> _Streams:
    """Return three streams, of an engine that is gone if there is one.

    torch keeps freed memory for the stream it was used on: new streams for each pass would
    find none of it, and take as much again.
    """
    if device.type != "cuda":
        return (None, None, None)
    with _idle_lock:
        if _idle[device]:
            return _idle[device].pop()
    return tuple(torch.cuda.Stream(device) for _ in range(3))


def _give_back(device: torch.device, streams: _Streams) -> None:
    if device.type == "cuda":
        with _idle_lock:
            _idle[device].append(streams)


def _as_current(stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    return nullcontext() if stream is None else torch.cuda.stream(stream)
