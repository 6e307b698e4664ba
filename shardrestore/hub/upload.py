"""Files on their way to a repository: sent one by one, then committed all at once.

Large files go to the Hub's storage first and show nowhere until the commit: a repository
is never half a model, and what has been sent is found there by the next attempt.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..checkpoint.source import Progress
from ..checkpoint.uploaded import Uploaded, UploadedFile
from ..errors import HubError
from .destination import DEFAULT_BRANCH, Destination
from .failure import explained_push


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit on the Hub."""

    id: str
    url: str


class Upload:
    """Files that are sent to a branch; repository and branch are created if missing.

    Parameters
    ----------
    destination : Destination
    public : bool
        Who may see a repository that is created; an existing one stays as it is.

    Raises
    ------
    HubError
        If it cannot be created or written.
    """

    def __init__(self, destination: Destination, *, public: bool) -> None:
        self._destination = destination
        self._additions: dict[str, Any] = {}
        self.remark = ""
        """What the user should know of the repository."""
        with explained_push(destination.id), _silenced():
            self._open(public=public)

    def _open(self, *, public: bool) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        self._api, id, branch = HfApi(), self._destination.id, self._destination.branch
        try:
            found = self._api.model_info(id)
        except RepositoryNotFoundError:
            self._api.create_repo(id, private=not public, exist_ok=True)
        else:
            if bool(found.private) == public:
                kind = "private" if found.private else "public"
                self.remark = f"{id} exists and is {kind}: that is left as it is"
        if branch != DEFAULT_BRANCH and not branch.startswith("refs/"):
            refs = self._api.list_repo_refs(id)
            if branch not in {one.name for one in refs.branches}:
                self._api.create_branch(id, branch=branch, exist_ok=True)
        self._head = self._api.model_info(id, revision=branch)

    def send(self, name: str, content: Path | bytes, advance: Progress) -> None:
        """Send a file if it is a large one; small ones travel with the commit.

        Parameters
        ----------
        name : str
            Path in the repository.
        content : Path or bytes
        advance : callable
            Told of every byte, once, and of those the Hub has already.

        Raises
        ------
        HubError
            If it cannot be sent, though it was tried several times.
        """
        meter = _Meter(advance)
        with explained_push(f"{self._destination.id}: {name}"), _silenced():
            addition = _make_addition(name, content, meter)
            self._api.preupload_lfs_files(
                self._destination.id,
                [addition],
                revision=self._destination.branch,
                num_threads=1,
                free_memory=False,
            )
        self._additions[name] = addition
        meter.reach(addition.upload_info.size)

    def commit(self, message: str, is_stale: Callable[[str], bool]) -> Commit:
        """Commit what was sent, and delete what `is_stale` of the rest.

        If nothing is new, it is the branch's last commit that is returned.

        Raises
        ------
        HubError
            If it is refused: the branch is as it was then.
        """
        from huggingface_hub import CommitOperationDelete

        old = [file.rfilename for file in self._head.siblings or ()]
        stale = [name for name in old if name not in self._additions and is_stale(name)]
        with explained_push(self._destination.id), _silenced():
            done = self._api.create_commit(
                self._destination.id,
                [*self._additions.values(), *map(CommitOperationDelete, stale)],
                commit_message=message,
                revision=self._destination.branch,
                parent_commit=self._head.sha,
            )
        return Commit(id=done.oid, url=done.commit_url)

    def confirm(self, commit: Commit, names: Collection[str]) -> Uploaded:
        """Ask the Hub whether it holds files that were sent; see ``confirm_files``."""
        files = []
        for name in names:
            info = self._additions[name].upload_info
            files.append(UploadedFile(name=name, nbytes=info.size, sha256=info.sha256.hex()))
        uploaded = Uploaded(
            repository=self._destination.id,
            commit=commit.id,
            url=commit.url,
            files=tuple(files),
        )
        confirm_files(uploaded)
        return uploaded


def confirm_files(uploaded: Uploaded) -> None:
    """Ask the Hub whether a commit holds files, by size and SHA-256.

    Raises
    ------
    HubError
        If it does not, or does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    where = f"{uploaded.repository}@{uploaded.commit[:12]}"
    with explained_push(where), _silenced():
        entries = HfApi().list_repo_tree(
            uploaded.repository, recursive=True, revision=uploaded.commit
        )
        held = {
            (entry.path, entry.size, entry.lfs.sha256)
            for entry in entries
            if isinstance(entry, RepoFile) and entry.lfs is not None
        }
    for file in uploaded.files:
        if (file.name, file.nbytes, file.sha256) not in held:
            raise HubError(
                f"{where}: the Hub does not confirm that it holds {file.name} with SHA-256 "
                f"{file.sha256}: nothing more is deleted; push again"
            )


class _Meter:
    """Tells how far into a file one has come, also where parts of it are sent again."""

    def __init__(self, advance: Progress) -> None:
        self._advance = advance
        self._position = 0

    def reach(self, position: int) -> None:
        if position > self._position:
            self._advance(position - self._position)
            self._position = position


def _make_addition(name: str, content: Path | bytes, meter: _Meter) -> Any:
    """Return an operation of huggingface_hub that tells `meter` what is read of it.

    Only plain HTTP reads it in Python: what goes by Xet shows when the file is done.
    """
    from huggingface_hub import CommitOperationAdd

    class Addition(CommitOperationAdd):
        @contextmanager
        def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
            with super().as_file() as file:
                if with_tqdm and isinstance(content, Path):  # on its way, not only hashed
                    read = file.read

                    def read_metered(size: int | None = -1) -> bytes:
                        data = read(-1 if size is None else size)
                        meter.reach(file.tell())
                        return data

                    file.read = read_metered  # type: ignore[method-assign]
                yield file

    return Addition(path_in_repo=name, path_or_fileobj=content)


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep huggingface_hub from showing bars, warnings and log lines with addresses."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not are_progress_bars_disabled()
    with warnings.catch_warnings():
        # Its own use of httpx2 is deprecated, and warnings may be errors.
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        if bars:
            disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if bars:
                enable_progress_bars()
