"""What a run is: inputs and options that must be the same for another one to resume it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..checkpoint.folder import Checkpoint
from .journal import JOURNAL_FORMAT
from .session import Session


def describe_run(session: Session, sink: Mapping[str, object]) -> dict[str, Any]:
    """Return what a run is, as JSON values.

    Parameters
    ----------
    session : Session
    sink : mapping
        What its sink says of itself, see ``ShardSink.identity``.
    """
    request = session.request
    return {
        "format": JOURNAL_FORMAT,
        "base": _identify(session.base),
        "target": _identify(session.target),
        "models": [
            request.record(goal.region.name, goal.strategy, goal.percent)
            for goal in session.work.goals
        ],
        "checksum": request.checksum,
        # What was begun before pairs of two formats were scored in the target's scores otherwise.
        **({"rounded": True} if session.rounds_base else {}),
        **sink,
    }


def find_difference(recorded: Any, asked: Any, where: str = "") -> str | None:
    """Say where two JSON documents differ first, with both values; None if nowhere."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for key in [*asked, *(key for key in recorded if key not in asked)]:
            place = f"{where} {key}".strip()
            if key not in recorded or key not in asked:
                return f"{place} is {'new' if key in asked else 'gone'}"
            difference = find_difference(recorded[key], asked[key], place)
            if difference:
                return difference
        return None
    if isinstance(recorded, list) and isinstance(asked, list) and len(recorded) == len(asked):
        pairs = enumerate(zip(recorded, asked, strict=True), start=1)
        return next(
            (d for n, (old, new) in pairs if (d := find_difference(old, new, f"{where} {n}"))), None
        )
    if recorded != asked:
        return f"{where} was {json.dumps(recorded)[:80]}, it is {json.dumps(asked)[:80]}"
    return None


def _identify(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what must be the same of a checkpoint: weights, and what lies beside them."""
    shards = {
        shard.filename: {**shard.source.identity(), "header_sha256": shard.header.sha256()}
        for shard in checkpoint.shards
    }
    side_files = {file.name: file.identity() for file in checkpoint.side_files.copied}
    return {"shards": shards, "side_files": side_files}
