"""What is done with a finished model: verify it, push it."""

from __future__ import annotations

from typing import Unpack

from ..hub.destination import check_writable, parse_destination
from ..inputs.reference import Reference
from ..machine.progress import Observer
from ..options.checks import check_flag, check_output
from ..options.documented import documents_options
from ..options.table import VerifyOptions, check_options
from ..request import find_budget
from ..upload.pushed import Pushed
from ..upload.pushing import push_folder
from ..verification.result import Verification
from ..verification.verify import verify_folder


@documents_options(VerifyOptions)
def verify(
    output: Reference,
    *,
    base: Reference | None = None,
    target: Reference | None = None,
    score: str | None = None,
    inputs: bool = False,
    observer: Observer | None = None,
    **options: Unpack[VerifyOptions],
) -> Verification:
    """Check every element of a finished model folder against its inputs.

    Parameters
    ----------
    output : str or path-like
        A folder that a restoration has written, with its ``shardrestore.json``.
    base, target : str or path-like, optional
        Where the inputs are now, if not where the record says.
    score : str, optional
        What its weights must be ranked by; whatever its record says if left out.
    inputs : bool
        Whether all weights of inputs on the Hub are read first, and compared with the SHA-256
        that their commits list.
    observer : Observer, optional
        Receives the progress of the stages ``inputs`` and ``verify``.
    **options
        See ``VerifyOptions``.

    Returns
    -------
    Verification
        Problems of the folder are part of it, not exceptions.

    Raises
    ------
    ShardRestoreError
        If there is no readable record, an input is gone or changed, or the budget
        is too small.
    """
    checked = check_options(options, VerifyOptions)
    return verify_folder(
        output,
        base=base,
        target=target,
        score=score,
        streamed=checked["stream"],
        follow_links=checked["follow_links"],
        hashes_inputs=check_flag("inputs", inputs),
        workers=checked["workers"],
        max_memory_bytes=find_budget(checked["max_memory"]),
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
        Whether everybody may see a repository that is created; by default only you may.
    revision : str, optional
        The branch; created if missing. ``main`` if left out.
    delete_after_upload : bool
        Whether the weight files are deleted from `output` once the Hub confirms that the
        commit holds them. The reports stay, and a note that says where the weights are.
    observer : Observer, optional
        Receives the progress of the stage ``push``.

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
