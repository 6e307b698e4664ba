"""HTTP messages: requests as they are read and remembered, responses as they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from tests.support.hub.blobs import EMPTY, SLICE_BYTES, Blob


@dataclass(slots=True, kw_only=True)
class Request:
    """A request, and what became of it."""

    server: str
    """``hub`` or ``storage``"""
    method: str
    target: str
    """Path and query as sent."""
    path: str
    """As sent: still percent-encoded."""
    query: dict[str, str]
    headers: dict[str, str]
    """By lower-case name."""
    body: Blob = field(default=EMPTY, repr=False)
    body_bytes: int = 0
    status: int | None = None
    """None where the connection was reset."""
    sent_bytes: int = 0
    """Of the response's body, as handed to the kernel."""

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def token(self) -> str | None:
        """The token that the request carries, or None."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    def json(self) -> Any:
        return json.loads(self.body.read())

    def form(self) -> dict[str, list[str]]:
        fields: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.body.read().decode()):
            fields.setdefault(name, []).append(value)
        return fields


class Response:
    """A status, headers and a part of a blob; the whole of it unless said otherwise."""

    __slots__ = ("body", "headers", "start", "status", "stop")

    def __init__(
        self,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: Blob = EMPTY,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.status = status
        self.headers = dict(headers or {})
        self.body = body
        self.start = start
        self.stop = body.size_bytes if stop is None else stop

    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {self.stop - self.start}", "", ""]
        return "\r\n".join(lines).encode("latin-1")


def answer(document: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON document as a response."""
    headers = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Response(headers=headers, body=Blob(json.dumps(document).encode()))


def refuse(
    status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as the Hub tells it: in headers, which HEAD gets too, and in JSON."""
    response = answer({"error": message}, headers)
    response.status = status
    response.headers["X-Error-Message"] = message
    if code is not None:
        response.headers["X-Error-Code"] = code
    return response


def serve_range(request: Request, blob: Blob, headers: Mapping[str, str]) -> Response:
    """Return a blob, or the one range of it that a GET asks for: 206, or 416 beyond its end."""
    size = blob.size_bytes
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if request.method != "GET" or asked is None or asked[0] == "bytes=-":
        return Response(headers=headers, body=blob)
    if asked[1]:
        start, stop = int(asked[1]), min(int(asked[2] or size) + 1, size)
    else:
        start, stop = max(size - int(asked[2]), 0), size
    if start >= stop:
        return Response(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(status=206, headers=headers, body=blob, start=start, stop=stop)


def read_head(reader: BinaryIO, server: str) -> Request | None:
    """Read a request up to its body, or return None where the client has hung up."""
    words = reader.readline(1 << 16).decode("latin-1").split()
    if len(words) != 3:
        return None
    headers: dict[str, str] = {}
    while line := reader.readline(1 << 16).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    method, target, _ = words
    path, _, query = target.partition("?")
    return Request(
        server=server,
        method=method,
        target=target,
        path=path,
        query=dict(parse_qsl(query)) if query else {},
        headers=headers,
    )


def read_body(reader: BinaryIO, headers: Mapping[str, str], folder: Path) -> Blob:
    """Read the body of a request; what is larger than a slice goes to a file in the folder."""
    if "chunked" in headers.get("transfer-encoding", ""):
        pieces = _read_chunked(reader)
    else:
        pieces = _read_exactly(reader, int(headers.get("content-length", 0)))
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > SLICE_BYTES:
            with NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(content)
                file.writelines(pieces)
            return Blob(Path(file.name))
    return Blob(bytes(content)) if content else EMPTY


def _read_exactly(reader: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    while size_bytes > 0:
        piece = reader.read(min(size_bytes, SLICE_BYTES))
        if not piece:
            raise ConnectionError(f"the body ends {size_bytes} bytes early")
        size_bytes -= len(piece)
        yield piece


def _read_chunked(reader: BinaryIO) -> Iterator[bytes]:
    while size_bytes := int(reader.readline().partition(b";")[0], 16):
        yield from _read_exactly(reader, size_bytes)
        reader.readline()
    reader.readline()
