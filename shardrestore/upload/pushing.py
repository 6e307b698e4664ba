"""A finished model, uploaded to the Hub."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..checkpoint.config import read_config
from ..checkpoint.entry import show
from ..checkpoint.folder import read_header
from ..checkpoint.source import LocalFile
from ..checkpoint.weights import index_beside
from ..errors import CheckpointError
from ..hub.destination import Destination, check_writable
from ..hub.upload import Commit, Upload, confirm_files
from ..machine.progress import Observer, SilentObserver
from ..machine.stopwatch import Stopwatch
from ..names import (
    CHECKSUM_FILE,
    JOURNAL_FILE,
    RECORD_FILE,
    STAGING_FOLDER,
    UPLOADED_FILE,
)
from ..output.admission import exists
from ..output.checksum import hash_file
from ..output.lock import locked
from ..output.publication import is_old_weight
from ..output.uploaded import Uploaded, UploadedFile, read_uploaded, write_uploaded
from ..output.writer import explain_write_error
from ..verification.record import read_record
from .contents import Contents, find_contents, weigh
from .pushed import Pushed


def push_folder(
    output: Path,
    destination: Destination,
    *,
    public: bool,
    delete_after_upload: bool,
    observer: Observer | None,
) -> Pushed:
    """Upload a finished model in one commit.

    Parameters
    ----------
    output : Path
    destination : Destination
        Repository and branch; created if missing.
    public : bool
        Who may see a repository that is created.
    delete_after_upload : bool
        Whether the weight files are deleted once the Hub confirms that the commit
        holds them; a note says where they are.
    observer : Observer or None

    Raises
    ------
    CheckpointError
        If the folder is no finished model.
    OutputError
        If a run is writing into it.
    HubError
        Nothing has been deleted then, and the branch is as it was.
    """
    watch = Stopwatch()
    weights = find_weights(output)
    with locked(output):
        uploaded = _find_uploaded(output, weights)
        if uploaded is not None:
            pushed = _finish_deletion(output, uploaded, destination, delete=delete_after_upload)
        else:
            check_writable(destination)
            pushed = _push(
                output,
                weights,
                destination,
                public=public,
                delete=delete_after_upload,
                observer=observer or SilentObserver(),
            )
    return replace(pushed, seconds=watch.elapsed)


def find_weights(output: Path) -> tuple[str, ...]:
    """Return the names of a finished model's weight files.

    They need not be there if a note says where they are.

    Raises
    ------
    CheckpointError
        If the folder is no finished model.
    """
    if output.is_dir() and not exists(output / RECORD_FILE):
        _refuse_unfinished(output)
        _refuse_parent(output)
    record = read_record(output)
    _refuse_unfinished(output)
    sizes = {shard.name: shard.nbytes for shard in record.target.shards}
    uploaded = read_uploaded(output)
    for name, nbytes in sizes.items():
        path = output / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise CheckpointError(f"{record.where}: damaged: {show(name)} is outside the folder")
        if uploaded and name in uploaded.nbytes and not exists(path):
            continue
        if not path.is_file():
            raise CheckpointError(f"{path}: missing: the model is not whole: restore again")
        found = path.stat().st_size
        if record.scoring.cast is None and found != nbytes and not _is_whole(path):
            raise CheckpointError(
                f"{path}: has {found:,} bytes, {nbytes:,} are right: restore again"
            )
    index = index_beside(tuple(sizes), read_config(output))
    if index is not None and not (output / index).is_file():
        raise CheckpointError(f"{output / index}: missing: restore again")
    return tuple(sizes)


def _is_whole(path: Path) -> bool:
    """Whether a shard is as long as its header says: it may lack what the target has twice."""
    try:
        with closing(LocalFile(path)) as source:
            read_header(source)
    except CheckpointError:
        return False
    return True


def _refuse_unfinished(output: Path) -> None:
    if exists(output / STAGING_FOLDER / JOURNAL_FILE):
        raise CheckpointError(
            f"{output}: holds the work of an unfinished run: repeat its command with --resume first"
        )


def _refuse_parent(output: Path) -> None:
    """Refuse the folder of a sweep by the names of its models."""
    found = [*output.glob(f"*/{RECORD_FILE}"), *output.glob(f"*/*/{RECORD_FILE}")]
    if found:
        names = sorted(str(path.parent.relative_to(output)) for path in found)
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise CheckpointError(
            f"{output}: holds several models: push them one by one, each to a repository of its "
            f"own: {', '.join(names[:10])}{more}"
        )


def _find_uploaded(output: Path, weights: Collection[str]) -> Uploaded | None:
    """Return where the weights are if some of them are here no longer."""
    if all(exists(output / name) for name in weights):
        return None
    return read_uploaded(output)


def _push(
    output: Path,
    weights: Collection[str],
    destination: Destination,
    *,
    public: bool,
    delete: bool,
    observer: Observer,
) -> Pushed:
    contents = find_contents(output)
    beyond = [name for name in weights if name not in contents]
    if beyond:
        raise CheckpointError(
            f"{output / beyond[0]}: hidden, or reached through a link: move it into the folder"
        )
    upload = Upload(destination, public=public)
    if upload.remark:
        observer.note(upload.remark)
    pushed_bytes = sum(weigh(contents).values())
    done = commit_model(upload, output, contents, observer)
    deleted = 0
    if delete:
        uploaded = upload.confirm(done, weights)
        write_uploaded(output, uploaded)  # before the first one goes
        deleted = _delete(output, uploaded.files)
    return Pushed(
        output=output,
        repository=destination.id,
        revision=destination.branch,
        commit=done.id,
        url=done.url,
        files=len(contents),
        pushed_bytes=pushed_bytes,
        deleted_bytes=deleted,
    )


def commit_model(
    upload: Upload,
    output: Path,
    contents: Contents,
    observer: Observer,
    sent: Sequence[UploadedFile] = (),
) -> Commit:
    """Send the files of a model and commit it; weights that were there before leave.

    Parameters
    ----------
    upload : Upload
    output : Path
        Its folder, for the commit's message.
    contents : mapping
        Files that are here.
    observer : Observer
        Receives their bytes, as the stage ``push``.
    sent : sequence of UploadedFile
        Files that the Hub has got already.

    Raises
    ------
    HubError
        The branch is as it was then.
    """
    sizes = weigh(contents)
    observer.begin("push", sum(sizes.values()))
    try:
        # Large ones first: what can fail late should fail early.
        for name in sorted(contents, key=lambda name: (-sizes[name], name)):
            upload.send(name, contents[name], observer.advance)
        if sent:
            upload.take_up(sent)
        return upload.commit(
            f"Upload {output.resolve().name} with shardrestore",
            lambda name: is_old_weight(name) or name == CHECKSUM_FILE,
        )
    finally:
        observer.end()


def _finish_deletion(
    output: Path, uploaded: Uploaded, destination: Destination, *, delete: bool
) -> Pushed:
    """Go on with what a push was about to delete; nothing is left to be uploaded."""
    if (uploaded.repository, uploaded.branch) != (destination.id, destination.branch):
        raise CheckpointError(
            f"{uploaded.describe(output)}; with them it can be pushed to {destination.id}, "
            f"branch {destination.branch}"
        )
    if not delete:
        raise CheckpointError(uploaded.describe(output))
    held = confirm_files(uploaded)
    left = find_contents(output)
    same = [file for file in uploaded.files if file.name in left]
    for file in same:
        if hash_file(output / file.name) != file.sha256:
            raise CheckpointError(
                f"{output / file.name}: not the file that was uploaded: move it elsewhere, or "
                f"delete {UPLOADED_FILE} and restore again"
            )
    ours = held.keys() & {*left, *uploaded.nbytes}  # files of others may be in the commit, too
    return Pushed(
        output=output,
        repository=uploaded.repository,
        revision=destination.branch,
        commit=uploaded.commit,
        url=uploaded.url,
        files=len(ours),
        pushed_bytes=sum(held[name] for name in ours),
        deleted_bytes=_delete(output, same),
        pushed_before=True,
    )


def _delete(output: Path, files: Iterable[UploadedFile]) -> int:
    """Delete files that the Hub has confirmed; return how many bytes they had."""
    deleted = 0
    for file in files:
        path = output / file.name
        try:
            path.unlink()
        except OSError as error:
            raise explain_write_error(path, 0, error) from error
        deleted += file.nbytes
    return deleted
