"""Several fine-tuned models of one base, restored one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RequestError, ShardRestoreError
from ..figures.restoration import Restoration
from ..inputs.download import Downloads, Need, unite_downloads
from ..inputs.reference import Reference, name_reference, open_checkpoint
from ..machine.device import find_device
from ..machine.progress import Observer
from ..machine.stopwatch import Stopwatch
from ..request import Request
from .finished import read_finished
from .outputs import (
    Needs,
    check_disk,
    check_outputs,
    find_needs,
)
from .overlap import refuse_overlap
from .runner import run
from .session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOutcome:
    """What became of one target."""

    target: str
    """As it was named."""
    restorations: tuple[Restoration, ...]
    """What was written; empty after an error."""
    error: ShardRestoreError | None
    """Why nothing was written."""


def run_targets(
    base: Reference,
    targets: Sequence[Reference],
    output: Path,
    request: Request,
    observer: Observer | None,
) -> tuple[TargetOutcome, ...]:
    """Restore each target into a folder of its own, whatever becomes of the others.

    All of them are planned first: one that cannot be restored is known, and the
    disk is found to be large enough for the rest, before a weight is read.

    Raises
    ------
    RequestError
        If two targets have one name, or a profile is given.
    DeviceError
        If there is no such device.
    OutputError
        If the disk is too small, or an output lies inside a target.
    """
    if request.profile is not None:
        raise RequestError(
            f"profile {request.profile}: is of one target, {len(targets)} are named: run them "
            "one by one, each with its own"
        )
    if isinstance(targets, (str, os.PathLike)) or not targets:
        raise RequestError(f"targets {targets!r}: expected a list of folders, at least one")
    # What is wrong with it is said once.
    find_device(request.devices, request.max_memory_bytes, request.scoring.score)
    names = _name_targets(targets)
    outputs = {name: [output / name / variant for variant in request.names] for name in names}
    _refuse_overlaps(
        base,
        names.values(),
        [place for some in outputs.values() for place in some],
        request,
    )
    failed = _check_all(base, names, outputs, output, request)
    outcomes = []
    for name, target in names.items():
        error = failed.get(name)
        results: tuple[Restoration, ...] = ()
        if error is None:
            try:
                watch = Stopwatch()
                with Session(base, target, request) as session:
                    results = run(session, outputs[name], observer, watch)
            except ShardRestoreError as raised:
                error = raised
        outcomes.append(TargetOutcome(target=os.fspath(target), restorations=results, error=error))
    return tuple(outcomes)


def _name_targets(targets: Sequence[Reference]) -> dict[str, Reference]:
    """Return the targets by the name of their folder."""
    names: dict[str, Reference] = {}
    for target in targets:
        name = name_reference(target, "target")
        if name in names:
            raise RequestError(
                f"two targets are called {name!r}, {os.fspath(names[name])} and "
                f"{os.fspath(target)}: their outputs would be one folder; run them one by one"
            )
        names[name] = target
    return names


def _refuse_overlaps(
    base: Reference,
    targets: Iterable[Reference],
    outputs: Sequence[Path],
    request: Request,
) -> None:
    """Refuse outputs that overlap any input, also a target that cannot be restored."""
    for role, reference in (("base", base), *(("target", target) for target in targets)):
        try:
            checkpoint = open_checkpoint(
                reference,
                role,
                max_memory_bytes=request.max_memory_bytes,
                policy=request.policy(role),
            )
        except ShardRestoreError:
            if role == "base":
                raise
            continue  # that target's failure, reported with the others
        with checkpoint:
            for output in outputs:
                refuse_overlap(output, role, checkpoint)


def _check_all(
    base: Reference,
    targets: dict[str, Reference],
    outputs: dict[str, list[Path]],
    output: Path,
    request: Request,
) -> dict[str, ShardRestoreError]:
    """Plan every target; return those that cannot be restored, with the reason."""
    failed: dict[str, ShardRestoreError] = {}
    needs: list[Need] = []
    downloads: list[Downloads] = []
    spool_bytes = 0
    for name, target in targets.items():
        try:
            with Session(base, target, request) as session:
                if request.resume and read_finished(session, outputs[name]) is not None:
                    continue
                check_outputs(outputs[name], session)
                found = find_needs(outputs[name], session, resumes=request.resume)
                needs += found.outputs
                downloads.append(session.downloads)
                spool_bytes = max(spool_bytes, found.spool_bytes)
        except ShardRestoreError as error:
            failed[name] = error
    if needs:
        together = Needs(outputs=needs, spool_bytes=spool_bytes)
        check_disk(output, together, unite_downloads(downloads))
    return failed
