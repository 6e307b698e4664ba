"""One run: download, scan, cut, restore, complete, publish."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import MemoryBudgetError
from ..figures.detail import Detail
from ..figures.model import ModelFigures
from ..figures.restoration import Restoration
from ..figures.side_files import describe_side_files
from ..inputs.content import ContentCheck
from ..machine.executor import Executor
from ..machine.progress import Observer, SilentObserver
from ..machine.stopwatch import Stopwatch
from ..machine.threads import ThreadExecutor
from ..output.publication import Move
from ..output.staging import Staging
from ..output.writer import explain_write_error
from ..passes.context import Context
from ..passes.cut import PlacedCut, place_cuts
from ..passes.gather import Gathered, gather
from ..passes.profiled import load_scan
from ..passes.restore import Restored
from ..passes.restore import restore as write_models
from ..passes.scan import Scan, refuse_nonfinite
from ..passes.scan import scan as scan_weights
from ..plan.work import Work
from ..report.page import check_library
from .description import describe, describe_costs
from .finished import find_finished, read_figures
from .folder import FolderWriter
from .identity import describe_run
from .journal import Prepared, ShardFinished
from .kept_scan import keep_scan, open_kept_scan
from .outputs import check_outputs, remark_on_foreign_files
from .pages import detail_regions
from .preparation import prepare
from .session import Session
from .sink import KeepLocal, ShardSink
from .workspace import Workspace, kept_if_resumable, take_up


def run(
    session: Session,
    outputs: Sequence[Path],
    observer: Observer | None,
    watch: Stopwatch,
    sink: ShardSink | None = None,
    executor: Executor | None = None,
) -> tuple[Restoration, ...]:
    """Carry out a session's work: write one model for each of its goals.

    Parameters
    ----------
    session : Session
    outputs : sequence of Path
        Where each goal is written.
    observer : Observer or None
    watch : Stopwatch
        Runs since the request was made.
    sink : ShardSink, optional
        Where complete shards go; they stay if left out.
    executor : Executor, optional
        Carries out the passes; on threads of this process if left out.

    Raises
    ------
    ShardRestoreError
        Nothing that was there is lost. What the run has achieved is kept in hidden
        folders if it can be resumed, and removed otherwise.
    """
    request, sink = session.request, sink or KeepLocal()
    executor = executor or ThreadExecutor()
    if request.resume:
        finished = find_finished(session, outputs, sink)
        if finished is not None:
            return _conclude(session, outputs, finished, watch, read_bytes=0)
    with _explained(session, outputs):
        check_outputs(outputs, session, one_by_one=sink.one_by_one)
        if request.report:
            check_library()
        with ExitStack() as stack:
            stagings = [
                stack.enter_context(
                    Staging(output, overwrite=request.overwrite, resume=request.resume)
                )
                for output in outputs
            ]
            workspace = take_up(session, stagings, sink.identity)
            with kept_if_resumable(workspace), _explained(session, outputs):
                sink.check(workspace)
                return Runner(session, workspace, sink, observer, watch, executor).carry_out()


@contextmanager
def _explained(session: Session, outputs: Sequence[Path]) -> Iterator[None]:
    """Raise the system's errors as ones that a user can act on."""
    try:
        yield
    except OSError as error:  # a disk that fails where nothing was to be written
        place = Path(os.fsdecode(error.filename or outputs[0]))
        raise explain_write_error(place, 0, error) from error
    except MemoryError as error:
        raise MemoryBudgetError(
            "the system refused memory that was planned "
            f"({session.work.sizing.projected_bytes:,} bytes in all): lower --workers or "
            "--max-memory, or raise the limit (`ulimit -v`)"
        ) from error


def _conclude(
    session: Session,
    outputs: Sequence[Path],
    models: Sequence[ModelFigures],
    watch: Stopwatch,
    *,
    read_bytes: int,
) -> tuple[Restoration, ...]:
    """Return the results of finished models, which share what they took."""
    costs = describe_costs(session, watch, read_bytes=read_bytes)
    files = describe_side_files(session.target.side_files)
    return tuple(
        Restoration(outputs=(output,), figures=figures, costs=costs, files=files)
        for figures, output in zip(models, outputs, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What pass 1 found, and the cuts that follow from it."""

    gathered: Gathered
    cuts: Sequence[PlacedCut]
    details: Mapping[str, Detail]
    """What the pages show of each region; empty without pages."""


class Runner:
    """One run, from the opened inputs to the finished folders.

    Parameters
    ----------
    session : Session
        The opened inputs and what is asked of them.
    workspace : Workspace
        Where the models grow, and what an earlier run has done already.
    sink : ShardSink
        Where complete shards go.
    observer : Observer or None
    watch : Stopwatch
    executor : Executor
    """

    def __init__(
        self,
        session: Session,
        workspace: Workspace,
        sink: ShardSink,
        observer: Observer | None,
        watch: Stopwatch,
        executor: Executor,
    ) -> None:
        self.session = session
        self.request = session.request
        self.workspace = workspace
        self.journal = workspace.journal
        self.sink = sink
        self.watch = watch
        self.context = Context(
            job=session.job(),
            executor=executor,
            observer=observer or SilentObserver(),
            folder=workspace.first.folder,
        )

    @property
    def work(self) -> Work:
        """What is planned."""
        return self.session.work

    def carry_out(self) -> tuple[Restoration, ...]:
        """Do all that an earlier run has not done already, in order."""
        for staging in self.workspace.stagings:
            for remark in remark_on_foreign_files(staging.output, self.session):
                self.context.observer.note(remark)
        moves = self.workspace.moves
        models: Sequence[ModelFigures] = ()
        if moves is None:
            self._prepare()
            found = self._scan_and_cut()  # from here on the run can be resumed
            models = self._restore(found)
            moves = self._complete_folders(models, found.details)
            self._note_prepared(moves)
        else:
            self.workspace.refuse_changed()
        self.sink.commit(moves, self.workspace)
        self._publish(moves)
        return self._conclude(models)

    def _conclude(self, models: Sequence[ModelFigures]) -> tuple[Restoration, ...]:
        """Return the results; an earlier run has made the models if this one has none."""
        outputs = [staging.output for staging in self.workspace.stagings]
        read_bytes = self.work.read_bytes if models else 0
        models = models or read_figures(self.session, outputs)
        return _conclude(self.session, outputs, models, self.watch, read_bytes=read_bytes)

    def _prepare(self) -> None:
        self.context = prepare(self.session, self.context, self.watch)

    def _scan_and_cut(self) -> _Found:
        """Pass 1, and what follows from it for every goal."""
        with self.watch.phase("scan"), ExitStack() as stack:
            content = stack.enter_context(self.session.downloads.checking())
            scan = self._scan(stack, content)
            if not self.journal.begun:
                self.workspace.begin(describe_run(self.session, self.sink.identity))
            gathered = gather(scan, self.work.regions)
            return _Found(
                gathered=gathered,
                cuts=place_cuts(self.context, scan, self.work.goals, gathered.regions),
                details=detail_regions(scan, gathered, self.work.goals)
                if self.request.report
                else {},
            )

    def _scan(self, stack: ExitStack, content: ContentCheck) -> Scan:
        """Return what is known of the weights that take part; `stack` closes what is opened.

        From a profile that was given, from the scan that an earlier run has kept, or from
        the weights themselves: then it is kept in its turn.
        """
        profile = self.session.profile
        kept = None
        if self.journal.begun and not profile:
            kept = open_kept_scan(self.session, self.workspace.first)
        if profile is not None:
            scan = load_scan(profile, self.work.segments)
        elif kept is not None:
            stack.callback(kept.close)
            scan = load_scan(kept, self.work.segments)
        else:
            scan = scan_weights(self.context, self.work.segments)
            stack.callback(scan.histograms.close)
        content.finish()  # before anything is kept of what was read
        if not self.request.allow_nonfinite:
            refuse_nonfinite(scan)
        if profile is None and kept is None:
            keep_scan(scan, self.session, self.workspace.first)
        return scan

    def _restore(self, found: _Found) -> list[ModelFigures]:
        """Pass 2: all shards that are not finished yet, of every output."""
        with self.watch.phase("restore"):
            self.sink.begin(self.workspace)
            restored = write_models(
                self.context,
                self.work.segments,
                self.work.twins,
                self.work.shards,
                found.cuts,
                self.workspace.stagings,
                self.workspace.finished(self.sink.held(self.workspace)),
                self._note_shard,
                self._dispatch if self.sink.one_by_one else None,
            )
            self.session.check_counts(found.cuts, restored)
        return [
            describe(goal, placed, found.gathered, done, self.request.scoring)
            for goal, placed, done in zip(self.work.goals, found.cuts, restored, strict=True)
        ]

    def _note_shard(self, number: int, result: Sequence[Restored]) -> None:
        name = self.work.shards[number].filename
        stamps = [staging.stamp(name) or [] for staging in self.workspace.stagings]
        self.journal.note(ShardFinished.of(name, result, stamps))

    def _note_prepared(self, moves: Sequence[Sequence[Move]]) -> None:
        self.workspace.first.check()
        self.journal.note(Prepared(moves=moves))

    def _dispatch(self, number: int) -> None:
        self.sink.take(self.work.shards[number], self.workspace)

    def _complete_folders(
        self, models: Sequence[ModelFigures], details: Mapping[str, Detail]
    ) -> list[list[Move]]:
        """Add to each model what it has besides its shards; return the renames that are left."""
        sent = self.sink.held(self.workspace)
        folders = FolderWriter(self.session, self.watch, self.context)
        moves = []
        for figures, staging in zip(models, self.workspace.stagings, strict=True):
            detail = details.get(figures.choice.region)
            names = folders.complete(staging, figures, detail, sent, self.sink.files)
            moves.append(staging.plan_moves(names))
        return moves

    def _publish(self, planned: Sequence[Sequence[Move]]) -> None:
        """Give all models their names, or none."""
        stagings = self.workspace.stagings
        # Undoing continues with the other models even if it fails for one.
        with ExitStack() as undoing:
            for moves, staging in zip(planned, stagings, strict=True):
                undoing.callback(staging.undo)
                staging.publish(moves)
            undoing.pop_all()
        # The first output's journal is that of all of them: it goes last.
        for staging in reversed(stagings):
            staging.finish()
