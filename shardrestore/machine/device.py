"""Where a run computes: on processors, or on one or several GPUs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from ..errors import DeviceError
from ..scores import SCORES
from ..units import MIB, format_mib
from .meter import measure_excess
from .progress import Observer

AUTO_MEMORY_BYTES = 2048 * MIB
"""Least ``--max-memory`` with which a GPU is looked for unasked, beside what a process that is
larger than the command line holds.

To import torch takes about 0.2 GiB of host memory before a GPU's libraries are loaded; what
those take could not be measured when this was written, 2 GiB leaves ample room.
"""

RESIDENT_WORKERS = 2
"""Workers on GPUs where a model is in memory: one fetches counts while another's are made."""

TORCH_PREFIX = "torch:"
"""``torch:cpu`` computes as on a GPU, but on processors: for tests, and for the curious."""

_NUMBERED = {"mps": "mps:0"}
"""As the devices of tensors are written."""

_NO_TORCH = "torch is not installed: pip install 'shardrestore[gpu]'"

_DRIVER_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Of NVIDIA's driver, of AMD's, and of either in the Windows Subsystem for Linux."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a run computes."""

    names: tuple[str, ...] = ()
    """GPUs as torch names them; none for processors."""
    unified: bool = False
    """Whether their memory is the host's."""
    in_place: bool = False
    """Whether a model in memory is worked on where it is: results stay there."""
    label: str = "cpu"
    """What people call it."""
    reason: str = ""
    """Why it was chosen, if it was not asked for."""
    _noted: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def explanation(self) -> str:
        """Why it was chosen, and what came of it; empty if it was asked for and served."""
        return "; ".join(filter(None, [self.reason, *sorted(self._noted)]))

    @property
    def most_workers(self) -> int | None:
        """How many threads may work at once; None for as many as are asked for."""
        if any(name.startswith("mps") for name in self.names):
            return 1  # torch on Apple's GPUs aborts the process otherwise (pytorch#197805)
        return RESIDENT_WORKERS if self.in_place and self.names else None

    @property
    def shares(self) -> int:
        """Among how many GPUs the workers are shared: where a model is, each works on all."""
        return min(len(self.names), 1) if self.in_place else len(self.names)

    def name_for(self, worker: int) -> str | None:
        """Return the GPU that a worker uses, by its number; None for processors."""
        return self.names[worker % len(self.names)] if self.names else None

    def note(self, observer: Observer, remark: str) -> None:
        """Tell an observer something once, however many workers find it out."""
        if remark not in self._noted:
            self._noted.add(remark)
            observer.note(remark)


def find_device(asked: Sequence[str], max_memory_bytes: int, score: str) -> Device:
    """Find what was asked for, and make sure that it computes as the reference does.

    Parameters
    ----------
    asked : sequence of str
        ``auto``, ``cpu``, or names of GPUs: see ``check_device``.
    max_memory_bytes : int
        The budget of host memory: GPUs take much of it for their libraries.
    score : str
        What is computed there; a key of ``SCORES``.

    Raises
    ------
    DeviceError
        If a GPU is asked for that is not there, or not exact, or torch is missing.
    """
    if list(asked) == ["cpu"]:
        return Device()
    if list(asked) == ["auto"]:
        return _choose(max_memory_bytes, score)
    try:
        return _open(asked, score)
    except _Full as error:
        return Device(reason=str(error))
    except _Unusable as error:
        raise DeviceError(f"{error}, or use --device cpu") from error


def find_resident_device(names: Sequence[str], score: str) -> Device:
    """Return the devices on which a model in memory is worked on, of those on which it is.

    Parameters
    ----------
    names : sequence of str
        As torch names them, without processors'.
    score : str
        As in ``find_device``.

    Returns
    -------
    Device
        For processors if there are none, or one of them does not compute as the reference does.
    """
    if not names:
        return Device()
    try:
        return replace(_open(names, score), in_place=True)
    except _Unusable as error:
        return Device(reason=str(error))


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is a device's lack of memory: some say so in words alone."""
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error)


class _Unusable(Exception):
    """A GPU cannot be used: why, and what would help."""


class _Full(_Unusable):
    """A GPU has no memory left: processors do the work then, as they do if it ends later."""


def _choose(max_memory_bytes: int, score: str) -> Device:
    """Return the first GPU if there is one that can be used, and processors otherwise."""
    # Asked before torch is imported, which takes a second and memory that a run on
    # processors has no use for.
    if not any(map(os.path.exists, _DRIVER_FILES)):
        return Device(reason="no GPU was found")
    if importlib.util.find_spec("torch") is None:
        return Device(reason=_NO_TORCH)
    if max_memory_bytes - measure_excess() < AUTO_MEMORY_BYTES:
        return Device(
            reason=f"a GPU's libraries need --max-memory {format_mib(AUTO_MEMORY_BYTES)} or more"
        )
    try:
        return _open(["cuda:0"], score)
    except _Unusable as error:
        return Device(reason=str(error))


def _open(asked: Sequence[str], score: str) -> Device:
    """Return GPUs that are there and exact; raise ``_Unusable`` if one of them is not."""
    if importlib.util.find_spec("torch") is None:
        raise _Unusable(f"{asked[0]} needs torch: {_NO_TORCH}")
    names = tuple(_NUMBERED.get(name, name.removeprefix(TORCH_PREFIX)) for name in asked)
    labels = []
    for name in names:
        try:
            _refuse_absent(name)
            labels.append(_check_once(name, score))
        except _Unusable:
            raise
        # Drivers, libraries that do not fit each other, kernels that a device lacks: torch
        # raises many kinds of exceptions, and processors can do the work.
        except Exception as error:
            if is_out_of_memory(error):
                raise _Full(f"{name} is out of memory") from error
            reason = str(error).partition("\n")[0]
            raise _Unusable(
                f"{name} cannot be used: {reason}: see that torch works there"
            ) from error
    unified = not names[0].startswith("cuda")
    return Device(names=names, unified=unified, label=", ".join(labels))


@cache
def _check_once(name: str, score: str) -> str:
    """Compare a device with the reference, once for a process; return what people call it."""
    import torch

    from ..kernels.device import UnfaithfulDevice, check_device

    try:
        kernels = check_device(torch.device(name), SCORES[score])
    except UnfaithfulDevice as error:
        raise _Unusable(
            f"{name} does not compute what the reference does ({error}): please report it"
        ) from error
    if not name.startswith("cuda"):
        return f"torch on {name}"
    triton = "" if kernels.__name__.endswith("fused") else ", without Triton"
    return f"{name} ({torch.cuda.get_device_name(name)}{triton})"


def _refuse_absent(name: str) -> None:
    import torch

    if not hasattr(torch, "OutOfMemoryError"):
        raise _Unusable(f"torch {torch.__version__} is too old: pip install 'torch>=2.5'")
    kind, _, number = name.partition(":")
    count = {"cuda": torch.cuda, "mps": torch.mps, "cpu": torch.cpu}[kind].device_count()
    if count == 0:
        raise _Unusable(
            f"torch {torch.__version__} finds no {kind} device: install a torch built for yours"
        )
    if int(number or 0) >= count:
        last = f" to {kind}:{count - 1}" if count > 1 else ""
        raise _Unusable(f"there is no {name} on this machine: it has {kind}:0{last}")
