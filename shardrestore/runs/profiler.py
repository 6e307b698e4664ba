"""Making a profile: pass 1 over every tensor that can be scored, kept in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.folder import Checkpoint
from ..checkpoint.selection import FilePolicy
from ..engine.job import Job
from ..inputs.download import Downloads, plan_downloads
from ..inputs.opened import Inputs, refuse_same
from ..inputs.reference import Reference, open_checkpoint
from ..machine.device import Device, find_device
from ..machine.meter import measure_runtime
from ..machine.progress import Observer, SilentObserver
from ..machine.stopwatch import Stopwatch
from ..machine.threads import ThreadExecutor
from ..pairing.filter import admitted_by
from ..pairing.matching import find_other_layers, match
from ..pairing.pairs import Pairing, survey
from ..pairing.problems import Problem
from ..pairing.ties import Ties, find_ties
from ..passes.context import Context
from ..passes.profiled import save_scan
from ..passes.scan import scan as scan_weights
from ..plan.segment import Segment
from ..plan.work import ScanWork, plan_scan
from ..profile.identity import identify
from ..request import Request
from .file import NewFile, check_file
from .outputs import Needs, check_disk
from .overlap import refuse_overlap
from .preparation import settle_ties


def make_profile(
    base: Reference,
    target: Reference,
    output: Path,
    request: Request,
    observer: Observer | None,
) -> None:
    """Scan two checkpoints and write their profile.

    Parameters
    ----------
    base, target : str or path-like
    output : Path
        The file to write; its folder is created if missing.
    request : Request
        For region ``all``.
    observer : Observer or None

    Raises
    ------
    ShardRestoreError
        Nothing is left behind then, and a profile that was there is kept.
    """
    limit = request.limits.max_memory_bytes
    runtime_bytes = measure_runtime()  # before anything is opened: that is counted by itself
    policy = FilePolicy(follow_links=request.follow_links)
    limits: dict[str, Any] = {"max_memory_bytes": limit, "policy": policy}
    with (
        open_checkpoint(base, "base", **limits) as opened_base,
        open_checkpoint(target, "target", **limits) as opened,
    ):
        refuse_same(opened_base, opened)
        check_file(output, "the profile", overwrite=request.overwrite)
        for role, checkpoint in (("base", opened_base), ("target", opened)):
            refuse_overlap(output, role, checkpoint)
        downloads = plan_downloads(opened_base, opened, request.streamed, side_files=False)
        device = find_device(request.devices, limit, request.scoring.score)

        def plan(ties: Ties) -> _Planned:
            return _plan(opened_base, opened, request, ties, downloads, device, runtime_bytes)

        planned = plan(find_ties(opened, admitted_by(request.filters)))

        def untie(differences: Mapping[str, int]) -> tuple[Sequence[Segment], Job]:
            nonlocal planned
            planned = plan(planned.ties.split(differences, opened))
            return planned.work.twins, planned.job

        spool_bytes = planned.work.spool_bytes
        needs = Needs(outputs=[(output, spool_bytes)], spool_bytes=spool_bytes)
        check_disk(output, needs, downloads)
        watched = observer or SilentObserver()
        downloads.carry_out(planned.work.sizing.downloads, watched, Stopwatch())
        inputs = {"base": identify(opened_base), "target": identify(opened)}
        with NewFile(output, overwrite=request.overwrite) as file:
            context = Context(
                job=planned.job, executor=ThreadExecutor(), observer=watched, folder=file.folder
            )
            context = settle_ties(context, planned.work.twins, untie)
            with downloads.checking() as content:
                scan = scan_weights(context, planned.work.segments)
                with closing(scan.histograms):
                    content.finish()
                    save_scan(
                        file.path,
                        scan,
                        planned.pairing.pairs,
                        inputs,
                        request.scoring,
                        request.granularity,
                        problems=planned.problems,
                    )
            opened_base.check_unchanged()
            opened.check_unchanged()
            file.publish()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A scan, as far as what is tied is known."""

    ties: Ties
    pairing: Pairing
    problems: tuple[Problem, ...]
    work: ScanWork
    job: Job


def _plan(
    base: Checkpoint,
    target: Checkpoint,
    request: Request,
    ties: Ties,
    downloads: Downloads,
    device: Device,
    runtime_bytes: int,
) -> _Planned:
    pairing, problems = _pair(base, target, request, ties)
    work = plan_scan(
        base,
        target,
        pairing,
        downloads=downloads,
        device=device,
        granularity=request.granularity,
        limits=request.limits,
        runtime_bytes=runtime_bytes,
    )
    job = Job(
        inputs=Inputs(base, target),
        device=device,
        sizing=work.sizing,
        granularity=request.granularity,
        scoring=request.scoring,
        seed=request.seed,
        allow_nonfinite=True,
        kernel_set=request.kernel_set,
    )
    return _Planned(ties=ties, pairing=pairing, problems=problems, work=work, job=job)


def _pair(
    base: Checkpoint, target: Checkpoint, request: Request, ties: Ties
) -> tuple[Pairing, tuple[Problem, ...]]:
    """Pair whatever can be paired; nothing at all, or other layers, are an error that says why."""
    (admitted,), scoring = request.filters, request.scoring
    pairing, problems = survey(base, target, admitted, scoring, ties)
    others = find_other_layers(base, target, pairing, scoring)
    if not pairing.elements or (others and not admitted.allow_unpaired):
        match(base, target, admitted, scoring, ties)
    return pairing, problems
