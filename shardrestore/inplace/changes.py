"""What an edit has changed, with the bits that were there before: all of it can be put back."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..checkpoint.entry import shorten
from ..errors import InputChangedError
from ..kernels.interface import Codes, Flags
from ..passes.plan import Work
from ..passes.workers import Stopped
from ..passes.workspace import ITEM_BYTES
from .weights import Weights

_STORE_BYTES = 32 << 20
"""A map of what is kept; pages of it that were not written take no memory."""

_ALIGNMENT_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """What has changed in one block."""

    weights: Weights
    start: int
    elements: int
    changed: Flags
    """Whether each element has changed: a bit each, packed."""
    former: Codes
    """What the changed ones were."""

    def put_back(self) -> None:
        """Give the changed elements the bits that they had."""
        self.weights.put_back(self.start, self.elements, self.changed, self.former)


class Changes:
    """The changes of one edit.

    Parameters
    ----------
    workers : int
        Threads that put them back.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._patches: list[Patch] = []
        self._writing: list[threading.Lock] = []
        self._closed = False

    @property
    def nbytes(self) -> int:
        """Bytes of the elements that have changed."""
        return sum(patch.former.nbytes for patch in self._patches)

    def open_writer(self) -> Writer:
        """Return what one worker writes through."""
        # Not the writers themselves: in a cycle what is kept would outlive its use.
        self._writing.append(threading.Lock())
        return Writer(self, self._writing[-1])

    def add(self, patch: Patch) -> None:
        """Note a change, before it is made.

        Raises
        ------
        Stopped
            If changes are being put back.
        """
        if self._closed:
            raise Stopped
        self._patches.append(patch)

    def take_back(self, patches: Sequence[Patch]) -> None:
        """Put some changes back, and forget them."""
        if self._closed:
            raise Stopped
        for patch in reversed(patches):
            patch.put_back()
            self._patches.remove(patch)

    def undo(self) -> None:
        """Put everything back; nothing can be written afterwards.

        Ctrl-C is heard at the end: a thread that it does not reach does the work.

        Raises
        ------
        InputChangedError
            If parameters are of another format or shape by now; all others are put back.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="shardrestore-undo") as aside:
            aside.submit(self._put_back).result()

    def _put_back(self) -> None:
        self._closed = True
        for writing in self._writing:
            with writing:  # the last write of a worker that was abandoned by a second Ctrl-C
                pass
        lost = _locate(self._patches)
        patches = [patch for patch in self._patches if patch.weights.name not in lost]
        with ThreadPoolExecutor(self._workers, thread_name_prefix="shardrestore-undo") as pool:
            shares = [patches[number :: self._workers] for number in range(self._workers)]
            list(pool.map(_put_back_all, shares))
        self._patches.clear()
        if lost:
            plural = "s" if len(lost) > 1 else ""
            lines = [f"{len(lost)} parameter{plural} cannot be put back:"]
            lines += shorten([f"  {text}" for text in lost.values()])
            lines.append("next step: load the model again, and convert it before it is restored")
            raise InputChangedError("\n".join(lines))


def _locate(patches: Sequence[Patch]) -> dict[str, str]:
    """Look where the parameters' memory is by now; return what became of lost ones, by name."""
    lost: dict[str, str] = {}
    for name, weights in {patch.weights.name: patch.weights for patch in patches}.items():
        try:
            weights.locate()
        except InputChangedError as error:
            lost[name] = str(error)
    return lost


def _put_back_all(patches: Sequence[Patch]) -> None:
    for patch in patches:
        patch.put_back()


class Writer:
    """Writes for one worker, and notes what was there.

    Parameters
    ----------
    changes : Changes
    writing : threading.Lock
        Held while something is noted and written.
    """

    def __init__(self, changes: Changes, writing: threading.Lock) -> None:
        self._changes = changes
        self._writing = writing
        self._store = _Store()

    def write(self, weights: Weights, start: int, part: memoryview | torch.Tensor) -> Patch | None:
        """Set a run of elements, given by their bytes or where they are; return what changed."""
        codes = np.frombuffer(part, weights.item) if isinstance(part, memoryview) else part
        changed, former = weights.compare(start, codes)
        if not former.size:
            return None
        patch = Patch(
            weights=weights,
            start=start,
            elements=len(codes),
            changed=self._store.keep(changed),
            former=self._store.keep(former),
        )
        with self._writing:
            self._changes.add(patch)
            weights.write(start, codes, changed)
        return patch

    def take_back(self, patches: Sequence[Patch]) -> None:
        """Put back what was written, and forget it."""
        with self._writing:
            self._changes.take_back(patches)


class SegmentSink:
    """Where a segment's blocks go: into its parameter.

    Parameters
    ----------
    writer : Writer
    weights : Weights
        The parameter.
    """

    def __init__(self, writer: Writer, weights: Weights) -> None:
        self._writer = writer
        self._weights = weights
        self._patches: list[Patch] = []

    def write(self, start: int, elements: int, parts: Sequence[Any]) -> None:
        """Set the elements of a block."""
        patch = self._writer.write(self._weights, start, parts[0])
        if patch is not None:
            self._patches.append(patch)

    def restart(self) -> None:
        """Put back what was written: the segment is scored once more."""
        self._writer.take_back(self._patches)
        self._patches.clear()


class _Store:
    """Keeps arrays in maps of their own, which go back to the system once nobody uses them.

    Arrays of some kilobytes would be malloc's, which kept 0.8 GB of 1.3 GB that had been freed.
    """

    def __init__(self) -> None:
        self._free = np.empty(0, np.uint8)

    def keep(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy of an array that is kept."""
        taken = -(-array.nbytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        if taken > self._free.size:
            self._free = np.frombuffer(_map(max(_STORE_BYTES, taken)), np.uint8)
        kept = self._free[: array.nbytes].view(array.dtype)
        kept[:] = array
        self._free = self._free[taken:]
        return kept


def _map(nbytes: int) -> mmap.mmap:
    """Return zeros that are given memory as they are written.

    In huge pages, where there are: restoring 60 % and undoing it then take 0.6 of the time.
    """
    try:
        place = mmap.mmap(-1, nbytes)
    except OSError as error:
        raise MemoryError from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # of a kernel without them
            place.madvise(mmap.MADV_HUGEPAGE)
    return place


def project_changes(work: Work) -> int:
    """Return the memory that noting the changes of a piece of work takes at most, in bytes.

    A bit for each element of a block with a change, and the former bits of what has changed.
    """
    (goal,) = work.goals
    widest = max(ITEM_BYTES[segment.pair.out_dtype] for segment in work.segments)
    ranked = sum(segment.elements for segment in (*work.segments, *work.twins))
    twins = sum(segment.elements for segment in work.twins)
    return ranked // 8 + (goal.selected + twins) * widest
