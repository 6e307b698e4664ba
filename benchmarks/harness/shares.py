"""Traced runs as shares: of the wall time by phase, of the workers' time by activity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .table import Row, Table, summarize
from .trace import ACTIVITIES, LAST_SYNC, SYNC

REST = "Python, its lock, idleness"
OUTSIDE = "start, cuts, reports, names"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What one traced run says, in seconds."""

    run_seconds: float
    """All of it, except the interpreter's start."""
    wall_seconds: Mapping[str, float]
    """By phase."""
    worker_seconds: Mapping[str, float]
    """Workers times wall time, by phase."""
    seconds: Mapping[str, Mapping[str, float]]
    """Of all threads together: by phase, by activity."""

    def activity_shares(self, phase: str) -> dict[str, float]:
        """Return the share of the workers' time in a phase that each activity takes."""
        total = self.worker_seconds[phase]
        known = {
            activity: self.seconds.get(phase, {}).get(activity, 0.0) / total
            for activity in ACTIVITIES
        }
        return {**known, REST: max(0.0, 1 - sum(known.values()))}

    def phase_shares(self) -> dict[str, float]:
        """Return the share of the wall time that each phase takes."""
        shares = {phase: seconds / self.run_seconds for phase, seconds in self.wall_seconds.items()}
        return {**shares, OUTSIDE: 1 - sum(shares.values())}

    def sync_share(self, phase: str) -> float:
        """Return the share of a phase in which the disk was waited for, beside the workers."""
        return self.seconds.get(phase, {}).get(SYNC, 0.0) / self.wall_seconds[phase]


def tabulate_shares(runs: Sequence[Traced]) -> Table:
    """Return the table of where the time goes, medians of several runs."""
    phases = [phase for phase in runs[0].wall_seconds if phase != LAST_SYNC]
    rows: list[Row] = [
        ("wall time", *(_percent([run.phase_shares()[phase] for run in runs]) for phase in phases))
    ]
    rows += [
        (
            activity,
            *(_percent([run.activity_shares(phase)[activity] for run in runs]) for phase in phases),
        )
        for activity in (*ACTIVITIES, REST)
    ]
    rows.append(
        (
            "beside them: the syncing thread waits for the disk",
            *(_percent([run.sync_share(phase) for run in runs]) for phase in phases),
        )
    )
    others = ", ".join(
        f"{phase} {_percent([run.phase_shares()[phase] for run in runs])}"
        for phase in (LAST_SYNC, OUTSIDE)
        if phase in runs[0].phase_shares()
    )
    caption = (
        "Where the time goes: share of each phase in the wall time (besides: "
        f"{others}), then shares of the workers' time within it"
    )
    return Table(caption=caption, head=("", *phases), rows=tuple(rows))


def _percent(shares: Sequence[float]) -> str:
    return f"{summarize(shares).median:.1%}".replace("%", " %")
