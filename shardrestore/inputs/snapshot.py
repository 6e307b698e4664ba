"""A repository at one commit: what files it has, and where they are read from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..checkpoint.document import MAX_DOCUMENT_BYTES, read_document
from ..checkpoint.entry import show
from ..checkpoint.location import LocalFolder
from ..checkpoint.sidefile import SideFile, is_side_file
from ..checkpoint.source import LocalFile, ShardFile, ignore_progress
from ..errors import CheckpointError, HubError
from ..hub.failure import explained, is_unreachable
from ..hub.file import CachedFile, HubFile, find_blob, make_meter
from ..hub.ranges import Place
from ..hub.readahead import Connections
from ..hub.repository import Repository
from ..names import CONFIG_FILE

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

ANSWER_SECONDS = 10.0
"""How long the Hub may take to answer before the cache is looked at."""

HUB_ADDRESS = "hf://"
"""Beginning of the path that names a repository at a commit in records."""


class Snapshot:
    """A repository at one commit, on the Hub; a location of a checkpoint.

    Parameters
    ----------
    repository : Repository
    commit : str
        Its revision, resolved: whatever is read is of this commit.
    places : sequence of Place
        Its files.
    remark : str
        What its user should know.
    """

    def __init__(
        self, repository: Repository, commit: str, places: Sequence[Place], remark: str = ""
    ) -> None:
        self._repository = repository
        self._commit = commit
        self._connections = Connections()
        self._places = {place.name: place for place in places}
        self._opened: list[HubFile] = []
        self.where = str(repository)
        self.remark = remark

    @property
    def folder(self) -> Path:
        """Folder of the repository in the cache."""
        return cache_folder(self._repository.id)

    def identity(self) -> dict[str, Any]:
        """Return repository, revision as it was asked for, and commit."""
        return identify(self._repository, self._commit)

    def names(self) -> list[str]:
        """Return the names of its files, sorted."""
        return sorted(self._places)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self._places

    def _open(self, name: str) -> HubFile:
        file = HubFile(self._places[name], self._connections)
        self._opened.append(file)
        return file

    def read(self, name: str) -> bytes:
        """Read a document whole, by way of the cache."""
        file = self._open(name)
        if file.nbytes > MAX_DOCUMENT_BYTES:
            raise CheckpointError(
                f"{file.where}: {file.nbytes:,} bytes, at most {MAX_DOCUMENT_BYTES:,} are read"
            )
        return read_document(file.fetch())

    def open(self, names: Sequence[str]) -> list[ShardFile]:
        """Open shards, and read the beginning of each, several at once."""
        files = [self._open(name) for name in names]
        self._connections.map(HubFile.load_head, files)
        return list(files)

    def side_files(self) -> tuple[SideFile, ...]:
        """Return what is to be copied beside the weights; nothing is downloaded yet."""
        return tuple(self._open(name) for name in self.names() if is_side_file(name))

    def explain_missing(self, name: str) -> str:
        """Say what to do about a shard that is not there."""
        return "its upload was not finished, or it was deleted: choose another revision"

    def close(self) -> None:
        """Close all its files, and the connections."""
        for file in self._opened:
            file.close()
        self._connections.close()


class CachedSnapshot(LocalFolder):
    """A repository at one commit in the cache, of which nobody knows what it lacks.

    Parameters
    ----------
    repository : Repository
    commit : str
    folder : Path
        Its folder in the cache.
    remark : str
        What its user should know.
    """

    def __init__(self, repository: Repository, commit: str, folder: Path, remark: str) -> None:
        super().__init__(folder, f"{remark}, without the files that were never downloaded")
        self._identity = identify(repository, commit)
        self.where = f"{repository} (cached)"

    def identity(self) -> dict[str, Any]:
        """Return repository, revision as it was asked for, and commit."""
        return self._identity

    def _open(self, path: Path) -> LocalFile:
        return CachedFile(path)

    def explain_missing(self, name: str) -> str:
        """Say what to do about a shard that is not there."""
        return "it is not in the cache: run again when the Hub can be reached"


def identify(repository: Repository, commit: str) -> dict[str, Any]:
    """Return what names a repository at a commit, as JSON values."""
    return {
        "path": f"{HUB_ADDRESS}{repository.id}@{commit}",
        "repository": repository.id,
        "revision": repository.revision,
        "commit": commit,
    }


def open_snapshot(repository: Repository) -> Snapshot | CachedSnapshot:
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
    with explained(where, name):
        api = HfApi()
        try:
            # Once, and not for long: what follows tries again for half a minute.
            api.model_info(name, revision=revision, timeout=ANSWER_SECONDS)
        except Exception as error:
            if not is_unreachable(error):
                raise
            cached = api.resolve_revision(name, revision=revision, local_files_only=True)
            return _open_cached(repository, cached.resolved)
        commit = api.resolve_revision(name, revision=revision).resolved
        listed = api.list_repo_tree(name, recursive=True, revision=commit)
        files = [file for file in listed if isinstance(file, RepoFile)]
        _keep_list(name, commit)
    etags = [file.lfs.sha256 if file.lfs else file.blob_id for file in files]
    return Snapshot(repository, commit, _make_places(repository, commit, files, etags))


def _keep_list(name: str, commit: str) -> None:
    """Have the cache keep the list of files, for when the Hub is away; with the configuration."""
    from huggingface_hub import snapshot_download

    silent = make_meter(ignore_progress)
    snapshot_download(name, revision=commit, allow_patterns=[CONFIG_FILE], tqdm_class=silent)


def _open_cached(repository: Repository, commit: str) -> Snapshot | CachedSnapshot:
    """Return what the cache has; with the list of files, what it lacks is missed."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    remark = (
        f"{repository}: the Hub is not asked, or cannot be reached: commit {commit[:12]} is read "
        "from the cache"
    )
    try:
        files = get_cached_repo_tree(repository.id, revision=commit)
    except CachedRepoTreeNotFoundError:
        folder = snapshot_download(
            repository.id, revision=commit, local_files_only=True, allow_patterns=[]
        )
        return CachedSnapshot(repository, commit, Path(folder), remark)
    # The kept list has no SHA-256, but the cache names its files so.
    etags = [find_blob(repository.id, commit, file.path) for file in files]
    places = _make_places(repository, commit, files, etags)
    return Snapshot(repository, commit, places, remark)


def _make_places(
    repository: Repository, commit: str, files: Sequence[RepoFile], etags: Sequence[str]
) -> list[Place]:
    where = str(repository)
    return [
        Place(
            repository=repository.id,
            commit=commit,
            name=_check_name(file.path, where),
            nbytes=_check_size(file.size, file.path, where),
            etag=etag,
        )
        for file, etag in zip(files, etags, strict=True)
    ]


def _check_name(name: str, where: str) -> str:
    """Return a name that stays inside the output's folder; a Hub of one's own may list any."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise HubError(f"{where}: lists a file named {show(name)}, which no model has")
    return name


def _check_size(nbytes: object, name: str, where: str) -> int:
    if not isinstance(nbytes, int) or nbytes < 0:
        raise HubError(f"{where}: lists {show(name)} with a size of {nbytes} bytes")
    return nbytes


def cache_folder(repository: str) -> Path:
    """Return the folder that a repository has in the cache of huggingface_hub."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=repository, repo_type="model")
    return Path(constants.HF_HUB_CACHE).expanduser() / name
