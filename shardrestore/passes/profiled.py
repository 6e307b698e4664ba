"""Scans and profiles: a scan written into one, and read back instead of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoint.entry import show_name
from ..errors import ProfileError
from ..granularity import Granularity
from ..pairing.pairs import Pair
from ..pairing.problems import Problem
from ..plan.segment import Segment
from ..profile.contents import Contents, ProfiledTensor
from ..profile.file import Profile, Tallies, write_profile
from ..scoring import Scoring
from ..selection.histogram import SparseHistogram
from .scan import Scan


def save_scan(
    path: Path,
    scan: Scan,
    pairs: Sequence[Pair],
    inputs: Mapping[str, Any],
    scoring: Scoring,
    granularity: Granularity,
    *,
    problems: Sequence[Problem] = (),
) -> None:
    """Write what a scan found as the new file `path`.

    Parameters
    ----------
    path : Path
    scan : Scan
    pairs : sequence of Pair
        What was scanned, empty tensors included, in canonical order.
    inputs : mapping
        Identities of ``base`` and ``target``.
    scoring : Scoring
        How it was scanned.
    granularity : Granularity
        Whose segments were scanned.
    problems : sequence of Problem
        Tensors that could not be paired.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    contents = Contents(
        segment_elements=granularity.segment_elements,
        inputs=inputs,
        scoring=scoring,
        tensors=tuple(
            ProfiledTensor(
                name=pair.name,
                shape=pair.target.shape,
                dtypes=(pair.base.dtype, pair.target.dtype),
                exact=pair.exact,
            )
            for pair in pairs
        ),
        unpaired={problem.name: problem.text for problem in problems},
    )
    tallies = Tallies(zero_base=scan.zero_base, nonfinite=scan.nonfinite, overflows=scan.overflows)
    write_profile(path, contents, scan.histograms, tallies)


def load_scan(profile: Profile, segments: Sequence[Segment]) -> Scan:
    """Return what a profile knows of some segments, as a scan would have found it.

    Parameters
    ----------
    profile : Profile
        Of the same weights and options; the caller has checked that.
    segments : sequence of Segment
        Of any regions, in canonical order.

    Raises
    ------
    ProfileError
        If it does not know one of the segments.
    """
    records = _find_records(profile, segments)
    tallies = profile.tallies
    return Scan(
        segments=tuple(segments),
        histograms=_Excerpt(profile, records),
        zero_base=tallies.zero_base[records],
        nonfinite=tallies.nonfinite[records],
        overflows=tallies.overflows[records],
    )


class _Excerpt:
    """Some of a profile's histograms under the numbers of a run's segments."""

    def __init__(self, profile: Profile, records: npt.NDArray[np.int64]) -> None:
        self._profile = profile
        self._records = records

    def get(self, number: int) -> SparseHistogram:
        """Return the histogram of a segment."""
        return self._profile.get(int(self._records[number]))

    def close(self) -> None:
        """Leave the profile open: it is its opener's."""


def _find_records(profile: Profile, segments: Sequence[Segment]) -> npt.NDArray[np.int64]:
    """Return the number that each segment has in the profile."""
    first: dict[str, int] = {}
    sizes: dict[str, tuple[int, bool]] = {}
    for number, (tensor, _) in enumerate(profile.contents.segments()):
        first.setdefault(tensor.name, number)
        sizes[tensor.name] = tensor.elements, tensor.exact
    records = np.empty(len(segments), np.int64)
    for segment in segments:
        name, pair = segment.pair.name, segment.pair
        if sizes.get(name) != (pair.target.elements, pair.exact):
            raise ProfileError(
                f"profile {profile.path}: has no counts of {show_name(name)}, which is in the "
                "region: scan again, without leaving it out"
            )
        records[segment.number] = first[name] + segment.index
    return records
