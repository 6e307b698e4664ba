"""Faults: what goes wrong with chosen requests, as it does with networks, mirrors and the Hub."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.support.hub.blobs import Blob
from tests.support.hub.messages import Request, Response, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Which requests are struck, and what happens to them.

    >>> hub.fail(Fault(path=r"model-00001", status=503, headers={"Retry-After": "1"}, times=2))
    >>> hub.fail(Fault(path=r"\\.safetensors$", only_ranged=True, after=10, cut_after_bytes=1000))
    """

    path: str
    """Regular expression searched for in the path as sent, on either server."""
    method: str | None = None
    server: Literal["hub", "storage"] | None = None
    only_ranged: bool = False
    """Whether requests without a ``Range`` are left alone."""
    after: int = 0
    """How many such requests are answered well first."""
    times: int | None = None
    """How many are struck then; all of them by default."""

    status: int | None = None
    """Answered instead; the request is not carried out."""
    error_code: str | None = None
    """``X-Error-Code`` of that answer: ``GatedRepo``, ``EntryNotFound``, …"""
    message: str = "a fault of the test"
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None
    """Address of another server that the request is sent on to, with a 302."""

    adds: dict[str, str] = field(default_factory=dict)
    """Headers added to whatever is answered."""
    body: bytes | None = None
    """Sent in the place of what is answered, with a 200."""
    endless: bytes | None = None
    """Sent over and over in the place of a body, without a ``Content-Length``."""

    reset: bool = False
    """The connection is reset before an answer; the request is not carried out."""
    lost: bool = False
    """The connection is reset before an answer, though the request has been carried out."""

    cut_after_bytes: int | None = None
    """The connection is closed there; ``Content-Length`` promises the whole body."""
    delay_seconds: float = 0
    """Before the head of the answer."""
    stall_seconds: float = 0
    """After the head and half the body."""
    bytes_per_second: int | None = None

    ignores_range: bool = False
    """A 200 with the whole file is sent, as some mirrors do."""
    shift_bytes: int = 0
    """``Content-Range`` names a range that much further on."""
    total_bytes: int | None = None
    """``Content-Range`` names this as the size of the file."""
    missing_bytes: int = 0
    """The body and ``Content-Length`` are that much shorter than ``Content-Range`` says."""

    def replace(self, request: Request) -> Response | None:
        """Return what is answered instead of carrying the request out, if anything is."""
        if self.body is not None:
            return Response(body=Blob(self.body))
        if self.redirect is not None:
            return Response(status=302, headers={"Location": self.redirect + request.target})
        if self.status is not None:
            return refuse(self.status, self.error_code, self.message, self.headers)
        return None

    def distort(self, response: Response) -> Response:
        """Return an answer with other headers, and a partial one with the wrong range."""
        response.headers.update(self.adds)
        if response.status == 206:
            first, last, total = map(int, re.findall(r"\d+", response.headers["Content-Range"]))
            first, last = first + self.shift_bytes, last + self.shift_bytes
            total = total if self.total_bytes is None else self.total_bytes
            response.headers["Content-Range"] = f"bytes {first}-{last}/{total}"
            response.stop = max(response.start, response.stop - self.missing_bytes)
        return response


class ArmedFault:
    """A fault lying in wait, and how often it has struck."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.hits = 0
        self._path = re.compile(fault.path)
        self._matched = 0
        self._lock = threading.Lock()

    def strikes(self, request: Request) -> bool:
        fault = self.fault
        if (
            fault.method not in (None, request.method)
            or fault.server not in (None, request.server)
            or (fault.only_ranged and "range" not in request.headers)
            or self._path.search(request.path) is None
        ):
            return False
        with self._lock:
            self._matched += 1
            struck = self._matched > fault.after and self.hits != fault.times
            self.hits += struck
        return struck
