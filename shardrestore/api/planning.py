"""What a restoration would do, from headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

from ..figures.planned import Plan
from ..inputs.reference import Reference
from ..options.checks import check_flag, check_output
from ..options.documented import documents_options
from ..options.table import DEFAULT_PERCENT, Options
from ..request import make_request
from ..runs.planner import make_plan


@documents_options(Options)
def plan(
    base: Reference,
    target: Reference,
    output: Reference | None = None,
    *,
    percent: float | Sequence[float] = DEFAULT_PERCENT,
    delete_after_upload: bool = False,
    **options: Unpack[Options],
) -> Plan:
    """Say what a restoration would do; reads headers, writes nothing.

    Parameters
    ----------
    base, target : str or path-like
        The two checkpoints: folders, or repositories on the Hub.
    output : str or path-like, optional
        Where the result would go. It is looked at, not written.
    percent : float or sequence of float
        Share of the region to restore; a sequence means a ``sweep``, and so do
        several regions or strategies.
    delete_after_upload : bool
        Whether the disk is that of ``restore_to_hub``, which holds one shard at a time.
    **options
        See ``Options``.

    Raises
    ------
    ShardRestoreError
        For anything that would stop the restoration before its first read, except
        an output that cannot be written: see ``Plan.output_problem``.
    """
    swept = isinstance(percent, Iterable)
    request = make_request(tuple(percent) if isinstance(percent, Iterable) else [percent], options)
    return make_plan(
        base,
        target,
        check_output(output) if output else None,
        request,
        swept=swept or len(request.names) > 1,
        one_by_one=check_flag("delete_after_upload", delete_after_upload),
    )
