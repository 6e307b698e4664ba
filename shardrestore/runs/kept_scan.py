"""The scan of an unfinished run, kept so that its weights are not read for it again."""

from __future__ import annotations

from contextlib import suppress

from ..checkpoint.allowance import Allowance
from ..errors import ProfileError
from ..names import SCAN_FILE
from ..output.admission import exists
from ..output.staging import Staging
from ..passes.profiled import save_scan
from ..passes.scan import Scan
from ..profile.file import Profile
from .session import Session


def keep_scan(scan: Scan, session: Session, staging: Staging) -> None:
    """Save a scan in a hidden folder; it is on disk when this returns."""
    pairs = {segment.pair.name: segment.pair for segment in scan.segments}
    inputs = {"base": session.base.identity(), "target": session.target.identity()}
    save_scan(
        staging.unfinished_path(SCAN_FILE),
        scan,
        list(pairs.values()),
        inputs,
        session.request.scoring,
        session.request.granularity,
    )
    staging.complete(SCAN_FILE)


def open_kept_scan(session: Session, staging: Staging) -> Profile | None:
    """Open what an earlier run has scanned; None if there is nothing, or it is damaged."""
    path = staging.folder / SCAN_FILE
    if exists(path):
        with suppress(ProfileError):
            allowance = Allowance(session.request.limits.max_memory_bytes)
            return Profile(path, session.request.granularity, allowance)
    return None
