"""What files a repository has at one commit: asked of the Hub, or of its cache if it is away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..checkpoint.entry import show
from ..checkpoint.sidefile import MAX_DEPTH
from ..checkpoint.source import ignore_progress
from ..errors import HubError
from ..names import CONFIG_FILE
from .failure import explained, is_unreachable
from .file import find_blob, make_meter
from .limits import LISTING_SECONDS, limited
from .ranges import Place
from .repository import Repository

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

ANSWER_SECONDS = 10.0
"""How long the Hub may take to answer before the cache is looked at."""


_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair, of which no file's name can be made."""

_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a repository at one commit."""

    repository: Repository
    commit: str
    """Its revision, resolved: whatever is read is of this commit."""
    places: tuple[Place, ...] | None
    """Its files; None if only the cache was asked, and it does not know what it lacks."""
    remark: str = ""
    """What its user should know."""


def list_files(repository: Repository) -> Listing:
    """Resolve a revision to its commit, and list its files.

    If the Hub cannot be reached, what is in the cache serves.

    Raises
    ------
    HubError
        If there is no such repository or revision, or it cannot be had.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    where, name, revision = str(repository), repository.id, repository.revision
    with explained(where, name), limited(seconds=LISTING_SECONDS):
        api = HfApi()
        try:
            # Once, and not for long: what follows tries again for half a minute.
            api.model_info(name, revision=revision, timeout=ANSWER_SECONDS)
        except Exception as error:
            if not is_unreachable(error):
                raise
            cached = api.resolve_revision(name, revision=revision, local_files_only=True)
            return _list_cached(repository, cached.resolved)
        commit = _check_commit(api.resolve_revision(name, revision=revision).resolved)
        listed = api.list_repo_tree(name, recursive=True, revision=commit)
        files = [file for file in listed if isinstance(file, RepoFile)]
        etags = [file.lfs.sha256 if file.lfs else file.blob_id for file in files]
        places = _make_places(repository, commit, files, etags)
        with limited(seconds=LISTING_SECONDS):
            _keep_list(name, commit)
    return Listing(repository=repository, commit=commit, places=places)


def _keep_list(name: str, commit: str) -> None:
    """Have the cache keep the list of files, for when the Hub is away; with the configuration."""
    from huggingface_hub import snapshot_download

    silent = make_meter(ignore_progress)
    snapshot_download(name, revision=commit, allow_patterns=[CONFIG_FILE], tqdm_class=silent)


def _list_cached(repository: Repository, commit: str) -> Listing:
    """Return what the cache has; with the list of files, what it lacks is missed."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    remark = (
        f"{repository}: the Hub is not asked, or cannot be reached: commit {commit[:12]} is read "
        "from the cache"
    )
    try:
        files = get_cached_repo_tree(repository.id, revision=commit)
    except CachedRepoTreeNotFoundError:
        remark = f"{remark}, without the files that were never downloaded"
        return Listing(repository=repository, commit=commit, places=None, remark=remark)
    # The kept list has no SHA-256, but the cache names its files so.
    etags = [find_blob(repository.id, commit, file.path) for file in files]
    places = _make_places(repository, commit, files, etags)
    return Listing(repository=repository, commit=commit, places=places, remark=remark)


def find_cached_folder(repository: Repository, commit: str) -> Path:
    """Return the folder in which the cache has files of a commit.

    Raises
    ------
    HubError
        If it has none.
    """
    from huggingface_hub import snapshot_download

    with explained(str(repository), repository.id):
        folder = snapshot_download(
            repository.id, revision=commit, local_files_only=True, allow_patterns=[]
        )
    return Path(folder)


def _make_places(
    repository: Repository, commit: str, files: Sequence[RepoFile], etags: Sequence[str]
) -> tuple[Place, ...]:
    where = str(repository)
    return tuple(
        Place(
            repository=repository.id,
            commit=commit,
            name=_check_name(file.path, where),
            nbytes=_check_size(file.size, file.path, where),
            etag=_check_etag(etag),
        )
        for file, etag in zip(files, etags, strict=True)
    )


def _check_name(name: str, where: str) -> str:
    """Return a name that stays inside the output's folder; a Hub of one's own may list any."""
    if not isinstance(name, str):
        raise TypeError("no name")
    path = PurePosixPath(name)
    inside = not path.is_absolute() and path.parts and ".." not in path.parts
    storable = "\\" not in name and "\0" not in name and not _HALF_CHARACTER.search(name)
    if not inside or not storable or len(path.parts) > MAX_DEPTH:
        raise HubError(f"{where}: lists a file named {show(name)}, which no model has")
    return name


def _check_size(nbytes: object, name: str, where: str) -> int:
    if type(nbytes) is not int or nbytes < 0:
        raise HubError(f"{where}: lists {show(name)} with a size of {nbytes} bytes")
    return nbytes


def _check_etag(etag: object) -> str:
    if not isinstance(etag, str):
        raise TypeError("no hash")
    return etag


def _check_commit(commit: object) -> str:
    """Return the name of a commit; the cache has a folder for each of that name."""
    if not (isinstance(commit, str) and _COMMIT.fullmatch(commit)):
        raise ValueError("no commit")
    return commit
