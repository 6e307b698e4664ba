"""A repository at one commit, as a location of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..checkpoint.contents import Contents, by_folder
from ..checkpoint.document import MAX_DOCUMENT_BYTES, read_document
from ..checkpoint.location import LocalFolder, list_below
from ..checkpoint.sidefile import SideFile, find_files
from ..checkpoint.source import LocalFile, Progress, ShardFile
from ..errors import CheckpointError
from ..hub.cache import cache_folder
from ..hub.file import CachedFile, CachedSideFile, HubFile, HubSideFile
from ..hub.listing import Listing, find_cached_folder, list_files
from ..hub.ranges import Place
from ..hub.readahead import Connections
from ..hub.repository import HUB_ADDRESS, Repository


class Snapshot:
    """A repository at one commit, on the Hub; a location of a checkpoint.

    Parameters
    ----------
    listing : Listing
        Of which the files are known.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._connections = Connections()
        self._places = {place.name: place for place in listing.places or ()}
        self._opened: list[HubFile] = []
        self.where = str(listing.repository)
        self.remark = listing.remark

    @property
    def folder(self) -> Path:
        """Folder of the repository in the cache."""
        return cache_folder(self._listing.repository.id)

    def identity(self) -> dict[str, Any]:
        """Return repository, revision as it was asked for, and commit."""
        return _identify(self._listing)

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
        path = file.fetch()
        file.check_content()
        return read_document(path)

    def open(self, names: Sequence[str]) -> list[ShardFile]:
        """Open shards, and read the beginning of each, several at once."""
        files = [self._open(name) for name in names]
        self._connections.map(HubFile.load_head, files)
        return list(files)

    def files(self) -> Iterable[SideFile]:
        """Return all its files; nothing is downloaded yet."""
        return (HubSideFile(place, self._fetch) for place in self._places.values())

    def _fetch(self, place: Place, advance: Progress) -> Path:
        """Bring a side file to the cache; of thousands none stays open."""
        with closing(HubFile(place, self._connections)) as file:
            return file.fetch(advance)

    def check_unchanged(self) -> None:
        """Do nothing: a repository at a commit never changes."""

    def contents(self) -> Contents:
        """Return its files by name, also in folders."""
        return _look_into(self._listing, self.names())

    def explain_missing(self, name: str) -> str:
        """Say what to do about a shard that is not there."""
        return "its upload was not finished, or it was deleted: choose another revision"

    def close(self) -> None:
        """Close all its files, and the connections."""
        for file in self._opened:
            file.close()
        self._connections.close()


class CachedSnapshot(LocalFolder):
    """A repository at one commit in the cache, without a list of the files that it lacks.

    Parameters
    ----------
    listing : Listing
    folder : Path
        Its folder in the cache.
    """

    def __init__(self, listing: Listing, folder: Path) -> None:
        super().__init__(folder, listing.remark)
        self._listing = listing
        self.where = f"{listing.repository} (cached)"

    def identity(self) -> dict[str, Any]:
        """Return repository, revision as it was asked for, and commit."""
        return _identify(self._listing)

    def contents(self) -> Contents:
        """Return its files by name, those that the cache has."""
        return _look_into(self._listing, list_below(self.folder))

    def _open_file(self, path: Path) -> LocalFile:
        return CachedFile(path)

    def files(self) -> Iterable[SideFile]:
        """Return all its files."""
        return find_files(self.folder, self.links, CachedSideFile)

    def explain_missing(self, name: str) -> str:
        """Say what to do about a shard that is not there."""
        return "it is not in the cache: run again when the Hub can be reached"


def _identify(listing: Listing) -> dict[str, Any]:
    """Return what names a repository at a commit, as JSON values."""
    repository = listing.repository
    return {
        "path": f"{HUB_ADDRESS}{repository.id}@{listing.commit}",
        "repository": repository.id,
        "revision": repository.revision,
        "commit": listing.commit,
    }


def _look_into(listing: Listing, files: Sequence[str]) -> Contents:
    """Return the files of a repository by name."""
    repository = listing.repository
    return Contents(
        where=str(repository),
        folders=by_folder(files),
        repository=repository.id,
        revision=repository.revision,
    )


def open_snapshot(repository: Repository) -> Snapshot | CachedSnapshot:
    """Return a repository at the commit that its revision means now.

    Raises
    ------
    HubError
        If there is no such repository or revision, or it cannot be had.
    """
    listing = list_files(repository)
    if listing.places is None:
        return CachedSnapshot(listing, find_cached_folder(repository, listing.commit))
    return Snapshot(listing)
