"""Profiles on disk: a safetensors file that is written and read segment by segment.

Six arrays, one after the other. The first four have one entry for each segment
(``ends`` where its bins end in the last two, its zero base weights, its NaN and
infinite weights, its overflows); ``counts`` and ``bins`` hold the histograms
without their empty bins. The header's free text holds what they are about, and
the SHA-256 of that text and of all arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..checkpoint.allowance import Allowance
from ..checkpoint.document import weigh_document
from ..checkpoint.folder import read_header
from ..checkpoint.header import Header, encode_header
from ..checkpoint.source import LocalFile
from ..errors import CheckpointError, ProfileError
from ..granularity import DEFAULT_GRANULARITY, Granularity
from ..output.writer import ShardWriter
from ..selection.histogram import HistogramStore, SparseHistogram
from ..selection.score import BINS
from .contents import Contents, decode_contents

_PER_SEGMENT = ("ends", "zero_base", "nonfinite", "overflows")
_ARRAYS = (*((name, "I64") for name in _PER_SEGMENT), ("counts", "U32"), ("bins", "U16"))
_TEXT = "shardrestore_profile"
_BLOCK_BYTES = 1 << 20
_TENSOR_BYTES = 512
# Measured, with 46,080 tensors: 36 MB at the peak, of 42 MB by the sum of both terms.
_LARGEST_TEXT = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """Counts of elements beside the histograms, one entry for each segment."""

    zero_base: npt.NDArray[np.int64]
    nonfinite: npt.NDArray[np.int64]
    overflows: npt.NDArray[np.int64]


def write_profile(
    path: Path, contents: Contents, histograms: HistogramStore, tallies: Tallies
) -> None:
    """Write a profile as the new file `path`; one histogram at a time is in memory.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    segments = tallies.zero_base.size
    sizes = np.fromiter((histograms.get(n).bins.size for n in range(segments)), np.int64, segments)
    text = contents.encode()
    digest = hashlib.sha256(text.encode())
    header = _encode_header(text, segments, int(sizes.sum()), digest.hexdigest())
    offset = len(header)
    writer = ShardWriter.create(path, header, offset + 8 * 4 * segments + 6 * int(sizes.sum()))
    try:
        for part in _parts(histograms, tallies, sizes):
            digest.update(part)
            writer.write(offset, memoryview(part))
            offset += len(part)
        # The hash is known last and has a fixed length: the header is written again.
        writer.write(
            0, memoryview(_encode_header(text, segments, int(sizes.sum()), digest.hexdigest()))
        )
        writer.finish()
    finally:
        writer.close()


def _encode_header(text: str, segments: int, bins: int, digest: str) -> bytes:
    sizes = {"counts": bins, "bins": bins}
    arrays = [(name, dtype, (sizes.get(name, segments),)) for name, dtype in _ARRAYS]
    return encode_header(arrays, {_TEXT: text, "sha256": digest})


def _parts(
    histograms: HistogramStore, tallies: Tallies, sizes: npt.NDArray[np.int64]
) -> Iterator[bytes]:
    """Yield the arrays' bytes in the order of the file."""
    for array in (np.cumsum(sizes), tallies.zero_base, tallies.nonfinite, tallies.overflows):
        yield array.astype(np.int64).tobytes()
    for number in range(sizes.size):
        yield histograms.get(number).counts.astype(np.uint32).tobytes()
    for number in range(sizes.size):
        yield histograms.get(number).bins.astype(np.uint16).tobytes()


class Profile:
    """An open profile: a store of histograms by segment number; close it after use.

    Parameters
    ----------
    path : Path
    granularity : Granularity
        Whose segments it must be of.
    allowance : Allowance, optional
        What parsing its header and its text may take.

    Raises
    ------
    ProfileError
        If the file is missing, damaged, edited, of other segments, or no profile.
    MemoryBudgetError
        If it is too large to be parsed.
    """

    def __init__(
        self,
        path: Path,
        granularity: Granularity = DEFAULT_GRANULARITY,
        allowance: Allowance | None = None,
    ) -> None:
        self.path = path
        allowance = allowance or Allowance()
        try:
            self._source = LocalFile(path)
        except CheckpointError as error:
            raise ProfileError(f"profile {error}") from error
        try:
            header = self._read_header(allowance)
            text = (header.metadata or {}).get(_TEXT, "")
            self._check_bytes(header, text)
            allowance.take(weigh_document(text.encode("utf-8", "surrogatepass")), str(path))
            self.contents = self._decode(text, granularity.segment_elements)
            self.memory_bytes = 4 * len(header.raw) + _TENSOR_BYTES * len(self.contents.tensors)
            arrays = [self._read_array(header, name) for name in _PER_SEGMENT]
            self._begin = np.concatenate([[0], arrays[0]])
            self.tallies = Tallies(zero_base=arrays[1], nonfinite=arrays[2], overflows=arrays[3])
            if self.contents.count_segments() != header.tensors["ends"].elements:
                raise ProfileError(self._damaged("its arrays do not fit its tensors"))
            self._elements = [elements for _, elements in self.contents.segments()]
            self._counts_at = header.data_start + header.tensors["counts"].begin
            self._bins_at = header.data_start + header.tensors["bins"].begin
            self._check_ends(header)
        except CheckpointError as error:
            self.close()
            raise ProfileError(f"profile {error}: scan again") from error
        except BaseException:
            self.close()
            raise

    @property
    def segments(self) -> int:
        """Number of segments."""
        return len(self._elements)

    def get(self, number: int) -> SparseHistogram:
        """Return the histogram of a segment.

        Raises
        ------
        ProfileError
            If it is none of that many elements.
        """
        begin, end = int(self._begin[number]), int(self._begin[number + 1])
        counts = np.empty(end - begin, np.uint32)
        bins = np.empty(end - begin, np.uint16)
        try:
            self._source.read_into(self._counts_at + 4 * begin, _as_bytes(counts))
            self._source.read_into(self._bins_at + 2 * begin, _as_bytes(bins))
        except CheckpointError as error:
            raise ProfileError(f"profile {error}") from error
        histogram = SparseHistogram(bins=bins, counts=counts)
        ascending = bool(np.all(bins[1:] > bins[:-1])) and not (bins.size and bins[-1] >= BINS)
        if not ascending or histogram.total() != self._elements[number] or not counts.all():
            raise ProfileError(self._damaged(f"the counts of segment {number} make no sense"))
        return histogram

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _damaged(self, why: str) -> str:
        return f"profile {self.path}: {why}: scan again"

    def _read_header(self, allowance: Allowance) -> Header:
        header = read_header(self._source, allowance)
        found = [(name, entry.dtype) for name, entry in header.tensors.items()]
        if _TEXT not in (header.metadata or {}) or sorted(found) != sorted(_ARRAYS):
            raise ProfileError(
                f"{self.path}: a safetensors file, but no profile: make one with "
                "`shardrestore scan`"
            )
        return header

    def _check_bytes(self, header: Header, text: str) -> None:
        """Refuse a file that is not, byte for byte, what was written."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
        buffer = memoryview(bytearray(_BLOCK_BYTES))
        for offset in range(header.data_start, self._source.nbytes, _BLOCK_BYTES):
            part = buffer[: min(_BLOCK_BYTES, self._source.nbytes - offset)]
            self._source.read_into(offset, part)
            digest.update(part)
        recorded = (header.metadata or {}).get("sha256", "")
        if recorded != digest.hexdigest():
            raise ProfileError(
                self._damaged(
                    f"damaged or edited: its SHA-256 is {digest.hexdigest()[:12]}…, it was "
                    f"{recorded[:12]!s}…"
                )
            )

    def _decode(self, text: str, segment_elements: int) -> Contents:
        if len(text) > _LARGEST_TEXT:
            raise ProfileError(
                self._damaged(
                    f"its description has {len(text):,} characters, at most "
                    f"{_LARGEST_TEXT:,} are read"
                )
            )
        try:
            return decode_contents(text, segment_elements)
        except ValueError as error:
            raise ProfileError(self._damaged(str(error))) from error

    def _read_array(self, header: Header, name: str) -> npt.NDArray[np.int64]:
        entry = header.tensors[name]
        array = np.empty(entry.elements, np.int64)
        self._source.read_into(header.data_start + entry.begin, _as_bytes(array))
        return array

    def _check_ends(self, header: Header) -> None:
        sizes = {header.tensors[name].elements for name in _PER_SEGMENT}
        bins = {header.tensors[name].elements for name in ("counts", "bins")}
        rising = bool(np.all(self._begin[1:] >= self._begin[:-1])) and self._begin[0] == 0
        if sizes != {self.segments} or bins != {int(self._begin[-1])} or not rising:
            raise ProfileError(self._damaged("its arrays do not fit its tensors"))
        elements = np.array(self._elements, np.int64)
        for name, most in (("zero_base", 1), ("nonfinite", 2), ("overflows", 2)):
            tally = getattr(self.tallies, name)
            if np.any(tally < 0) or np.any(tally > most * elements):
                raise ProfileError(self._damaged(f"its {name} make no sense"))


def _as_bytes(array: npt.NDArray[np.generic]) -> memoryview:
    return memoryview(array).cast("B") if array.size else memoryview(bytearray())  # type: ignore[arg-type]
