"""A file on the Hub: read by ranges until it is downloaded, from the cache then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.sidefile import LocalSideFile
from ..checkpoint.source import LocalFile, Progress, ignore_progress
from ..errors import HubError
from .cache import cache_folder
from .content import (
    BLOCK_BYTES,
    Marks,
    describe_state,
    hash_content,
    is_hash,
    refuse_other_content,
)
from .failure import explained
from .limits import limited
from .ranges import Place, RangeReader
from .readahead import Connections, ReadAhead

HEAD_BYTES = 1 << 17
"""Bytes that are requested first: the header of most shards, whole."""


class HubFile:
    """A file of a repository at one commit.

    Parameters
    ----------
    place : Place
    connections : Connections
        Shared by the files of a repository.
    """

    def __init__(self, place: Place, connections: Connections) -> None:
        self.place = place
        self.name = place.name
        self.nbytes = place.nbytes
        self._reader = RangeReader(place)
        self._ahead = ReadAhead(connections, self._reader)
        self._head = b""
        self._path = _find_cached(place)
        self._opened: LocalFile | None = None
        self._lock = threading.Lock()

    @property
    def where(self) -> str:
        """Name for messages."""
        return self.place.where

    @property
    def on_disk(self) -> bool:
        """Whether it is in the cache."""
        return self._path is not None

    def load_head(self) -> None:
        """Read the beginning of the file, so that its header is at hand; the rest is let go."""
        if not self.on_disk and not self._head:
            head = bytearray(min(HEAD_BYTES, self.nbytes))
            self._reader.read_into(0, memoryview(head))
            self._head = bytes(head[: 8 + int.from_bytes(head[:8], "little")])

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`, from wherever the file is."""
        if self._path is not None:
            self._open(self._path).read_into(offset, buffer)
        elif offset + len(buffer) <= len(self._head):
            buffer[:] = self._head[offset : offset + len(buffer)]
        elif len(buffer):
            run = self._ahead.find(offset, len(buffer))
            if run is not None:
                run.read_into(buffer)
            else:
                self._reader.read_into(offset, buffer)

    def expect(self, offset: int, nbytes: int, block_bytes: int, check: Callable[[], None]) -> None:
        """Request bytes that the calling thread will read in order."""
        self._head = b""
        if not self.on_disk and nbytes:
            self._ahead.expect(offset, nbytes, block_bytes, check)

    def fetch(self, advance: Progress = ignore_progress) -> Path:
        """Return the file's path in the cache; download it if it is not there.

        Raises
        ------
        HubError
            If it cannot be downloaded, or is not of the size that the Hub lists.
        """
        if self._path is None:
            path = self._download(advance)
            found = path.stat().st_size
            if found != self.nbytes:
                raise HubError(
                    f"{self.where}: its copy in the cache, {path}, has {found} bytes, the Hub's "
                    f"has {self.nbytes}: delete that copy and run again"
                )
            self._head = b""
            self._path = path
        return self._path

    def check_content(self, advance: Progress = ignore_progress) -> None:
        """Compare its copy in the cache with the hash that its commit lists, if it has not been.

        Parameters
        ----------
        advance : callable
            Called with the bytes of each block; may raise to stop.

        Raises
        ------
        HubError
            If they are other bytes.
        """
        if self._path is not None:
            folder = cache_folder(self.place.repository)
            check_copy(self._path, self.place.etag, self.where, Marks(folder), advance)

    def hash_again(self, advance: Progress, check: Callable[[], None]) -> None:
        """Read all of it from wherever it is, and compare it with the hash that is listed.

        Parameters
        ----------
        advance, check : callable
            Called with the bytes of each block, and while some are waited for; may raise to stop.

        Raises
        ------
        HubError
            If they are other bytes, or the commit lists no hash that would say so.
        """
        etag = self.place.etag
        if not is_hash(etag):
            raise HubError(f"{self.where}: the Hub lists no hash of it: it cannot be compared")
        self.expect(0, self.nbytes, BLOCK_BYTES, check)
        what = "what is served" if self._path is None else f"its copy in the cache, {self._path},"
        found = hash_content(self.read_into, self.nbytes, etag, advance)
        refuse_other_content(self.where, what, found, etag)

    def _open(self, path: Path) -> LocalFile:
        """Open the cached file, once: of a thousand side files that are copied, none is."""
        with self._lock:
            if self._opened is None:
                self._opened = LocalFile(path)
            return self._opened

    def _download(self, advance: Progress) -> Path:
        from huggingface_hub import hf_hub_download

        place, meter = self.place, make_meter(advance)
        with explained(self.where, place.repository), limited(file_bytes=place.nbytes):
            return Path(
                hf_hub_download(
                    place.repository, place.name, revision=place.commit, tqdm_class=meter
                )
            )

    def identity(self) -> dict[str, Any]:
        """Return size in bytes and ETag: they name its contents, wherever it is read from."""
        return {"bytes": self.nbytes, "etag": self.place.etag}

    def check_unchanged(self) -> None:
        """Do nothing: a file at a commit never changes, and a cached one is never written."""

    def close(self) -> None:
        """Release file and connections; safe to call twice."""
        self._reader.close()
        with self._lock:
            if self._opened is not None:
                self._opened.close()


class HubSideFile:
    """A file beside the shards, which is looked for in the cache once it is asked for.

    Parameters
    ----------
    place : Place
    bring : callable
        Downloads a file, unless it is cached, and returns its path in the cache.
    """

    __slots__ = ("_bring", "_path", "_place")

    is_regular = True
    leads_outside = False

    def __init__(self, place: Place, bring: Callable[[Place, Progress], Path]) -> None:
        self._place = place
        self._bring = bring
        self._path: Path | None = None

    @property
    def name(self) -> str:
        """Path relative to the repository, with forward slashes."""
        return self._place.name

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self._place.nbytes

    @property
    def on_disk(self) -> bool:
        """Whether it is in the cache."""
        return self._path is not None or _find_cached(self._place) is not None

    def fetch(self, advance: Progress = ignore_progress) -> Path:
        """Return the file's path in the cache; download it if it is not there."""
        if self._path is None:
            self._path = self._bring(self._place, advance)
        return self._path

    def check_readable(self) -> None:
        """Do nothing: what the Hub lists can be asked for."""

    def identity(self) -> dict[str, Any]:
        """Return size in bytes and ETag."""
        return {"bytes": self.nbytes, "etag": self._place.etag}

    def check_unchanged(self) -> None:
        """Do nothing: a file at a commit never changes."""

    def check_content(self, advance: Progress = ignore_progress) -> None:
        """Compare its copy in the cache with the hash that its commit lists: see ``HubFile``."""
        marks = Marks(cache_folder(self._place.repository))
        check_copy(self.fetch(), self._place.etag, self._place.where, marks, advance)


class CachedFile(LocalFile):
    """A file in the cache, which is the same to ``--resume`` as it was when the Hub was asked."""

    def identity(self) -> dict[str, Any]:
        """Return size in bytes and ETag: the name of the blob that the cache links to."""
        return {"bytes": self.nbytes, "etag": self.fetch().resolve().name}

    def check_content(self, advance: Progress = ignore_progress) -> None:
        """Compare it with the hash that its blob is named by; see ``HubFile.check_content``."""
        _check_blob(self.fetch(), advance)


def _check_blob(path: Path, advance: Progress) -> None:
    """Compare what the cache links to with its name, which is the hash of the file's bytes."""
    blob = path.resolve()
    check_copy(blob, blob.name, str(path), Marks(blob.parent.parent), advance)


def check_copy(path: Path, etag: str, where: str, marks: Marks, advance: Progress) -> None:
    """Compare a file in the cache with its hash, unless it was found right before.

    Raises
    ------
    HubError
        If they are other bytes.
    """
    if not is_hash(etag) or marks.has(etag, path):
        return
    state, file = describe_state(path), LocalFile(path)
    try:
        found = hash_content(file.read_into, file.nbytes, etag, advance)
    finally:
        file.close()
    refuse_other_content(where, f"its copy in the cache, {path},", found, etag)
    marks.add(etag, state)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSideFile(LocalSideFile):
    """A side file in the cache, which is the same to ``--resume``, too."""

    def identity(self) -> dict[str, Any]:
        """Return size in bytes and ETag."""
        return {"bytes": self.nbytes, "etag": self.source.resolve().name}

    def check_content(self, advance: Progress = ignore_progress) -> None:
        """Compare it with the hash that its blob is named by: see ``HubFile``."""
        _check_blob(self.source, advance)


def find_blob(repository: str, commit: str, name: str) -> str:
    """Return the ETag under which the cache keeps a file; empty if it does not."""
    path = _find_path(repository, commit, name)
    return "" if path is None else path.resolve().name


def _find_cached(place: Place) -> Path | None:
    path = _find_path(place.repository, place.commit, place.name)
    return path if path is not None and path.stat().st_size == place.nbytes else None


def _find_path(repository: str, commit: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, revision=commit)
    return Path(found) if isinstance(found, str) else None


def make_meter(advance: Progress) -> Any:
    """Return a class of progress bars that show nothing and tell `advance`."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Meter(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            advance(int(n or 0))

    return Meter
