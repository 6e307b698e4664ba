"""Making a profile: pass 1 over every tensor that can be scored, kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checkpoint.folder import Checkpoint
from ..checkpoint.selection import FilePolicy
from ..engine.job import Job
from ..inputs.download import plan_downloads
from ..inputs.opened import Inputs
from ..inputs.reference import Reference, open_checkpoint
from ..machine.device import find_device
from ..machine.meter import measure_runtime
from ..machine.progress import Observer, SilentObserver
from ..machine.stopwatch import Stopwatch
from ..machine.threads import ThreadExecutor
from ..pairing.pairs import Pairing, Problem, match, survey
from ..passes.context import Context
from ..passes.profiled import save_scan
from ..passes.scan import scan as scan_weights
from ..plan.work import plan_scan
from ..profile.identity import identify
from ..request import Request
from .file import NewFile, check_file
from .outputs import Needs, check_disk
from .overlap import refuse_overlap


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
    policy = FilePolicy(follow_links=request.follow_links)
    limits: dict[str, Any] = {"max_memory_bytes": limit, "policy": policy}
    with (
        open_checkpoint(base, "base", **limits) as opened_base,
        open_checkpoint(target, "target", **limits) as opened,
    ):
        check_file(output, "the profile", overwrite=request.overwrite)
        for role, checkpoint in (("base", opened_base), ("target", opened)):
            refuse_overlap(output, role, checkpoint)
        pairing, problems = _pair(opened_base, opened, request)
        downloads = plan_downloads(opened_base, opened, request.streamed, side_files=False)
        device = find_device(request.devices, limit, request.scoring.score)
        work = plan_scan(
            opened_base,
            opened,
            pairing,
            downloads=downloads,
            device=device,
            limits=request.limits,
            runtime_bytes=measure_runtime(),
        )
        needs = Needs(outputs=[(output, work.spool_bytes)], spool_bytes=work.spool_bytes)
        check_disk(output, needs, downloads)
        watched = observer or SilentObserver()
        downloads.carry_out(work.sizing.downloads, watched, Stopwatch())
        inputs = {"base": identify(opened_base), "target": identify(opened)}
        with NewFile(output, overwrite=request.overwrite) as file:
            context = Context(
                job=Job(
                    inputs=Inputs(opened_base, opened),
                    device=device,
                    sizing=work.sizing,
                    scoring=request.scoring,
                    seed=request.seed,
                    allow_nonfinite=True,
                ),
                executor=ThreadExecutor(),
                observer=watched,
                folder=file.folder,
            )
            scan = scan_weights(context, work.segments, work.twins)
            try:
                save_scan(
                    file.path,
                    scan,
                    pairing.pairs,
                    inputs,
                    request.scoring,
                    problems=problems,
                )
            finally:
                scan.histograms.close()
            opened_base.check_unchanged()
            opened.check_unchanged()
            file.publish()


def _pair(
    base: Checkpoint, target: Checkpoint, request: Request
) -> tuple[Pairing, tuple[Problem, ...]]:
    """Pair whatever can be paired; nothing at all is an error that says why."""
    pairing, problems = survey(base, target, request.filters[0], request.scoring)
    if not pairing.elements:
        match(base, target, request.filters[0], request.scoring)
    return pairing, problems
