"""Files on their way to a repository: sent one by one, then committed all at once.

Large files go to the Hub's storage first and show nowhere until the commit: a repository
is never half a model, and what has been sent is found there by the next attempt. Such an
object, of a known size and SHA-256, need not be here any longer when it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..checkpoint.source import Progress
from ..errors import HubError
from ..output.uploaded import Uploaded, UploadedFile
from .addition import Meter, make_absent, make_addition, make_info, silenced
from .destination import DEFAULT_BRANCH, Destination
from .endpoint import without_password
from .failure import explained_push
from .limits import LISTING_SECONDS, limited

OBJECTS_AT_ONCE = 256
"""Objects that one request may ask for, as many as huggingface_hub asks for at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit on the Hub."""

    id: str
    url: str
    files: Sequence[Any]
    """What the Hub says that it holds, each as huggingface_hub's ``RepoFile``."""


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
        with explained_push(destination.id), silenced():
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
            Receives every byte, once, including those that the Hub has already.

        Raises
        ------
        HubError
            If it cannot be sent, though it was tried several times.
        """
        meter = Meter(advance)
        with explained_push(f"{self._destination.id}: {name}"), silenced():
            addition = make_addition(name, content, meter)
            self._preupload([addition])
        self._additions[name] = addition
        meter.reach(addition.upload_info.size)

    def send_object(self, name: str, path: Path, advance: Progress) -> UploadedFile:
        """Send a file as an object that the Hub confirms now, before there is a commit.

        By plain LFS, also where Xet is at hand: only there can an object be asked for that
        no commit names. huggingface_hub sends open files so, and never by Xet.

        Parameters
        ----------
        name : str
            Path in the repository.
        path : Path
        advance : callable
            As for ``send``.

        Raises
        ------
        HubError
            If it cannot be sent, or the Hub does not confirm that it has it.
        """
        meter, what = Meter(advance), f"{self._destination.id}: {name}"
        with explained_push(what), silenced(), open(path, "rb") as file:
            addition = make_addition(name, file, meter)
            info = addition.upload_info
            self._preupload([addition])
        sent = UploadedFile(name=name, nbytes=info.size, sha256=info.sha256.hex())
        if self.find_lost([sent]):
            raise HubError(
                f"{what}: the Hub does not confirm that it holds {sent.nbytes:,} bytes with "
                f"SHA-256 {sent.sha256}: they are kept here; try again"
            )
        meter.reach(info.size)
        return sent

    def find_lost(self, files: Sequence[UploadedFile]) -> list[UploadedFile]:
        """Return those of some files that the Hub does not hold, by size and SHA-256.

        Objects count that no commit names yet: the Hub wants to be sent what it lacks.

        Raises
        ------
        HubError
            If it does not answer.
        """
        from huggingface_hub.lfs import post_lfs_batch_info

        held: set[tuple[str, int]] = set()
        with explained_push(self._destination.id), silenced():
            for first in range(0, len(files), OBJECTS_AT_ONCE):
                answers, _, _ = post_lfs_batch_info(
                    [make_info(file) for file in files[first : first + OBJECTS_AT_ONCE]],
                    token=None,
                    repo_type="model",
                    repo_id=self._destination.id,
                    revision=quote(self._destination.branch, safe=""),
                )
                held |= {
                    (answer["oid"], answer["size"])
                    for answer in answers
                    if not answer.get("actions")
                }
        return [file for file in files if (file.sha256, file.nbytes) not in held]

    def take_up(self, files: Sequence[UploadedFile]) -> None:
        """Have the commit hold objects that were sent before; they need not be here.

        Raises
        ------
        HubError
            If the Hub does not have them.
        """
        lost = self.find_lost(files)
        if lost:
            raise HubError(
                f"{self._destination.id}: the Hub has lost {lost[0].name}, which no commit names "
                "yet: try again"
            )
        additions = {file.name: make_absent(file) for file in files}
        with explained_push(self._destination.id), silenced():
            self._preupload([*additions.values()])
        self._additions |= additions

    def _preupload(self, additions: Sequence[Any]) -> None:
        self._api.preupload_lfs_files(
            self._destination.id,
            additions,
            revision=self._destination.branch,
            num_threads=1,
            free_memory=False,
        )

    def commit(self, message: str, is_stale: Callable[[str], bool]) -> Commit:
        """Commit what was sent, and delete what `is_stale` of the rest.

        If nothing is new, it is the branch's last commit that is returned. The Hub is asked what
        the commit holds: everything that was sent must be there.

        Raises
        ------
        HubError
            If it is refused: the branch is as it was then. Also if the commit lacks a file.
        """
        from huggingface_hub import CommitOperationDelete

        self._refuse_ignored()
        with explained_push(self._destination.id), silenced():
            old = [str(file.rfilename) for file in self._head.siblings or ()]
            stale = [name for name in old if name not in self._additions and is_stale(name)]
            done = self._api.create_commit(
                self._destination.id,
                [*self._additions.values(), *map(CommitOperationDelete, stale)],
                commit_message=message,
                revision=self._destination.branch,
                parent_commit=self._head.sha,
            )
            id, url = str(done.oid), without_password(str(done.commit_url))
        commit = Commit(id=id, url=url, files=_list_files(self._destination.id, id))
        self._check_committed(commit)
        return commit

    def _refuse_ignored(self) -> None:
        """Refuse files that the repository's ``.gitignore`` would keep out of the commit.

        huggingface_hub leaves them out without a word.
        """
        ignored = [
            name
            for name, addition in self._additions.items()
            if getattr(addition, "_should_ignore", False)
        ]
        if ignored:
            more = f" and {len(ignored) - 1} more files" if len(ignored) > 1 else ""
            raise HubError(
                f"{self._destination.id}: its .gitignore leaves out {ignored[0]}{more}, so nothing "
                "was committed: remove that rule from the .gitignore there, or push to another "
                "repository"
            )

    def _check_committed(self, commit: Commit) -> None:
        """Compare what a commit holds with what was sent: names, sizes, and objects' SHA-256."""
        where = f"{self._destination.id}@{commit.id[:12]}"
        held = {entry.path: entry for entry in commit.files}
        for name, addition in self._additions.items():
            info, entry = addition.upload_info, held.get(name)
            if entry is None:
                found = "no such file"
            elif entry.size != info.size:
                found = f"{entry.size:,} bytes"
            elif entry.lfs is not None and entry.lfs.sha256 != info.sha256.hex():
                found = f"SHA-256 {entry.lfs.sha256}"
            else:
                continue
            raise HubError(
                f"{where}: the commit is not what was sent: {name} has {info.size:,} bytes, "
                f"SHA-256 {info.sha256.hex()}, and the commit holds {found}: push again"
            )

    def confirm(self, commit: Commit, names: Collection[str]) -> Uploaded:
        """Return where files that were sent are; see ``confirm_files`` for what is refused."""
        files = []
        for name in names:
            info = self._additions[name].upload_info
            files.append(UploadedFile(name=name, nbytes=info.size, sha256=info.sha256.hex()))
        uploaded = Uploaded(
            repository=self._destination.id,
            branch=self._destination.branch,
            commit=commit.id,
            url=commit.url,
            files=tuple(files),
        )
        _confirm(uploaded, commit.files)
        return uploaded


def confirm_files(uploaded: Uploaded) -> Mapping[str, int]:
    """Ask the Hub whether a commit holds files, by size and SHA-256.

    Returns
    -------
    mapping
        Size of every file that the commit holds, by name, in bytes.

    Raises
    ------
    HubError
        If it does not, or does not answer.
    """
    files = _list_files(uploaded.repository, uploaded.commit)
    _confirm(uploaded, files)
    return {entry.path: entry.size for entry in files}


def _confirm(uploaded: Uploaded, files: Sequence[Any]) -> None:
    """Raise HubError unless the files of a commit are those that were uploaded, as objects."""
    held = {(entry.path, entry.size, entry.lfs.sha256) for entry in files if entry.lfs is not None}
    for file in uploaded.files:
        if (file.name, file.nbytes, file.sha256) not in held:
            raise HubError(
                f"{uploaded.repository}@{uploaded.commit[:12]}: the Hub does not confirm that it "
                f"holds {file.name} with SHA-256 {file.sha256}: nothing more is deleted; try again"
            )


def _list_files(repository: str, commit: str) -> list[Any]:
    """Return every file of a commit, as huggingface_hub's ``RepoFile``."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    where = f"{repository}@{commit[:12]}"
    with explained_push(where), silenced(), limited(seconds=LISTING_SECONDS):
        entries = HfApi().list_repo_tree(repository, recursive=True, revision=commit)
        return [_check_entry(entry) for entry in entries if isinstance(entry, RepoFile)]


def _check_entry(entry: Any) -> Any:
    """Return what a Hub lists; raise TypeError if it is no file."""
    if not isinstance(entry.path, str) or type(entry.size) is not int:
        raise TypeError("no file")
    return entry
