"""What is done with a finished model: verify it, push it."""

from __future__ import annotations

from ..hub.destination import check_writable, parse_destination
from ..inputs.reference import Reference
from ..machine.progress import Observer
from ..options.checks import (
    check_budget,
    check_flag,
    check_output,
    check_stream,
    check_workers,
)
from ..request import find_budget
from ..runs.pushed import Pushed
from ..upload.pushing import push_folder
from ..verification.verify import Verification, verify_folder


def verify(
    output: Reference,
    *,
    base: Reference | None = None,
    target: Reference | None = None,
    stream: str | None = None,
    workers: int | None = None,
    max_memory: int | str | None = None,
    observer: Observer | None = None,
) -> Verification:
    """Check every element of a finished model folder against its inputs.

    Parameters
    ----------
    output : str or path-like
        A folder that a restoration has written, with its ``shardrestore.json``.
    base, target : str or path-like, optional
        Where the inputs are now, if not where the record says.
    stream : str, optional
        ``base``, ``target`` or ``both``: read it from the Hub instead of downloading it.
    workers : int, optional
        Worker threads at most; one for each processor if left out.
    max_memory : int or str, optional
        Budget for the whole process, in bytes or as ``"512MiB"``. Left out, it is 512 MiB; what
        a process has loaded that is larger than the command line comes on top.
    observer : Observer, optional
        Told about the stage ``verify``.

    Returns
    -------
    Verification
        Whatever is wrong with the folder is a result, not an exception.

    Raises
    ------
    ShardRestoreError
        If there is no readable record, an input is gone or changed, or the budget
        is too small.
    """
    return verify_folder(
        output,
        base=base,
        target=target,
        streamed=check_stream("stream", stream),
        workers=check_workers("workers", workers),
        max_memory_bytes=find_budget(check_budget("max_memory", max_memory)),
        observer=observer,
    )


def push(
    output: Reference,
    repository: str,
    *,
    public: bool = False,
    revision: str | None = None,
    delete_after_upload: bool = False,
    observer: Observer | None = None,
) -> Pushed:
    """Upload a finished model to the Hub, in one commit.

    Parameters
    ----------
    output : str or path-like
        A folder that ``restore`` has written.
    repository : str
        ``ORG/NAME``. It is created if missing, and used as it is otherwise.
    public : bool
        Who may see a repository that is created: everybody, or only you (default).
    revision : str, optional
        The branch; created if missing. ``main`` if left out.
    delete_after_upload : bool
        Whether the weight files are deleted from `output` once the Hub confirms that the
        commit holds them. The reports stay, and a note that says where the weights are.
    observer : Observer, optional
        Told about the stage ``push``.

    Returns
    -------
    Pushed

    Raises
    ------
    ShardRestoreError
        The branch is as it was, and nothing has been deleted. What has been sent is not
        sent again by the next call.
    """
    return push_folder(
        check_output(output),
        parse_destination(repository, revision),
        public=check_flag("public", public),
        delete_after_upload=check_flag("delete_after_upload", delete_after_upload),
        observer=observer,
    )


def check_push(repository: str, *, revision: str | None = None) -> None:
    """Check that a model could be pushed, before it is made; nothing is created.

    Parameters
    ----------
    repository : str
        As for ``push``.
    revision : str, optional
        As for ``push``.

    Raises
    ------
    ShardRestoreError
        If the name is none, there is no token, or it does not allow to write there.
    """
    check_writable(parse_destination(repository, revision))
