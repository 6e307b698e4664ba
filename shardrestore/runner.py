"""One run: scan, cut, restore, report, publish."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack

from .checkpoint.acceptance import check_accepted
from .checkpoint.config import CONFIG_FILE, recast_config
from .checkpoint.folder import Checkpoint
from .checkpoint.index import INDEX_FILE, encode_index
from .checkpoint.staging import Staging
from .kernels import load_kernels
from .passes.context import Context
from .passes.layout import OutputShard
from .passes.meter import peak_resident_bytes
from .passes.plan import Work
from .passes.progress import Observer, SerialObserver, SilentObserver
from .passes.refine import PlacedCut, place_at_bins, place_at_keys
from .passes.restore import Restored
from .passes.restore import restore as write_models
from .passes.scan import Scan, refuse_nonfinite
from .passes.scan import scan as scan_region
from .passes.segment import is_resolved
from .report.files import encode_reports
from .report.result import Restoration, TensorResult
from .request import Request
from .selection.cut import find_bin, selected_histogram
from .selection.histogram import describe_scores


class Runner:
    """One run, from the opened inputs to the finished folders."""

    def __init__(
        self,
        base: Checkpoint,
        target: Checkpoint,
        request: Request,
        work: Work,
        stagings: Sequence[Staging],
        observer: Observer | None,
    ) -> None:
        self.base = base
        self.target = target
        self.request = request
        self.work = work
        self.stagings = stagings
        self.config = recast_config(target.config, request.cast)
        self.context = Context(
            base=base,
            target=target,
            kernels=load_kernels(),
            sizing=work.sizing,
            seed=request.key_seed,
            allow_nonfinite=request.allow_nonfinite,
            observer=SerialObserver(observer or SilentObserver()),
            folder=stagings[0].folder,
        )

    def carry_out(self, started: float) -> tuple[Restoration, ...]:
        """Scan, cut, restore, report, publish."""
        scan_started = time.perf_counter()
        scan = scan_region(self.context, self.work.segments, self.work.twins)
        try:
            if not self.request.allow_nonfinite:
                refuse_nonfinite(scan)
            cuts = self._place_cuts(scan)
        finally:
            scan.key_bins.close()
        restore_started = time.perf_counter()
        restored = write_models(
            self.context,
            self.work.segments,
            self.work.twins,
            self.work.shards,
            cuts,
            self.stagings,
        )
        seconds = {
            "scan_seconds": restore_started - scan_started,
            "restore_seconds": time.perf_counter() - restore_started,
        }
        results = [
            self._describe(scan, placed, done, staging, started, seconds)
            for placed, done, staging in zip(cuts, restored, self.stagings, strict=True)
        ]
        prepared = [
            self._prepare(result, staging)
            for result, staging in zip(results, self.stagings, strict=True)
        ]
        self._publish(prepared)
        return tuple(
            dataclasses.replace(
                result,
                seconds=time.perf_counter() - started,
                peak_rss_bytes=peak_resident_bytes(),
            )
            for result in results
        )

    def _place_cuts(self, scan: Scan) -> list[PlacedCut]:
        found = [
            find_bin(scan.keys, percent=percent, selected=count, strategy=self.request.strategy)
            for percent, count in zip(self.request.percents, self.work.counts, strict=True)
        ]
        if not self.work.refines:
            return place_at_bins(scan, found)
        return place_at_keys(self.context, scan, found)

    def _describe(
        self,
        scan: Scan,
        placed: PlacedCut,
        done: Restored,
        staging: Staging,
        started: float,
        seconds: dict[str, float],
    ) -> Restoration:
        request, cut = self.request, placed.cut
        elements = self.work.pairing.elements
        random = request.key_seed is not None
        chosen = done.scores if random else selected_histogram(scan.scores, cut)
        return Restoration(
            output=staging.output,
            region=request.region,
            strategy=request.strategy,
            percent=cut.percent,
            region_elements=elements,
            selected_elements=cut.selected,
            threshold=cut.threshold,
            exact=self._is_exact(),
            tie_first=cut.tie_first,
            tie_span=cut.tie_span,
            ties=cut.ties,
            ties_taken=cut.ties_taken,
            unchanged_share=scan.scores.unchanged() / elements,
            zero_base_share=scan.zero_base / elements,
            nonfinite=scan.nonfinite.total(),
            total_scores=describe_scores(scan.scores),
            selected_scores=describe_scores(chosen),
            tensors=self._tensor_results(scan, done),
            read_bytes=self.work.read_bytes,
            written_bytes=sum(shard.nbytes for shard in self.work.shards),
            seconds=time.perf_counter() - started,
            workers=self.work.sizing.workers,
            projected_bytes=self.work.sizing.projected_bytes,
            peak_rss_bytes=peak_resident_bytes(),
            **seconds,
        )

    def _is_exact(self) -> bool:
        """Whether the cut separates keys: refined, or through keys that are their bins."""
        random = self.request.key_seed is not None
        resolved = all(is_resolved(segment, random=random) for segment in self.work.segments)
        return self.work.refines or resolved

    def _tensor_results(self, scan: Scan, done: Restored) -> tuple[TensorResult, ...]:
        means = scan.tensor_means()
        return tuple(
            TensorResult(
                name=pair.name,
                kind=pair.place.kind,
                layer=pair.place.layer,
                module=pair.place.module,
                elements=pair.target.elements,
                restored=done.selected.get(pair.name, 0),
                mean_score=means.get(pair.name, 0.0),
            )
            for pair in self.work.pairing.pairs
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
        files = encode_reports(result, inputs, self.request.record(result.percent))
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


def _index(shards: Sequence[OutputShard]) -> bytes:
    weight_map = {name: shard.filename for shard in shards for name in shard.tensors}
    total = sum(tensor.nbytes for shard in shards for tensor in shard.tensors.values())
    return encode_index(weight_map, total)
