"""One run: scan, cut, restore, report, publish."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from .checkpoint.acceptance import check_accepted
from .checkpoint.config import CONFIG_FILE, recast_config
from .checkpoint.index import INDEX_FILE, encode_index
from .checkpoint.staging import Staging
from .errors import CheckpointError, MemoryBudgetError, ProfileError
from .kernels import load_kernels
from .outputs import check_outputs
from .passes.context import Context
from .passes.cuts import Goal, PlacedCut, place_cuts
from .passes.gather import Gathered, gather
from .passes.layout import OutputShard
from .passes.meter import peak_resident_bytes
from .passes.progress import Observer, SerialObserver, SilentObserver
from .passes.recall import recall
from .passes.restore import Restored
from .passes.restore import restore as write_models
from .passes.scan import Scan, refuse_nonfinite
from .passes.scan import scan as scan_weights
from .report.files import encode_reports
from .report.result import Restoration, TensorResult
from .selection.cut import selected_histogram
from .selection.histogram import describe_scores
from .session import Session


def run(
    session: Session, outputs: Sequence[Path], observer: Observer | None, started: float
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

    Raises
    ------
    ShardRestoreError
        Nothing is left behind then, and nothing that was there is lost.
    """
    check_outputs(outputs, session)
    overwrite = session.request.overwrite
    stagings: list[Staging] = []
    try:
        stagings.extend(Staging(output, overwrite=overwrite) for output in outputs)
        return Runner(session, stagings, observer).carry_out(started)
    except MemoryError as error:
        raise MemoryBudgetError(
            "the system refused memory that was planned "
            f"({session.work.sizing.projected_bytes:,} bytes in all): lower --workers or "
            "--max-memory, or raise the limit (`ulimit -v`)"
        ) from error
    finally:
        for staging in reversed(stagings):
            staging.discard()


class Runner:
    """One run, from the opened inputs to the finished folders.

    Parameters
    ----------
    session : Session
        The opened inputs and what is asked of them.
    stagings : sequence of Staging
        Where each goal of its work is written.
    observer : Observer or None
    """

    def __init__(
        self,
        session: Session,
        stagings: Sequence[Staging],
        observer: Observer | None,
    ) -> None:
        self.base = session.base
        self.target = session.target
        self.request = session.request
        self.work = session.work
        self.profile = session.profile
        self.stagings = stagings
        self.config = recast_config(session.target.config, session.request.cast)
        self.context = Context(
            base=session.base,
            target=session.target,
            kernels=load_kernels(),
            sizing=session.work.sizing,
            seed=session.request.seed,
            allow_nonfinite=session.request.allow_nonfinite,
            observer=SerialObserver(observer or SilentObserver()),
            folder=stagings[0].folder,
        )

    def carry_out(self, started: float) -> tuple[Restoration, ...]:
        """Scan, cut, restore, report, publish."""
        scan_started = time.perf_counter()
        scan = self._scan()
        try:
            if not self.request.allow_nonfinite:
                refuse_nonfinite(scan)
            gathered = gather(scan, self.work.regions)
            cuts = place_cuts(self.context, scan, self.work.goals, gathered.regions)
        finally:
            scan.histograms.close()
        restore_started = time.perf_counter()
        restored = write_models(
            self.context,
            self.work.segments,
            self.work.twins,
            self.work.shards,
            cuts,
            self.stagings,
        )
        self._check_counts(cuts, restored)
        restored_at = time.perf_counter()
        prepared = []
        results = []
        for goal, placed, done, staging in zip(
            self.work.goals, cuts, restored, self.stagings, strict=True
        ):
            result = dataclasses.replace(
                self._describe(goal, placed, gathered, done, staging),
                scan_seconds=restore_started - scan_started,
                restore_seconds=restored_at - restore_started,
            )
            results.append(result)
            prepared.append(self._prepare(result, staging))
        self._publish(prepared)
        return tuple(
            dataclasses.replace(
                result,
                seconds=time.perf_counter() - started,
                peak_rss_bytes=peak_resident_bytes(),
            )
            for result in results
        )

    def _scan(self) -> Scan:
        """Read the weights, or what a profile knows of them."""
        if self.profile is not None:
            return recall(self.profile, self.work.segments)
        return scan_weights(self.context, self.work.segments, self.work.twins)

    def _check_counts(self, cuts: Sequence[PlacedCut], restored: Sequence[Restored]) -> None:
        """Refuse weights that are not those that the cuts were made for."""
        for placed, done in zip(cuts, restored, strict=True):
            planned, found = placed.cut.selected, sum(done.selected.values())
            if planned == found:
                continue
            counts = f"{planned:,} elements were to be restored, {found:,} were"
            folders = f"{self.base.folder} or {self.target.folder}"
            if self.profile is not None:
                raise ProfileError(
                    f"profile {self.profile.path}: {folders} changed since it was made, or while "
                    f"it was read: {counts}: scan again"
                )
            raise CheckpointError(f"{folders} changed while it was read: {counts}")

    def _describe(
        self,
        goal: Goal,
        placed: PlacedCut,
        gathered: Gathered,
        done: Restored,
        staging: Staging,
    ) -> Restoration:
        region, cut = goal.region, placed.cut
        found = gathered.regions[region.name]
        chosen = done.scores if goal.random else selected_histogram(found.scores, cut)
        return Restoration(
            output=staging.output,
            region=region.name,
            strategy=goal.strategy,
            percent=goal.percent,
            region_elements=region.elements,
            selected_elements=cut.selected,
            threshold=cut.threshold,
            exact=goal.exact,
            tie_first=cut.tie_first,
            tie_span=cut.tie_span,
            ties=cut.ties,
            ties_taken=cut.ties_taken,
            unchanged_share=found.scores.unchanged() / region.elements,
            zero_base_share=found.zero_base / region.elements,
            nonfinite=found.nonfinite,
            total_scores=describe_scores(found.scores),
            selected_scores=describe_scores(chosen),
            tensors=_describe_tensors(goal, gathered, done),
            read_bytes=self.work.read_bytes,
            written_bytes=self.work.weight_bytes,
            scan_seconds=0.0,
            restore_seconds=0.0,
            seconds=0.0,
            workers=self.work.sizing.workers,
            projected_bytes=self.work.sizing.projected_bytes,
            peak_rss_bytes=0,
        )

    def _publish(self, prepared: Sequence[Sequence[str]]) -> None:
        """Give all models their names, or none."""
        # Undoing goes on with the other models even if it fails for one.
        with ExitStack() as undoing:
            for names, staging in zip(prepared, self.stagings, strict=True):
                undoing.callback(staging.undo)
                staging.publish(names)
            undoing.pop_all()
        for staging in self.stagings:
            staging.finish()

    def _prepare(self, result: Restoration, staging: Staging) -> list[str]:
        """Complete a model folder; return its files in the order they get their names."""
        inputs = {"base": self.base.identity(), "target": self.target.identity()}
        files = encode_reports(
            result, inputs, self.request.record(result.region, result.strategy, result.percent)
        )
        if self.config is not None:
            files[CONFIG_FILE] = self.config
        for name, content in files.items():
            staging.write_file(name, content)
        copied = [file for file in self.target.side_files if file.name not in files]
        for file in copied:
            staging.copy_file(file.name, file.source, file.nbytes)
        shards = [shard.filename for shard in self.work.shards]
        for name in shards:
            check_accepted(staging.folder / name)
        if self.target.indexed:
            staging.write_file(INDEX_FILE, _index(self.work.shards))
            shards.append(INDEX_FILE)
        return [*(file.name for file in copied), *files, *shards]


def _describe_tensors(goal: Goal, gathered: Gathered, done: Restored) -> tuple[TensorResult, ...]:
    return tuple(
        TensorResult(
            name=pair.name,
            kind=pair.place.kind,
            layer=pair.place.layer,
            module=pair.place.module,
            elements=pair.target.elements,
            restored=done.selected.get(pair.name, 0),
            mean_score=gathered.tensor_means.get(pair.name, 0.0),
        )
        for pair in goal.region.pairs
    )


def _index(shards: Sequence[OutputShard]) -> bytes:
    weight_map = {name: shard.filename for shard in shards for name in shard.tensors}
    total = sum(tensor.nbytes for shard in shards for tensor in shard.tensors.values())
    return encode_index(weight_map, total)
