"""Results as plain JSON values: what ``--json`` prints of each."""

from __future__ import annotations

from typing import Any

from ..documents import to_json
from ..figures.overview import Overview
from ..figures.planned import Plan
from ..figures.restoration import RestorationReport
from ..upload.pushed import Pushed
from ..verification.result import Verification

Result = RestorationReport | Plan | Overview | Verification | Pushed


def summarize(result: Result) -> dict[str, Any]:
    """Return what ``--json`` prints of a result, as plain JSON values.

    Parameters
    ----------
    result : RestorationReport, Plan, Overview, Verification or Pushed

    Examples
    --------
    >>> summarize(restore("llama", "llama-sft", "restored"))["ties"]  # doctest: +SKIP
    1417
    """
    members: dict[str, Any] = to_json(result)
    return members
