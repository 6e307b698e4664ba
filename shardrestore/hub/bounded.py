"""The body of an answer, as far as it is within limits. Imports httpx2."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2

from .limits import PATIENCE_SECONDS, SLOWEST_BYTES_PER_SECOND, Limits, Refused


class BoundedStream(httpx2.SyncByteStream):
    """Yields the parts of a body while they come fast enough, and are not too many.

    Parameters
    ----------
    stream : httpx2.SyncByteStream
    limits : Limits
    host : str
        For messages.
    """

    def __init__(self, stream: httpx2.SyncByteStream, limits: Limits, host: str) -> None:
        self._stream = stream
        self._limits = limits
        self._host = host

    def __iter__(self) -> Iterator[bytes]:
        since, nbytes, position = time.monotonic(), 0, 0
        for part in self._stream:
            nbytes += len(part)
            position += len(part)
            self._limits.charge(part, position, self._host)
            yield part
            seconds = time.monotonic() - since
            if seconds > PATIENCE_SECONDS:
                self._limits.check_time(self._host)
                if nbytes < seconds * SLOWEST_BYTES_PER_SECOND:
                    raise Refused(
                        f"{self._host} sent {nbytes:,} bytes in {seconds:.0f} seconds, expected at "
                        f"least {SLOWEST_BYTES_PER_SECOND:,} a second: try again later"
                    )
                since, nbytes = time.monotonic(), 0

    def close(self) -> None:
        """Release the connection."""
        self._stream.close()
