"""Profiles of given scores, and of pairs as the oracle scores them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from shardrestore.granularity import DEFAULT_GRANULARITY, Granularity
from shardrestore.profile.contents import Contents, ProfiledTensor
from shardrestore.profile.file import Profile, Tallies, write_profile
from shardrestore.scoring import Scoring
from shardrestore.selection.histogram import SparseHistogram
from tests.support import oracle
from tests.support.checkpoints import Case, cases
from tests.support.oracle import Expected

IDENTITY = {"path": "somewhere", "shards": [], "sample_sha256": "0" * 64}


class Segments:
    """Histograms of float32 scores, counted by NumPy."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = parts

    def get(self, number: int) -> SparseHistogram:
        scores = self._parts[number].astype(np.float32)
        keys = np.where(np.isnan(scores), np.uint32(0x7FC00000), scores.view(np.uint32))
        bins, counts = np.unique(keys >> 16, return_counts=True)
        return SparseHistogram(bins=bins.astype(np.uint16), counts=counts.astype(np.uint32))

    def close(self) -> None:
        """Nothing to close."""


def write_scores(
    path: Path,
    scores: Mapping[str, np.ndarray],
    *,
    exact: Mapping[str, bool] | None = None,
    zero_base: Mapping[str, np.ndarray] | None = None,
    nonfinite: Mapping[str, int] | None = None,
    granularity: Granularity = DEFAULT_GRANULARITY,
) -> Path:
    """Write a profile of the scores of tensors."""
    size = granularity.segment_elements
    names = sorted(scores)
    starts = [(name, at) for name in names for at in range(0, scores[name].size, size)]
    zeros = [
        int(np.sum(zero_base[name][at : at + size])) if zero_base else 0 for name, at in starts
    ]
    odd = [nonfinite.get(name, 0) if nonfinite and at == 0 else 0 for name, at in starts]
    contents = Contents(
        segment_elements=size,
        inputs={"base": IDENTITY, "target": IDENTITY},
        scoring=Scoring(),
        tensors=tuple(
            ProfiledTensor(
                name=name,
                shape=(scores[name].size,),
                dtypes=("BF16", "BF16"),
                exact=exact[name] if exact else True,
            )
            for name in names
        ),
        unpaired={"model.odd": "has no partner"},
    )
    tallies = Tallies(
        zero_base=np.array(zeros, np.int64),
        nonfinite=np.array(odd, np.int64),
        overflows=np.zeros(len(starts), np.int64),
    )
    histograms = Segments([scores[name][at : at + size] for name, at in starts])
    write_profile(path, contents, histograms, tallies)
    return path


def expect(case: Case, **request: object) -> Expected:
    """Ask the oracle, which ranks float32 scores by their bins as a profile does."""
    options = {"percent": 100.0, "region": "all", "exclude": ("quantised",), "approximate": True}
    return oracle.expect(case.base, case.target, twins=case.twins, **options | request)  # type: ignore[arg-type]


@contextmanager
def profiled(
    case: Case, granularity: Granularity = DEFAULT_GRANULARITY
) -> Iterator[tuple[Profile, Expected]]:
    """Open a profile of a pair as the oracle scores it."""
    everything = expect(case)
    sides = {
        name: (
            case.base.get(name, case.base.get("model.embed_tokens.weight")),
            case.target[name],
        )
        for name in everything.scores
    }
    with tempfile.TemporaryDirectory() as folder:
        path = write_scores(
            Path(folder, "p.profile.safetensors"),
            everything.scores,
            exact={name: target.dtype == "BF16" for name, (_, target) in sides.items()},
            zero_base={
                name: (base.values().to(oracle.TORCH_DTYPES[target.dtype]) == 0).numpy()
                for name, (base, target) in sides.items()
            },
            nonfinite=everything.nonfinite,
            granularity=granularity,
        )
        with Profile(path, granularity) as profile:
            yield profile, everything


FILLED = cases(nonfinite=None).filter(lambda case: expect(case).elements > 0)
