"""What an edit has changed, with the bits that were there before: all of it can be put back."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..checkpoint.entry import shorten
from ..errors import DeviceError, InputChangedError, RequestError
from ..formats import FORMATS
from ..kernels.interface import Codes, Flags
from ..machine.executor import Stopped
from ..plan.work import Work
from .claim import Claim
from .store import Store
from .weights import Weights


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
    claim : Claim or None
        To the memory; given up once all is put back.
    """

    def __init__(self, workers: int, claim: Claim | None = None) -> None:
        self._workers = workers
        self._claim = claim
        self._patches: list[Patch] = []
        self._writing: list[threading.Lock] = []
        self._closed = False
        self._undoing = threading.Lock()
        self._undone = False
        self._failure: BaseException | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the elements that have changed."""
        return sum(patch.former.nbytes for patch in self._patches)

    def open_writer(self, piece_elements: int, least_elements: int) -> Writer:
        """Return what one worker writes through.

        Parameters
        ----------
        piece_elements : int
            Elements that are compared on a device at once.
        least_elements : int
            How many they are at least, once the device was full.
        """
        # Not the writers themselves: in a cycle what is kept would outlive its use.
        self._writing.append(threading.Lock())
        return Writer(self, self._writing[-1], piece_elements, least_elements)

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

    def expect_undo(self) -> None:
        """Be undone with any earlier changes of the same parameters, should those go first."""
        _active.append(self)

    def undo(self) -> None:
        """Put everything back; nothing can be written afterwards.

        Ctrl-C is heard at the end, however often: a thread that it does not reach does the work.

        Raises
        ------
        InputChangedError
            If parameters are of another format or shape by now; all others are put back.
        DeviceError
            If a device fails; what can be put back is.
        RequestError
            If later changes of the same parameters were active: they are put back as well.
        """
        interruption: BaseException | None = None
        # Ctrl-C is heard in calls and as a loop goes back: no call here, and callers undo twice.
        while not self._undone:
            try:
                self._put_back_aside()
            except BaseException as error:
                interruption = error
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if interruption is not None:
            raise interruption

    def _put_back_aside(self) -> None:
        """Put back on another thread, after one that an interrupted call has left at it."""
        try:
            aside = threading.Thread(target=self._put_back, name="shardrestore-undo")
            aside.start()
        except (RuntimeError, MemoryError):  # the system allows no more threads
            self._put_back()
        else:
            aside.join()

    def _put_back(self) -> None:
        with self._undoing:
            if self._undone:
                return
            try:
                self._put_all_back()
            except BaseException as error:  # whatever it is: it is raised by ``undo``, once
                self._failure = error
            with suppress(ValueError):  # of changes that were not expected to be undone
                _active.remove(self)
            self._patches.clear()
            if self._claim is not None:
                self._claim.release()
            self._undone = True

    def _put_all_back(self) -> None:
        self._closed = True
        for writing in self._writing:
            with writing:  # the last write of a worker that was abandoned by a second Ctrl-C
                pass
        later = self._find_later()
        for changes in reversed(later):
            changes._put_back()
        lost = _locate(self._patches)
        patches = [patch for patch in self._patches if patch.weights.name not in lost]
        _synchronize(patches)  # whatever uses the weights on any stream has used them
        failed = self._put_back_side_by_side(patches)
        _synchronize(patches)
        if lost or failed:
            raise _explain(lost, failed)
        if later:
            raise RequestError(
                f"a restoration was left before {len(later)} later of the same weights: they "
                "were undone as well, the model is as it was before the first of them; "
                "next step: leave the last one first, as nested `with` statements do"
            )

    def _put_back_side_by_side(self, patches: Sequence[Patch]) -> dict[str, Exception]:
        """Put back on several threads; return what failed by the parameter's name."""
        shares = [patches[number :: self._workers] for number in range(self._workers)]
        failed: dict[str, Exception] = {}
        try:
            with ThreadPoolExecutor(self._workers, thread_name_prefix="shardrestore-undo") as pool:
                for found in pool.map(_put_back_all, shares):
                    failed |= found
        except RuntimeError:  # the system allows no more threads: twice is as good as once
            failed = _put_back_all(patches)
        return failed

    def _find_later(self) -> list[Changes]:
        """Return active changes that were made of the same parameters after these."""
        active = tuple(_active)  # other threads add to it and remove from it
        if self not in active:
            return []
        mine = self._places()
        later = active[active.index(self) + 1 :]
        return [changes for changes in later if not mine.isdisjoint(changes._places())]

    def _places(self) -> set[tuple[str, int]]:
        return {weights.place for weights in {patch.weights for patch in self._patches}}


_active: list[Changes] = []
"""Those that wait to be undone, in the order in which they were begun."""


def _locate(patches: Sequence[Patch]) -> dict[str, str]:
    """Look where the parameters' memory is by now; return what became of lost ones, by name."""
    lost: dict[str, str] = {}
    for name, weights in {patch.weights.name: patch.weights for patch in patches}.items():
        try:
            weights.locate()
        except InputChangedError as error:
            lost[name] = str(error)
    return lost


def _put_back_all(patches: Sequence[Patch]) -> dict[str, Exception]:
    """Put back what can be; return what failed by the parameter's name."""
    failed: dict[str, Exception] = {}
    for patch in patches:
        try:
            patch.put_back()
        except Exception as error:  # whatever it is, the others are still to be put back
            failed[patch.weights.name] = error
    return failed


def _synchronize(patches: Sequence[Patch]) -> None:
    """Wait for all streams of the GPUs concerned: each thread queues on its own."""
    for device in {patch.weights.device for patch in patches}:
        if device.type == "cuda":
            with suppress(RuntimeError):  # of a device that has failed: putting back says so
                torch.cuda.synchronize(device)


def _explain(lost: Mapping[str, str], failed: Mapping[str, Exception]) -> Exception:
    count = len(lost) + len(failed)
    lines = [f"{count} parameter{'s' if count > 1 else ''} cannot be put back:"]
    reasons = [*lost.values()]
    for name, error in failed.items():
        reason, *_ = str(error).splitlines() or [type(error).__name__]
        reasons.append(f"{name}: {reason}")
    lines += shorten([f"  {text}" for text in reasons])
    if not failed:
        lines.append("next step: load the model again, and convert it before it is restored")
        return InputChangedError("\n".join(lines))
    lines.append("next step: load the model again; all other parameters are as they were")
    explained = DeviceError("\n".join(lines))
    explained.__cause__ = next(iter(failed.values()))
    return explained


class Writer:
    """Writes for one worker, and notes what was there.

    Parameters
    ----------
    changes : Changes
    writing : threading.Lock
        Held while something is noted and written.
    piece_elements, least_elements : int
        As for ``Changes.open_writer``.
    """

    def __init__(
        self,
        changes: Changes,
        writing: threading.Lock,
        piece_elements: int,
        least_elements: int,
    ) -> None:
        self._changes = changes
        self._writing = writing
        self.piece_elements = piece_elements
        self._least_elements = least_elements
        self._store = Store()

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
        """Put back what was written, and forget it: a device was full, so take less at once."""
        self.piece_elements = max(self.piece_elements // 2, self._least_elements)
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
        """Set the elements of a block, on a device piece by piece."""
        (part,) = parts
        piece = self._writer.piece_elements if isinstance(part, torch.Tensor) else elements
        for low in range(0, elements, piece):
            run = part[low : low + piece] if piece < elements else part
            patch = self._writer.write(self._weights, start + low, run)
            if patch is not None:
                self._patches.append(patch)

    def restart(self) -> None:
        """Put back what was written: the segment is scored once more."""
        self._writer.take_back(self._patches)
        self._patches.clear()


def project_changes(work: Work) -> int:
    """Return the memory that noting the changes of a piece of work takes at most, in bytes.

    A bit for each element of a block with a change, and the former bits of what has changed.
    """
    (goal,) = work.goals
    widest = max(FORMATS[segment.pair.out_dtype].element_bytes for segment in work.segments)
    ranked = sum(segment.elements for segment in (*work.segments, *work.twins))
    twins = sum(segment.elements for segment in work.twins)
    return ranked // 8 + (goal.selected + twins) * widest
