"""One run: scan, cut, restore, report, publish."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoint.config import recast_config
from ..checkpoint.index import encode_index
from ..engine.job import Job
from ..errors import (
    InputChangedError,
    MemoryBudgetError,
    NonFiniteError,
    ProfileError,
    ShardRestoreError,
)
from ..figures.costs import Costs, Times
from ..figures.detail import Detail
from ..figures.model import ModelFigures
from ..figures.restoration import Restoration
from ..figures.result_overview import overview_of_model
from ..inputs.opened import Inputs
from ..machine.executor import Control, Executor, Stage
from ..machine.meter import peak_resident_bytes
from ..machine.progress import Observer, SilentObserver
from ..machine.threads import ThreadExecutor
from ..names import (
    CARD_FILE,
    CHECKSUM_FILE,
    CONFIG_FILE,
    INDEX_FILE,
    PAGE_FILE,
    STAGING_FOLDER,
    UPLOADED_FILE,
)
from ..output.acceptance import check_accepted
from ..output.card import output_name, read_card
from ..output.checksum import encode_checksums, hash_file
from ..output.staging import Move, Staging
from ..output.writer import explain_write_error
from ..passes.context import Context
from ..passes.cut import place_cuts
from ..passes.gather import gather
from ..passes.profiled import recall
from ..passes.restore import restore as write_models
from ..passes.scan import Scan, refuse_nonfinite
from ..passes.scan import scan as scan_weights
from ..plan.layout import OutputShard
from ..report.card import encode_card
from ..report.files import encode_reports
from ..report.page import check_library, encode_page
from .description import describe, describe_device
from .finished import read_figures, read_finished
from .keeper import Keeper, StayHere
from .outputs import check_outputs
from .pages import detail_regions
from .recovery import Recovery
from .session import Session


def run(
    session: Session,
    outputs: Sequence[Path],
    observer: Observer | None,
    started: float,
    keeper: Keeper | None = None,
    executor: Executor | None = None,
) -> tuple[Restoration, ...]:
    """Carry out a session's work: write one model for each of its goals.

    Parameters
    ----------
    session : Session
    outputs : sequence of Path
        Where each goal is written.
    observer : Observer or None
    started : float
        When the request was made, by ``time.perf_counter``.
    keeper : Keeper, optional
        What becomes of complete shards; they stay if left out.
    executor : Executor, optional
        Carries out the passes; on threads of this process if left out.

    Raises
    ------
    ShardRestoreError
        Nothing that was there is lost. What the run has achieved is kept in hidden
        folders if it can be resumed, and removed otherwise.
    """
    resume, keeper = session.request.resume, keeper or StayHere()
    if resume:
        finished = read_finished(session, outputs)
        if finished is not None and _tidy(session, outputs, keeper):
            return _conclude(finished, outputs, _find_costs(session, started, times=None))
    stagings: list[Staging] = []
    recovery = None
    resumable = resume  # what is there is kept, until it is known to be of no use
    try:
        check_outputs(outputs, session, one_by_one=keeper.one_by_one)
        if session.request.report:
            check_library()
        for output in outputs:
            overwrite = session.request.overwrite
            stagings.append(Staging(output, overwrite=overwrite, resume=resume))
        recovery = Recovery(session, stagings, keeper.identity)
        keeper.resume(recovery)
        runner = Runner(session, stagings, recovery, keeper, observer, executor or ThreadExecutor())
        return runner.carry_out(started)
    except (InputChangedError, NonFiniteError, ProfileError):
        resumable, recovery = False, None
        raise
    except (ShardRestoreError, OSError, MemoryError) as error:
        explained = _explain(error, session, outputs)
        explained.resumable = recovery is not None and recovery.begun
        if explained is error:
            raise
        raise explained from error
    finally:
        kept = recovery.begun if recovery else resumable
        for staging in reversed(stagings):
            staging.leave() if kept else staging.discard()


def _explain(error: Exception, session: Session, outputs: Sequence[Path]) -> ShardRestoreError:
    """Return an error that a user can act on."""
    if isinstance(error, OSError):  # a disk that fails where nothing was to be written
        return explain_write_error(Path(os.fsdecode(error.filename or outputs[0])), 0, error)
    if isinstance(error, MemoryError):
        return MemoryBudgetError(
            "the system refused memory that was planned "
            f"({session.work.sizing.projected_bytes:,} bytes in all): lower --workers or "
            "--max-memory, or raise the limit (`ulimit -v`)"
        )
    assert isinstance(error, ShardRestoreError)
    return error


def _tidy(session: Session, outputs: Sequence[Path], keeper: Keeper) -> bool:
    """Remove what a run that ended after its last rename left beside finished models.

    Returns false, and keeps it, if it is work that is still to be finished.
    """
    stagings: list[Staging] = []
    try:
        stagings.extend(
            Staging(output, overwrite=True, resume=True)
            for output in outputs
            if os.path.lexists(output / STAGING_FOLDER)
        )
        if stagings:
            recovery = Recovery(session, stagings, keeper.identity)
            if recovery.begun and (recovery.moves is None or not keeper.is_settled(recovery)):
                return False
        for staging in reversed(stagings):
            staging.finish()
        return True
    finally:
        for staging in stagings:
            staging.leave()


def _conclude(
    models: Sequence[ModelFigures], outputs: Sequence[Path], costs: Costs
) -> tuple[Restoration, ...]:
    """Return the results of finished models, which share what they took."""
    return tuple(
        Restoration(outputs=(output,), figures=figures, costs=costs)
        for figures, output in zip(models, outputs, strict=True)
    )


def _find_costs(session: Session, started: float, times: Times | None) -> Costs:
    """Return what a session has taken until now; `times` is None if no weight was read."""
    work = session.work
    return Costs(
        read_bytes=0 if times is None else work.read_bytes,
        written_bytes=work.weight_bytes,
        times=times or Times(),
        seconds=time.perf_counter() - started,
        workers=work.sizing.workers,
        projected_bytes=work.sizing.projected_bytes,
        device=describe_device(work.device),
        peak_rss_bytes=peak_resident_bytes(),
    )


class Runner:
    """One run, from the opened inputs to the finished folders.

    Parameters
    ----------
    session : Session
        The opened inputs and what is asked of them.
    stagings : sequence of Staging
        Where each goal of its work is written.
    recovery : Recovery
        What an earlier run has done already, and where this one notes what it does.
    keeper : Keeper
        What becomes of complete shards.
    observer : Observer or None
    executor : Executor
    """

    def __init__(
        self,
        session: Session,
        stagings: Sequence[Staging],
        recovery: Recovery,
        keeper: Keeper,
        observer: Observer | None,
        executor: Executor,
    ) -> None:
        self.session = session
        self.base = session.base
        self.target = session.target
        self.request = session.request
        self.work = session.work
        self.stagings = stagings
        self.recovery = recovery
        self.keeper = keeper
        self.details: dict[str, Detail] = {}
        """What the pages show of each region; empty before the scan, or without pages."""
        self.times: Times | None = None
        """What the passes took; None before the end of the second."""
        self.config = recast_config(session.target.config, session.request.scoring.cast)
        self.context = Context(
            job=Job(
                inputs=Inputs(session.base, session.target),
                device=session.work.device,
                sizing=session.work.sizing,
                scoring=session.request.scoring,
                seed=session.request.seed,
                allow_nonfinite=session.request.allow_nonfinite,
            ),
            executor=executor,
            observer=observer or SilentObserver(),
            folder=stagings[0].folder,
        )

    def carry_out(self, started: float) -> tuple[Restoration, ...]:
        """Scan, cut, restore, report, publish: as far as it has not been done already."""
        moves, models = self.recovery.moves, None
        if moves is None:
            models = self._restore()
            moves = [
                staging.plan_moves(self._prepare(figures, staging, started + self.keeper.seconds))
                for figures, staging in zip(models, self.stagings, strict=True)
            ]
            self.recovery.note_publish(moves)
        for planned, staging in zip(moves, self.stagings, strict=True):
            self.keeper.settle(planned, staging, self.recovery)
        self._publish(moves)
        outputs = [staging.output for staging in self.stagings]
        if models is None:
            found = read_figures(self.session, outputs)
            return _conclude(found, outputs, _find_costs(self.session, started, times=None))
        costs = _find_costs(self.session, started + self.keeper.seconds, self.times)
        return _conclude(models, outputs, costs)

    def _restore(self) -> list[ModelFigures]:
        download_started = time.perf_counter()
        self.session.downloads.carry_out(self.work.sizing.downloads, self.context.observer)
        scan_started = time.perf_counter()
        with ExitStack() as stack:
            scan = self._scan(stack)
            if not self.request.allow_nonfinite:
                refuse_nonfinite(scan)
            if self.session.profile is None and not self.recovery.has_scan:
                self.recovery.note_scan(scan)
            if not self.recovery.begun:
                self.recovery.begin()
            gathered = gather(scan, self.work.regions)
            cuts = place_cuts(self.context, scan, self.work.goals, gathered.regions)
            if self.request.report:
                self.details = detail_regions(scan, gathered, self.work.goals)
        restore_started = time.perf_counter()
        self.keeper.begin(self.work.shards, self.stagings[0], self.recovery)
        restored = write_models(
            self.context,
            self.work.segments,
            self.work.twins,
            self.work.shards,
            cuts,
            self.stagings,
            self.recovery.finished,
            self.recovery.note_shard,
            self._dispatch if self.keeper.one_by_one else None,
        )
        self.session.check_counts(cuts, restored)
        self.times = Times(
            download_seconds=scan_started - download_started,
            scan_seconds=restore_started - scan_started,
            restore_seconds=time.perf_counter() - restore_started - self.keeper.seconds,
        )
        return [
            describe(goal, placed, gathered, done)
            for goal, placed, done in zip(self.work.goals, cuts, restored, strict=True)
        ]

    def _dispatch(self, number: int) -> None:
        self.keeper.take(self.work.shards[number], self.stagings[0], self.recovery)

    def _scan(self, stack: ExitStack) -> Scan:
        """Read the weights, or what a profile knows of them; `stack` closes what is opened."""
        profile = self.session.profile
        if profile is None:
            profile = self.recovery.find_scan()
            if profile is not None:
                stack.callback(profile.close)
        if profile is not None:
            if profile is self.session.profile and self.work.twins:
                # A profile does not count tied heads: that they are still tied must be seen.
                scan_weights(self.context, (), self.work.twins).histograms.close()
            return recall(profile, self.work.segments)
        scan = scan_weights(self.context, self.work.segments, self.work.twins)
        stack.callback(scan.histograms.close)
        return scan

    def _publish(self, planned: Sequence[Sequence[Move]]) -> None:
        """Give all models their names, or none."""
        # Undoing goes on with the other models even if it fails for one.
        with ExitStack() as undoing:
            for moves, staging in zip(planned, self.stagings, strict=True):
                undoing.callback(staging.undo)
                staging.publish(moves)
            undoing.pop_all()
        # The first output's journal tells of all of them: it goes last.
        for staging in reversed(self.stagings):
            staging.finish()

    def _prepare(self, figures: ModelFigures, staging: Staging, started: float) -> list[str]:
        """Complete a model folder; return its files in the order they get their names."""
        inputs = {"base": self.base.identity(), "target": self.target.identity()}
        choice = figures.choice
        options = self.request.record(choice.region, choice.strategy, choice.percent)
        files = encode_reports(figures, inputs, options)
        files[CARD_FILE] = self._encode_card(figures, inputs, options)
        if self.config is not None:
            files[CONFIG_FILE] = self.config
        for name, content in files.items():
            staging.write_file(name, content)
        copied = {output_name(file.name): file for file in self.target.side_files}
        copied = {name: file for name, file in copied.items() if name not in files}
        for name, file in copied.items():
            staging.copy_file(name, file.fetch(), file.nbytes)
        sent = self.recovery.uploaded
        shards = [shard.filename for shard in self.work.shards if shard.filename not in sent]
        for name in shards:
            check_accepted(staging.folder / name)
        if self.target.indexed:
            staging.write_file(INDEX_FILE, _index(self.work.shards))
            shards.append(INDEX_FILE)
        names = [*copied, *files, *shards]
        if self.request.checksum:
            checksums = {name: file.sha256 for name, file in sent.items()}
            staging.write_file(CHECKSUM_FILE, self._sum_up(staging, names, checksums))
            names.insert(0, CHECKSUM_FILE)
        if self.request.report:
            overview = overview_of_model(figures, staging.output, inputs, options)
            costs = _find_costs(self.session, started, self.times)
            page = encode_page(overview, self.details[choice.region], costs=costs)
            staging.write_file(PAGE_FILE, page)
            names.insert(0, PAGE_FILE)
        if sent:  # a note says where: before the index, without which no model is whole
            names.insert(len(names) - self.target.indexed, UPLOADED_FILE)
        return names

    def _encode_card(
        self, figures: ModelFigures, inputs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> bytes:
        """Return the model card, which goes on from the target's own, if it has one."""
        cards = [file for file in self.target.side_files if file.name == CARD_FILE]
        return encode_card(
            figures,
            inputs,
            options,
            inherited=read_card(cards[0].fetch()) if cards else {},
            kept_card=output_name(CARD_FILE) if cards else None,
        )

    def _sum_up(self, staging: Staging, names: Sequence[str], known: Mapping[str, str]) -> bytes:
        """Return the checksums of staged files; shards were written in no order to hash them."""
        open_worker = partial(_Hasher, staging.folder)
        stage = Stage(name="checksum", open_worker=open_worker, work=_Hasher.hash)
        with self.context.run(stage, names) as found:
            return encode_checksums({**known, **dict(found)})


class _Hasher:
    """One worker that hashes files of a folder."""

    def __init__(self, folder: Path, control: Control) -> None:
        self._folder = folder
        self._control = control

    def hash(self, name: str) -> str:
        """Return the checksum of a file."""
        return hash_file(self._folder / name, self._control.check)


def _index(shards: Sequence[OutputShard]) -> bytes:
    weight_map = {name: shard.filename for shard in shards for name in shard.tensors}
    total = sum(tensor.nbytes for shard in shards for tensor in shard.tensors.values())
    return encode_index(weight_map, total)
