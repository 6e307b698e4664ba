"""Bytes of a file on the Hub, by ranged requests that are believed in nothing.

A server may ignore a range and send the whole file with status 200, or another
range with 206: both have been seen (kserve/modelexpress#467, huggingface_hub's
own file system accepts either). So each answer must be 206, with exactly the
``Content-Range`` that was asked for, of a file of the size that its commit has.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from ..errors import HubError
from .endpoint import is_hub
from .failure import explained
from .limits import ATTEMPTS, limited

WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses between them, unless the server names one by ``Retry-After``."""

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_EXPIRED = frozenset({401, 403, 404, 410})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file on the Hub at one commit."""

    repository: str
    """``namespace/name``."""
    commit: str
    name: str
    nbytes: int
    etag: str
    """SHA-256 of its contents, or for a small file its git id; empty where it is not known."""

    @property
    def where(self) -> str:
        """Name for messages; its address may hold a signature."""
        return f"{self.repository}@{self.commit[:12]}: {self.name}"


class _Retry(Exception):
    """The answer may be better next time."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Closed(HubError):
    """The file was closed while somebody read it."""


class RangeReader:
    """Reads ranges of one file, from several threads at once.

    Parameters
    ----------
    place : Place
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._address: str | None = None
        """Where its bytes are served now: the Hub itself, or a signed address elsewhere."""
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._sockets: set[socket.socket] = set()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `offset` on.

        Raises
        ------
        HubError
            If the Hub refuses, answers wrongly, or does not answer however often it is asked.
        """
        filled = failures = 0
        while filled < len(buffer):
            before = filled
            try:
                with (
                    explained(self._place.where, self._place.repository),
                    limited(file_bytes=len(buffer) - filled),
                ):
                    for part in self._stream(offset + filled, len(buffer) - filled):
                        buffer[filled : filled + len(part)] = part
                        filled += len(part)
            except _Retry as retry:
                failures = 1 if filled > before else failures + 1
                if failures == ATTEMPTS:
                    raise HubError(
                        f"{self._place.where}: bytes {offset} to {offset + len(buffer) - 1} could "
                        f"not be read: {retry}, {ATTEMPTS} times in a row: try again later"
                    ) from retry
                self._wait(failures, retry.wait_seconds)

    def _wait(self, failures: int, asked_seconds: float | None) -> None:
        usual = WAITS_SECONDS[failures - 1]
        self._closed.wait(usual if asked_seconds is None else asked_seconds)
        self._check_open()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Closed(f"{self._place.where}: closed while it was read")

    def _stream(self, offset: int, nbytes: int) -> Iterator[bytes]:
        """Yield the bytes of a range as they arrive; ``_Retry`` if they stop too early."""
        import httpx2
        from huggingface_hub import constants, get_session
        from huggingface_hub.errors import HfHubHTTPError

        self._check_open()
        left = nbytes
        try:
            address = self._locate()
            with get_session().stream(
                "GET",
                address,
                headers={**_headers_for(address), "Range": f"bytes={offset}-{offset + nbytes - 1}"},
                follow_redirects=False,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            ) as response:
                self._check_status(response, address)
                self._check_range(response, offset, nbytes)
                with self._watched(response):
                    for part in response.iter_raw():
                        if len(part) > left:
                            raise self._wrong(f"more than the {nbytes} bytes of the range")
                        left -= len(part)
                        yield part
        except (httpx2.TransportError, httpx2.StreamError) as error:
            self._check_open()
            raise _Retry(f"the connection failed ({type(error).__name__})") from error
        except HfHubHTTPError as error:
            if error.response.status_code not in _RETRIED:
                raise
            raise _Retry(*_describe_status(error.response)) from error
        if left:
            raise _Retry(f"the answer ended {left} bytes early")

    def _locate(self) -> str:
        """Return where the file is served; asks the Hub once, and again after it expired."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        with self._lock:
            self._check_open()  # again: the holder of the lock may have waited for a silent server
            if self._address is None:
                place = self._place
                url = hf_hub_url(place.repository, place.name, revision=place.commit)
                found = get_hf_file_metadata(url)
                for what, expected, has in (
                    ("commit", place.commit, found.commit_hash),
                    ("size", place.nbytes, found.size),
                    ("ETag", place.etag, found.etag),
                ):
                    if has is not None and expected and has != expected:
                        raise self._wrong(f"{what} {has}, in that commit it is {expected}")
                self._address = found.location
            return self._address

    def _forget(self, address: str, moved_to: str | None = None) -> None:
        with self._lock:
            if self._address == address:
                self._address = moved_to

    def _check_status(self, response: Any, address: str) -> None:
        from huggingface_hub import hf_raise_for_status

        status = response.status_code
        if status == 206:
            return
        if status in _RETRIED:
            raise _Retry(*_describe_status(response))
        if status in _REDIRECTS and "Location" in response.headers:
            self._forget(address, urljoin(address, response.headers["Location"]))
            raise _Retry(f"the address of its bytes has moved ({status})", 0)
        if status in _REDIRECTS or (status in _EXPIRED and not is_hub(address)):
            self._forget(address)  # a signed address that has expired
            raise _Retry(f"the address of its bytes has expired ({status})")
        hf_raise_for_status(response)
        raise self._wrong(
            f"status {status} instead of 206 (partial content): it ignores ranges. Download the "
            f"model with `hf download {self._place.repository}` and name its folder"
        )

    def _check_range(self, response: Any, offset: int, nbytes: int) -> None:
        expected = f"bytes {offset}-{offset + nbytes - 1}/{self._place.nbytes}"
        found = response.headers.get("Content-Range")
        if found != expected:
            raise self._wrong(f"Content-Range {found!r} instead of {expected!r}")
        length = response.headers.get("Content-Length", str(nbytes))
        if length != str(nbytes):
            raise self._wrong(f"{length[:20]} bytes instead of {nbytes}")

    def _wrong(self, what: str) -> HubError:
        return HubError(f"{self._place.where}: the server answers with {what}")

    @contextmanager
    def _watched(self, response: Any) -> Iterator[None]:
        """Let ``close`` wake this thread while it waits for bytes."""
        stream = response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream else None
        if connection is not None:
            self._sockets.add(connection)
        try:
            yield
        finally:
            self._sockets.discard(connection)

    def close(self) -> None:
        """Wake all threads that wait for bytes; nothing can be read afterwards."""
        self._closed.set()
        for connection in tuple(self._sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _headers_for(address: str) -> dict[str, str]:
    """Return the headers of a request; the token goes to the Hub alone."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    return {**build_hf_headers(token=None if is_hub(address) else False)}


def _describe_status(response: Any) -> tuple[str, float | None]:
    """Return what a server answered, and the seconds after which it may be asked again."""
    text = response.headers.get("Retry-After", "")
    return f"the server answers {response.status_code}", float(text) if text.isdecimal() else None
