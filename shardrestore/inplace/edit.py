"""A module restored where it is: pass 1 as for files, pass 2 into its parameters.

Both passes are the engine's, on checkpoints of which one or both are in memory, so that the
cut is that of files and so is every bit.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from torch.nn import Module

from ..checkpoint.model import Model
from ..engine.choice import open_engine
from ..engine.interface import Selected
from ..engine.job import Job
from ..errors import MemoryBudgetError, OutputError, RequestError
from ..figures.costs import Costs
from ..figures.restoration import RestorationReport
from ..inputs.reference import Reference
from ..machine.device import find_resident_device
from ..machine.executor import Control, Stage
from ..machine.meter import peak_resident_bytes
from ..machine.progress import Observer, SilentObserver, in_units
from ..machine.stopwatch import Stopwatch
from ..machine.threads import ThreadExecutor
from ..passes.context import Context
from ..passes.cut import PlacedCut, place_cuts
from ..passes.gather import Gathered, gather
from ..passes.restore import Ledger, Restored
from ..passes.scan import refuse_nonfinite, scan
from ..plan.segment import Segment
from ..plan.work import Work
from ..request import Request
from ..runs.description import describe, describe_device, describe_times
from ..runs.preparation import prepare
from ..runs.session import ModelSession
from .changes import Changes, SegmentSink, project_changes
from .claim import Claim
from .module import ModuleReader, open_module
from .sharing import list_kept

__all__ = ["Edit", "Module"]


class Edit:
    """A share of a module's weights restored in place.

    The caller of `carry_out` undoes its `changes`, also if that has failed or was interrupted.

    Parameters
    ----------
    module : torch.nn.Module
        What is restored, on any device.
    base : torch.nn.Module, str or path-like
        The model before fine-tuning: a module, a folder, or a repository on the Hub.
    request : Request
        With one region, strategy and percent.
    observer : Observer or None
    watch : Stopwatch
        Runs since the request was made.
    """

    def __init__(
        self,
        module: Module,
        base: Module | Reference,
        request: Request,
        observer: Observer | None,
        watch: Stopwatch,
    ) -> None:
        self._target = _open_target(module, base, request.kernel_set)
        self._base = base
        self._request = request
        self._observer = observer
        self._watch = watch
        self._claim = Claim(module, base if isinstance(base, Module) else None)
        self.changes = Changes(request.workers, self._claim)
        """What has been changed so far."""

    def carry_out(self, *, lasting: bool) -> RestorationReport:
        """Restore, for good or until it is undone, and return what was done.

        Raises
        ------
        RequestError
            Among others, if another thread restores the same weights.
        """
        if not lasting:
            self.changes.expect_undo()
        self._claim.take()
        report = self._edit()
        if lasting:
            self._claim.release()
        else:
            self._claim.keep()
        return report

    def _edit(self) -> RestorationReport:
        device = find_resident_device(_list_devices(self._target), self._request.scoring.score)
        base = _open_base(self._base)
        try:
            with (
                ModelSession(base, self._target, self._request, device) as session,
                _work_folder() as folder,
            ):
                editor = _Editor(session, self.changes, self._observer, Path(folder))
                return editor.carry_out(self._watch)
        except MemoryError as error:
            raise MemoryBudgetError(
                "the system refused memory that restoring in place takes: lower workers, or "
                "raise the limit (`ulimit -v`); the module is as it was"
            ) from error


def _open_target(module: object, base: object, kernel_set: str) -> Model:
    if not isinstance(module, Module):
        raise RequestError(
            f"target {type(module).__name__}: expected a torch.nn.Module; to restore the files "
            "of a model call restore"
        )
    kept = list_kept(module, base if isinstance(base, Module) else None)
    return open_module(module, kept, kernel_set)


def _list_devices(target: Model) -> list[str]:
    assert isinstance(target.reader, ModuleReader)
    return target.reader.devices()


def _open_base(base: object) -> Model | Reference:
    if isinstance(base, Module):
        return open_module(base)
    if not isinstance(base, (str, os.PathLike)):
        raise RequestError(
            f"base {type(base).__name__}: expected a torch.nn.Module, a folder, or a repository "
            "on the Hub"
        )
    return base


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="shardrestore-")
    except OSError as error:
        raise OutputError(
            f"no folder for temporary files: {error}: set TMPDIR to one on a disk with space"
        ) from error


class _Editor:
    """One edit, from the opened inputs to the changed module."""

    def __init__(
        self, session: ModelSession, changes: Changes, observer: Observer | None, folder: Path
    ) -> None:
        self._session = session
        self._changes = changes
        self._context = Context(
            job=session.job(),
            executor=ThreadExecutor(),
            observer=observer or SilentObserver(),
            folder=folder,
        )

    @property
    def _work(self) -> Work:
        return self._session.work

    def carry_out(self, watch: Stopwatch) -> RestorationReport:
        """Scan, cut, edit."""
        self._check_accessible()
        self._context = prepare(self._session, self._context, watch)
        with watch.phase("scan"), self._session.downloads.checking() as content:
            gathered, placed = self._find_cut()
            content.finish()
        with watch.phase("restore"):
            done = self._restore(placed)
        (goal,) = self._work.goals
        figures = describe(goal, placed, gathered, done, self._context.job.scoring)
        costs = Costs(
            read_bytes=self._work.read_bytes - self._work.outside_bytes,
            written_bytes=self._changes.nbytes,
            times=describe_times(watch),
            seconds=watch.elapsed,
            workers=self._work.sizing.workers,
            projected_bytes=self._work.sizing.projected_bytes + project_changes(self._work),
            device=describe_device(self._work.device),
            peak_rss_bytes=peak_resident_bytes(),
        )
        return RestorationReport(outputs=(), figures=figures, costs=costs)

    def _check_accessible(self) -> None:
        pairs = {segment.pair.name: segment.pair for segment in self._segments()}.values()
        for model, names in (
            (self._session.base, {pair.base.name for pair in pairs}),
            (self._session.target, {pair.target.name for pair in pairs}),
        ):
            if isinstance(model.reader, ModuleReader):
                model.reader.check_accessible(names)

    def _segments(self) -> list[Segment]:
        """Return all that is edited: tied weights that are parameters of their own as well."""
        return [*self._work.segments, *self._work.twins]

    def _find_cut(self) -> tuple[Gathered, PlacedCut]:
        found = scan(self._context, self._work.segments)
        with closing(found.histograms):
            if not self._context.job.allow_nonfinite:
                refuse_nonfinite(found)
            gathered = gather(found, self._work.regions)
            (placed,) = place_cuts(self._context, found, self._work.goals, gathered.regions)
        return gathered, placed

    def _restore(self, placed: PlacedCut) -> Restored:
        """Set the selected elements of all segments to the base's."""
        ledger = Ledger([placed], {})
        open_worker = partial(_SegmentEditor, self._context.job, placed, self._changes)
        stage = Stage(name="restore", open_worker=open_worker, work=_SegmentEditor.edit)
        with self._context.run_observed(stage, self._segments()) as results:
            for segment, selected in results:
                ledger.note(segment, selected)
        self._session.base.check_unchanged()
        ledger.close(0)
        self._session.check_counts([placed], ledger.totals)
        return ledger.totals[0]


class _SegmentEditor:
    """One worker that restores segments of a module; it works where the module is."""

    def __init__(self, job: Job, placed: PlacedCut, changes: Changes, control: Control) -> None:
        self._engine = open_engine(job, control)
        self._placed = placed
        self._writer = changes.open_writer(
            job.sizing.chunk_elements, job.granularity.chunk_elements
        )
        assert isinstance(job.target.reader, ModuleReader)
        self._reader = job.target.reader
        self._control = control

    def edit(self, segment: Segment) -> Selected:
        """Set the selected elements of a segment to the base's."""
        sink = SegmentSink(self._writer, self._reader.weights(segment.pair.name))
        advance = in_units(self._control, segment.element_bytes)
        return self._engine.cut(segment, [self._placed.meet(segment)], sink, advance)
