"""A loopback HTTP/1.1 server: a thread for each connection, kept alive between requests.

The standard library's handler parses headers as it does e-mail and writes them one by one, which
costs more than a ranged read of a megabyte. This one does what the clients of these tests need:
one request after another, bodies with a length or in chunks, and faults in what it sends.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from tests.support.hub.blobs import SLICE_BYTES
from tests.support.hub.faults import Fault
from tests.support.hub.messages import Request, Response, read_body, read_head, refuse

COPIED_BYTES = 64 << 10
"""Bodies up to here are joined with their head: one packet costs less than a copy saves."""

TICKS_PER_SECOND = 20
"""Pieces into which a slow body is cut for each second of it."""

NO_FAULT = Fault(path="")


class Site(Protocol):
    """What a server serves: the hub, which both servers report to."""

    folder: Path

    def find_fault(self, request: Request) -> Fault | None: ...

    def note(self, request: Request) -> None: ...


class Server:
    """Listens on a port of 127.0.0.1 from `start` to `stop`."""

    def __init__(
        self, name: str, site: Site, handle: Callable[[Request], Response], port: int = 0
    ) -> None:
        self.name = name
        self.port = port
        self._site = site
        self._handle = handle
        self._stopping = threading.Event()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Open the port, the same one again after a `stop`."""
        self._stopping.clear()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name=self.url, daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Close the port and all connections, and wait until nobody works on them any more."""
        self._stopping.set()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()  # wakes it up
        self._accepting.join()
        self._listener.close()
        with self._lock:
            connections = dict(self._connections)
        for thread, connection in connections.items():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._stopping.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            with self._lock:
                self._connections[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not self._stopping.is_set() and self._exchange(connection, reader):
                    pass
        except OSError:
            pass  # the client has hung up, or a fault has
        finally:
            with self._lock:
                del self._connections[threading.current_thread()]

    def _exchange(self, connection: socket.socket, reader: BufferedReader) -> bool:
        """Answer one request, and tell whether the connection may carry another one."""
        request = read_head(reader, self.name)
        if request is None:
            return False
        fault = self._site.find_fault(request) or NO_FAULT
        if fault.reset:
            return self._reset(connection, request)
        request.body = read_body(reader, request.headers, self._site.folder)
        request.body_bytes = request.body.size_bytes
        served = without_range(request) if fault.ignores_range else request
        response = fault.distort(fault.replace(request) or self._carry_out(connection, served))
        if fault.lost:
            return self._reset(connection, request)
        request.status = response.status
        self._site.note(request)
        self._stopping.wait(fault.delay_seconds)
        complete = self._send(connection, request, response, fault)
        return complete and request.headers.get("connection") != "close"

    def _carry_out(self, connection: socket.socket, request: Request) -> Response:
        try:
            return self._handle(request)
        except Exception as error:
            # The client is told, and pytest is by the thread that dies of it.
            told = refuse(500, None, f"the loopback Hub failed: {error!r}")
            connection.sendall(told.head() + told.body.read())
            raise

    def _reset(self, connection: socket.socket, request: Request) -> bool:
        self._site.note(request)
        # Closing without lingering sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _send(
        self, connection: socket.socket, request: Request, response: Response, fault: Fault
    ) -> bool:
        """Send a response as the fault lets it through, and tell whether it was complete."""
        head, start, stop = response.head(), response.start, response.stop
        if request.method == "HEAD" or start == stop:
            connection.sendall(head)
            return True
        if fault.endless is not None:
            return self._send_endless(connection, request, head, fault.endless)
        if fault is NO_FAULT and stop - start <= COPIED_BYTES and response.body.is_bytes:
            request.sent_bytes = stop - start
            connection.sendall(head + response.body.read()[start:stop])
            return True
        end = stop if fault.cut_after_bytes is None else min(start + fault.cut_after_bytes, stop)
        # Without a fault the head waits for the body, to leave in one packet with its start.
        connection.sendall(head, getattr(socket, "MSG_MORE", 0) if fault is NO_FAULT else 0)
        file = response.body.open()
        try:
            for first, last in self._pace(start, end, fault):
                request.sent_bytes += last - first
                response.body.send(connection, file, first, last)
        finally:
            if file is not None:
                file.close()
        return end == stop

    def _send_endless(
        self, connection: socket.socket, request: Request, head: bytes, piece: bytes
    ) -> bool:
        """Send a piece again and again until the client hangs up."""
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        connection.sendall(b"\r\n".join(lines))
        pieces = piece * (1 + SLICE_BYTES // len(piece))
        while not self._stopping.is_set():
            connection.sendall(pieces)
            request.sent_bytes += len(pieces)
        return False

    def _pace(self, start: int, end: int, fault: Fault) -> Iterator[tuple[int, int]]:
        """Cut a body into slices, and take the time over them that the fault wants."""
        slice_bytes, tick_seconds = SLICE_BYTES, 0.0
        if fault.bytes_per_second is not None:
            slice_bytes = max(1, fault.bytes_per_second // TICKS_PER_SECOND)
            tick_seconds = 1 / TICKS_PER_SECOND
        middle = (start + end) // 2 if fault.stall_seconds else end
        for first, last in ((start, middle), (middle, end)):
            for position in range(first, last, slice_bytes):
                yield position, min(position + slice_bytes, last)
                self._stopping.wait(tick_seconds)
            if last < end:
                self._stopping.wait(fault.stall_seconds)


def without_range(request: Request) -> Request:
    headers = {name: value for name, value in request.headers.items() if name != "range"}
    return replace(request, headers=headers)
