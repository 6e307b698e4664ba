"""Which thread may restore which memory: one restoration of the same weights at a time.

A restoration claims its module's memory before it looks at a weight, and gives it up when what
it did is final or undone. Within an open claim its own thread may restore the same weights, as
nested ``with`` statements do; any other thread is refused, not kept waiting: the one that holds
the claim may be waiting for it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import torch

from ..checkpoint.entry import show_name
from ..errors import RequestError
from .sharing import has_memory

Parameters = Mapping[str, torch.Tensor]
"""Of a module, by name."""


class Claim:
    """The memory of one restoration.

    Parameters
    ----------
    module : torch.nn.Module
        What is restored: nobody else may restore or read it.
    base : torch.nn.Module or None
        What is read: nobody else may restore it until the edit is done.
    """

    def __init__(self, module: torch.nn.Module, base: torch.nn.Module | None) -> None:
        self._what = type(module).__name__
        self._written: Parameters = dict(module.named_parameters())
        self._read: Parameters = dict(base.named_parameters()) if base is not None else {}
        self._thread = threading.current_thread()
        self._editing = True

    def take(self) -> None:
        """Begin to hold the memory.

        Raises
        ------
        RequestError
            If another restoration holds some of it.
        """
        with _lock:
            for other in _held:
                if other._editing or other._thread is not self._thread:
                    self._refuse_shared(other)
            _held.append(self)

    def keep(self) -> None:
        """Go on holding what was restored, now that the edit is done."""
        self._editing = False
        self._read = {}

    def release(self) -> None:
        """Give the memory up; safe to call twice."""
        with _lock:
            if self in _held:
                _held.remove(self)

    def _refuse_shared(self, other: Claim) -> None:
        shared = [
            *_find_shared(self._written, other._written),
            *_find_shared(self._written, other._read),
            *_find_shared(self._read, other._written),
        ]
        if not shared:
            return
        thread = f"thread {other._thread.name}"
        state = "is at work on" if other._editing else "has not yet left its `with` statement for"
        raise RequestError(
            f"{self._what}: {thread} {state} a restoration of {other._what}, which shares "
            f"{len(shared)} of {len(self._written) + len(self._read)} parameters with this one, "
            f"the first {show_name(shared[0])}: next step: restore when that has ended, or give "
            "each thread a copy of the model"
        )


_lock = threading.Lock()
_held: list[Claim] = []
"""In the order in which they were taken."""


def _find_shared(mine: Parameters, theirs: Parameters) -> list[str]:
    """Return those of my parameters that lie in memory of theirs, wherever both are by now."""
    with torch._C.DisableTorchFunctionSubclass():  # see ``open_module``
        places = {_place(tensor) for tensor in theirs.values() if has_memory(tensor)}
        own = {name: _place(tensor) for name, tensor in mine.items() if has_memory(tensor)}
    return [name for name, place in own.items() if place in places]


def _place(tensor: torch.Tensor) -> tuple[str, int]:
    """Return where the storage lies that a tensor is a part of."""
    return str(tensor.device), tensor.untyped_storage().data_ptr()
