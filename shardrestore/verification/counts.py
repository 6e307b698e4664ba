"""A record's counts: against each other, and against what base and target hold."""

from __future__ import annotations

import math

from ..pairing.pairs import Pairing
from ..selection.score import score_of_key
from .findings import Findings
from .record import Record
from .tally import TieTally


def check_record(record: Record, findings: Findings) -> None:
    """Check that a record does not contradict itself."""
    where = record.where
    selected = int(record.region_elements * record.percent / 100.0)
    if record.selected_elements != selected:
        findings.add(
            f"{where}: selected_elements is {record.selected_elements}, but {record.percent:.15g} "
            f"% of {record.region_elements} elements is {selected}"
        )
    if not 0 < record.ties_taken <= record.ties:
        findings.add(
            f"{where}: ties_taken is {record.ties_taken}, expected a number from 1 to ties, "
            f"{record.ties}"
        )
    threshold = _threshold(record)
    if record.threshold != threshold:
        findings.add(
            f"{where}: threshold is {record.threshold}, but tie_first_key {record.tie_first_key} "
            f"means {threshold}"
        )


def _threshold(record: Record) -> float | None:
    """Return the threshold that a record's first tying key means; JSON has no infinity."""
    score = score_of_key(record.tie_first_key)
    return score if record.strategy != "random" and math.isfinite(score) else None


def check_counts(record: Record, pairing: Pairing, tally: TieTally, findings: Findings) -> None:
    """Compare what a record counts with what base and target hold."""
    where = record.where
    if record.region_elements != pairing.elements:
        findings.add(
            f"{where}: region_elements is {record.region_elements}, the region has "
            f"{pairing.elements}"
        )
    if record.ties != tally.ties:
        findings.add(f"{where}: ties is {record.ties}, base and target have {tally.ties}")
    if record.selected_elements != tally.beyond + record.ties_taken:
        findings.add(
            f"{where}: selected_elements is {record.selected_elements}, but {tally.beyond} "
            f"elements lie beyond the cut and {record.ties_taken} ties are taken"
        )
