"""The public functions: plan a restoration, carry out one, or a sweep of them."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from .checkpoint.acceptance import check_accepted
from .checkpoint.folder import Checkpoint, open_checkpoint
from .checkpoint.index import INDEX_FILE, encode_index
from .checkpoint.writer import Staging, check_output, free_bytes
from .errors import OutputError
from .kernels.interface import load_kernels
from .passes.layout import OutputShard
from .passes.memory import Sizing
from .passes.meter import peak_resident_bytes
from .passes.plan import RegionSurvey, Work, plan_work, survey_regions
from .passes.progress import Observer, SerialObserver, SilentObserver
from .passes.refine import PlacedCut, place_at_bins, place_at_keys
from .passes.restore import Restored
from .passes.restore import restore as write_models
from .passes.scan import Scan, refuse_nonfinite
from .passes.scan import scan as scan_region
from .report.files import encode_json, encode_reports
from .report.result import Restoration, TensorResult
from .request import Options, Request, make_request
from .selection.cut import find_bin, selected_histogram
from .selection.histogram import summarize

Reference = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request would do, from headers alone."""

    base: Path
    target: Path
    base_bytes: int
    """Size of the base's weight files."""
    target_bytes: int
    """Size of the target's weight files."""
    region: str
    regions: tuple[RegionSurvey, ...]
    """What each region would mean for these checkpoints."""
    percents: tuple[float, ...]
    tensors: int
    """Tensors of the region."""
    region_elements: int
    selected_elements: tuple[int, ...]
    """Elements that would be restored, one number for each percent."""
    reads: int
    """How often the region is read: 2, or 3 with the refining scan."""
    read_bytes: int
    written_bytes: int
    disk_needed_bytes: int
    disk_free_bytes: int | None
    """Free space where the output would be; None without an output."""
    side_files: tuple[str, ...]
    """Files that would be copied as they are."""
    sizing: Sizing
    """Workers, block size and projected memory."""
    max_memory_bytes: int


def plan(
    base: Reference,
    target: Reference,
    output: Reference | None = None,
    *,
    percent: float | Sequence[float] = 10.0,
    **options: Unpack[Options],
) -> Plan:
    """Say what a restoration would do; reads headers, writes nothing.

    Parameters
    ----------
    base, target : str or path-like
        The two checkpoint folders.
    output : str or path-like, optional
        Where the result would go: its free space is looked up.
    percent : float or sequence of float
        Share of the region to restore.
    **options
        See ``Options``.

    Raises
    ------
    ShardRestoreError
        For whatever would stop the restoration before its first read, but for
        the state of the output folder.
    """
    percents = (percent,) if isinstance(percent, int | float) else tuple(percent)
    request = make_request(percents, options)
    with open_checkpoint(base, "base") as opened_base, open_checkpoint(target, "target") as opened:
        work = _plan_work(opened_base, opened, request)
        return Plan(
            base=opened_base.folder,
            target=opened.folder,
            base_bytes=opened_base.nbytes,
            target_bytes=opened.nbytes,
            region=request.region,
            regions=survey_regions(
                opened_base,
                opened,
                request.admitted,
                renames=request.renames,
                dtype=request.dtype,
            ),
            percents=request.percents,
            tensors=len(work.pairing.pairs),
            region_elements=work.pairing.elements,
            selected_elements=work.counts,
            reads=3 if work.refines and request.key_seed is None else 2,
            read_bytes=work.read_bytes,
            written_bytes=work.written_bytes,
            disk_needed_bytes=work.disk_bytes,
            disk_free_bytes=None if output is None else free_bytes(Path(output)),
            side_files=tuple(file.name for file in opened.side_files),
            sizing=work.sizing,
            max_memory_bytes=request.max_memory_bytes,
        )


def restore(
    base: Reference,
    target: Reference,
    output: Reference,
    *,
    percent: float = 10.0,
    observer: Observer | None = None,
    **options: Unpack[Options],
) -> Restoration:
    """Restore a share of a fine-tuned model's weights and write the result.

    Parameters
    ----------
    base : str or path-like
        Folder of the checkpoint before fine-tuning.
    target : str or path-like
        Folder of the checkpoint after it.
    output : str or path-like
        Folder to write: a complete model with reports. Created if missing.
    percent : float
        Share of the region's elements to restore, above 0, at most 100.
    observer : Observer, optional
        Told about progress.
    **options
        See ``Options``.

    Returns
    -------
    Restoration

    Raises
    ------
    ShardRestoreError
        Nothing is left behind then, and nothing that was there is lost.

    Examples
    --------
    >>> result = restore("llama", "llama-sft", "restored", percent=10)  # doctest: +SKIP
    >>> result.selected_elements  # doctest: +SKIP
    97307852
    """
    (result,) = _run(base, target, [Path(output)], [percent], options, observer)
    return result


def sweep(
    base: Reference,
    target: Reference,
    output: Reference,
    *,
    percents: Sequence[float],
    observer: Observer | None = None,
    **options: Unpack[Options],
) -> tuple[Restoration, ...]:
    """Restore several shares at once; both inputs are read as often as for one.

    Parameters
    ----------
    base, target : str or path-like
        As for ``restore``.
    output : str or path-like
        Each model goes into its folder ``restore_<region>_<strategy>_<percent>pct``.
    percents : sequence of float
        Shares to restore.
    observer : Observer, optional
        Told about progress.
    **options
        See ``Options``.

    Returns
    -------
    tuple of Restoration
        In the order of `percents`.

    Raises
    ------
    ShardRestoreError
        As for ``restore``; either all models are written or none.
    """
    request = make_request(percents, options)
    outputs = [
        Path(output) / f"restore_{request.region}_{request.strategy}_{percent:g}pct"
        for percent in request.percents
    ]
    return _run(base, target, outputs, percents, options, observer)


def _run(
    base: Reference,
    target: Reference,
    outputs: Sequence[Path],
    percents: Sequence[float],
    options: Options,
    observer: Observer | None,
) -> tuple[Restoration, ...]:
    started = time.perf_counter()
    request = make_request(percents, options)
    with open_checkpoint(base, "base") as opened_base, open_checkpoint(target, "target") as opened:
        work = _plan_work(opened_base, opened, request)
        _check_outputs(outputs, (opened_base, opened), work, request)
        stagings: list[Staging] = []
        try:
            stagings.extend(Staging(output, overwrite=request.overwrite) for output in outputs)
            run = _Run(opened_base, opened, request, work, stagings, observer)
            return run.carry_out(started)
        except BaseException:
            for staging in reversed(stagings):
                staging.discard()
            raise


def _plan_work(base: Checkpoint, target: Checkpoint, request: Request) -> Work:
    return plan_work(
        base,
        target,
        request.admitted,
        renames=request.renames,
        percents=request.percents,
        dtype=request.dtype,
        cast=request.cast,
        approximate=request.approximate,
        random=request.key_seed is not None,
        workers=request.workers,
        max_memory_bytes=request.max_memory_bytes,
    )


def _check_outputs(
    outputs: Sequence[Path], inputs: Sequence[Checkpoint], work: Work, request: Request
) -> None:
    for output in outputs:
        resolved = output.resolve()
        for role, checkpoint in zip(("base", "target"), inputs, strict=True):
            folder = checkpoint.folder.resolve()
            if resolved == folder or folder in resolved.parents:
                relation = "is" if resolved == folder else "lies inside"
                raise OutputError(
                    f"{output}: {relation} the {role} {checkpoint.folder}: choose another --output"
                )
        check_output(output, overwrite=request.overwrite)
    free = free_bytes(outputs[0])
    if free < work.disk_bytes:
        raise OutputError(
            f"{outputs[0]}: not enough disk: {work.disk_bytes:,} bytes are needed, {free:,} are "
            "free: free some space or choose another --output"
        )


class _Run:
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
        self.shared: dict[str, Any] = {
            "kernels": load_kernels(),
            "sizing": work.sizing,
            "seed": request.key_seed,
            "observer": SerialObserver(observer or SilentObserver()),
        }

    def carry_out(self, started: float) -> tuple[Restoration, ...]:
        """Scan, cut, restore, report, publish."""
        scan_started = time.perf_counter()
        scan = scan_region(
            self.base,
            self.target,
            self.work.segments,
            self.work.twins,
            folder=self.stagings[0].folder,
            **self.shared,
        )
        try:
            if not self.request.allow_nonfinite:
                refuse_nonfinite(scan.nonfinite)
            cuts = self._place_cuts(scan)
        finally:
            scan.key_bins.close()
        restore_started = time.perf_counter()
        restored = write_models(
            self.base,
            self.target,
            self.work.segments,
            self.work.twins,
            self.work.shards,
            cuts,
            self.stagings,
            **self.shared,
        )
        seconds = {
            "scan_seconds": restore_started - scan_started,
            "restore_seconds": time.perf_counter() - restore_started,
        }
        results = [
            self._describe(scan, placed, done, staging, started, seconds)
            for placed, done, staging in zip(cuts, restored, self.stagings, strict=True)
        ]
        for result, staging in zip(results, self.stagings, strict=True):
            self._publish(result, staging)
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
        return place_at_keys(
            scan, found, self.base, self.target, folder=self.stagings[0].folder, **self.shared
        )

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
            exact=self.work.refines or all(pair.exact for pair in self.work.pairing.pairs),
            ties=cut.ties,
            ties_taken=cut.ties_taken,
            unchanged_share=scan.scores.unchanged() / elements,
            zero_base_share=scan.zero_base / elements,
            nonfinite=sum(scan.nonfinite.values()),
            total_scores=summarize(scan.scores),
            selected_scores=summarize(chosen),
            tensors=self._tensor_results(scan, done),
            read_bytes=self.work.read_bytes,
            written_bytes=sum(shard.nbytes for shard in self.work.shards),
            seconds=time.perf_counter() - started,
            workers=self.work.sizing.workers,
            projected_bytes=self.work.sizing.projected_bytes,
            peak_rss_bytes=peak_resident_bytes(),
            **seconds,
        )

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

    def _publish(self, result: Restoration, staging: Staging) -> None:
        inputs = {"base": self.base.identity(), "target": self.target.identity()}
        files = encode_reports(result, inputs, self.request.record(result.percent))
        for file in self.target.side_files:
            if file.name == "config.json" and self.request.cast:
                config = _recast_config(self.target.config, self.request.dtype)
                staging.write_file(file.name, encode_json(config))
            elif file.name not in files:
                staging.copy_file(file.name, file.source)
        for name, content in files.items():
            staging.write_file(name, content)
        names = [file.name for file in self.target.side_files if file.name not in files]
        names += files
        shard_names = [shard.filename for shard in self.work.shards]
        for name in shard_names:
            check_accepted(staging.folder / name)
        if self.target.indexed:
            staging.write_file(INDEX_FILE, _index(self.work.shards))
            shard_names.append(INDEX_FILE)
        staging.publish([*names, *shard_names])


def _index(shards: Sequence[OutputShard]) -> bytes:
    weight_map = {name: shard.filename for shard in shards for name in shard.tensors}
    total = sum(tensor.nbytes for shard in shards for tensor in shard.tensors.values())
    return encode_index(weight_map, total)


_TORCH_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def _recast_config(config: Any, dtype: str) -> Any:
    """Return a configuration that names the format its weights now have."""
    if not isinstance(config, dict):
        return config
    return {
        key: _TORCH_NAMES[dtype]
        if key in ("dtype", "torch_dtype") and isinstance(value, str)
        else _recast_config(value, dtype)
        for key, value in config.items()
    }
