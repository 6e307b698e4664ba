"""One model, several at once, several targets; and what was left unfinished."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from ..errors import RequestError
from ..figures.restoration import Restoration
from ..hub.destination import check_writable, parse_destination
from ..inputs.reference import Reference
from ..machine.progress import Observer, SilentObserver
from ..machine.stopwatch import Stopwatch
from ..names import JOURNAL_FILE, STAGING_FOLDER
from ..options.checks import check_flag, check_output
from ..options.documented import documents_options
from ..options.table import DEFAULT_PERCENT, Options
from ..request import Request, make_request
from ..runs.runner import run
from ..runs.session import Session
from ..runs.targets import TargetOutcome, run_targets
from ..upload.each_shard import UploadEachShard
from ..upload.pushed import Pushed
from ..upload.pushing import push_folder


@documents_options(Options)
def restore(
    base: Reference,
    target: Reference,
    output: Reference,
    *,
    percent: float = DEFAULT_PERCENT,
    observer: Observer | None = None,
    **options: Unpack[Options],
) -> Restoration:
    """Restore a share of a fine-tuned model's weights and write the result.

    Parameters
    ----------
    base : str or path-like
        The checkpoint before fine-tuning: a folder, or a repository on the Hub.
    target : str or path-like
        The checkpoint after it: also a folder or a repository.
    output : str or path-like
        Folder to write: a complete model with reports. Created if missing.
    percent : float
        Share of the region's elements to restore, above 0, at most 100.
    observer : Observer, optional
        Receives progress.
    **options
        See ``Options``.

    Returns
    -------
    Restoration

    Raises
    ------
    ShardRestoreError
        Nothing that was there is lost; what is finished may be kept for ``resume``,
        see ``ShardRestoreError.resumable``.

    Examples
    --------
    >>> result = restore("llama", "llama-sft", "restored", percent=10)  # doctest: +SKIP
    >>> result.selected_elements  # doctest: +SKIP
    97307852
    """
    watch = Stopwatch()
    request = _request_one(percent, options)
    with Session(base, target, request) as session:
        (result,) = run(session, [check_output(output)], observer, watch)
        return result


@documents_options(Options)
def restore_to_hub(
    base: Reference,
    target: Reference,
    output: Reference,
    repository: str,
    *,
    percent: float = DEFAULT_PERCENT,
    public: bool = False,
    revision: str | None = None,
    observer: Observer | None = None,
    **options: Unpack[Options],
) -> tuple[Restoration, Pushed]:
    """Restore and upload a model shard by shard, on a disk that holds one of them.

    Each complete shard is sent to the Hub, which confirms that it has it, and deleted
    before the next is begun. One commit at the end holds the whole model. It leaves what
    ``restore`` and ``push(…, delete_after_upload=True)`` leave, there and here.

    Parameters
    ----------
    base, target : str or path-like
        As for ``restore``.
    output : str or path-like
        Folder for everything but the weights, and a note that says where these are.
    repository : str
        As for ``push``.
    percent : float
        As for ``restore``.
    public : bool
        As for ``push``.
    revision : str, optional
        As for ``push``.
    observer : Observer, optional
        Receives progress; ``restore_and_push`` and ``push`` are the stages that
        send.
    **options
        See ``Options``. With ``resume`` it continues an unfinished call for the same
        repository and branch.

    Returns
    -------
    tuple of Restoration and Pushed
        The time of the first is without that of sending.

    Raises
    ------
    ShardRestoreError
        As for ``restore``. The branch is as it was, or holds the whole model.
    """
    watch = Stopwatch()
    request = _request_one(percent, options)
    public = check_flag("public", public)
    destination, path = parse_destination(repository, revision), check_output(output)
    check_writable(destination)
    watcher = observer or SilentObserver()
    sink = UploadEachShard(destination, public=public, observer=watcher, watch=watch)
    with Session(base, target, request) as session:
        (result,) = run(session, [path], watcher, watch, sink)
    if sink.pushed is None:  # it was finished already, with its weights here or there
        return result, push_folder(
            path, destination, public=public, delete_after_upload=True, observer=watcher
        )
    return result, sink.pushed


def _request_one(percent: float, options: Options) -> Request:
    request = make_request([percent], options)
    if len(request.names) > 1:
        raise RequestError(
            f"{len(request.names)} models are asked for, {', '.join(request.names)}: restore "
            "writes one, sweep writes several"
        )
    return request


@documents_options(Options)
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
        Shares to restore, by each strategy in each region of the options.
    observer : Observer, optional
        Receives progress.
    **options
        See ``Options``.

    Returns
    -------
    tuple of Restoration
        Region by region, then strategy by strategy, then percent by percent.

    Raises
    ------
    ShardRestoreError
        As for ``restore``: all models get their names, or none.
    """
    watch = Stopwatch()
    request = make_request(tuple(percents), options)
    path = check_output(output)
    with Session(base, target, request) as session:
        return run(session, [path / name for name in request.names], observer, watch)


@documents_options(Options)
def sweep_targets(
    base: Reference,
    targets: Sequence[Reference],
    output: Reference,
    *,
    percents: Sequence[float],
    observer: Observer | None = None,
    **options: Unpack[Options],
) -> tuple[TargetOutcome, ...]:
    """Sweep several models that were fine-tuned from one base, one after the other.

    Parameters
    ----------
    base : str or path-like
    targets : sequence of str or path-like
        Their folders' names must differ.
    output : str or path-like
        Each model goes into ``<target's name>/restore_<region>_<strategy>_<percent>pct``.
    percents : sequence of float
    observer : Observer, optional
    **options
        As for ``sweep``, except a profile, which belongs to one target.

    Returns
    -------
    tuple of TargetOutcome
        In the order of `targets`. A target that fails does not keep the others
        from being restored: see ``TargetOutcome.error``.

    Raises
    ------
    RequestError, OutputError
        If the request makes no sense for any target, or the disk is too small
        for all of them; nothing has been written then.
    """
    request = make_request(tuple(percents), options)
    return run_targets(base, targets, check_output(output), request, observer)


def find_unfinished(output: Reference) -> tuple[Path, ...]:
    """Return the outputs in and below a folder whose run was not finished and can be resumed.

    Parameters
    ----------
    output : str or path-like
        As for ``restore``, ``sweep`` or ``sweep_targets``.
    """
    path = check_output(output)
    journals = (
        journal
        for depth in ("", "*/", "*/*/")
        for journal in path.glob(f"{depth}{STAGING_FOLDER}/{JOURNAL_FILE}")
    )
    return tuple(journal.parent.parent for journal in journals)
