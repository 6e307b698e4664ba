"""Histograms of single segments, kept on disk: memory must not grow with the model.

A segment's histogram is needed twice: when it is counted, and when the ties at
the cut are numbered. A 70-billion-parameter model has a thousand segments of up
to 200 kB each, a Mixture-of-Experts model tens of thousands.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from ..errors import OutputError
from ..output.writer import explain_write_error
from ..selection.histogram import BIN_BYTES, SparseHistogram


class Spool:
    """An unnamed temporary file of sparse histograms, one for each number.

    Parameters
    ----------
    folder : Path
        Where the file lives, on a disk: ``/tmp`` may be memory.
    records : int
        How many histograms there may be.
    """

    def __init__(self, folder: Path, records: int) -> None:
        self._where = folder / "histograms"
        self._begin = np.zeros(records, np.int64)
        self._bins = np.zeros(records, np.int64)
        self._end = 0
        try:  # last: its owner closes the spool
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise explain_write_error(self._where, 0, error) from error

    def put(self, number: int, histogram: SparseHistogram) -> None:
        """Store the histogram of segment `number`."""
        record = histogram.bins.tobytes() + histogram.counts.tobytes()
        self._write(record, self._end)
        self._begin[number] = self._end
        self._bins[number] = histogram.bins.size
        self._end += len(record)

    def _write(self, record: bytes, begin: int) -> None:
        rest = memoryview(record)
        try:
            while rest:
                count = os.pwrite(self._file.fileno(), rest, begin)
                rest, begin = rest[count:], begin + count
        except OSError as error:
            raise explain_write_error(self._where, begin + len(rest), error) from error

    def get(self, number: int) -> SparseHistogram:
        """Return the histogram of segment `number`; empty if none was stored."""
        bins = int(self._bins[number])
        record = self._read(bins * BIN_BYTES, int(self._begin[number]))
        return SparseHistogram(
            bins=np.frombuffer(record, np.uint16, bins),
            counts=np.frombuffer(record, np.uint32, bins, offset=bins * 2),
        )

    def _read(self, nbytes: int, begin: int) -> bytes:
        record = b""
        try:
            while len(record) < nbytes:
                rest = nbytes - len(record)
                part = os.pread(self._file.fileno(), rest, begin + len(record))
                if not part:
                    raise OutputError(f"{self._where}: the work file was cut short")
                record += part
        except OSError as error:
            raise OutputError(f"{self._where}: cannot be read: {error.strerror}") from error
        return record

    def close(self) -> None:
        """Release the file; it has no name, so nothing is left on disk."""
        self._file.close()
