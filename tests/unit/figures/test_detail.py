"""Sweeps are the cuts of ``show`` at every percent; distributions count every weight once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from shardrestore.figures import detail as detail_module
from shardrestore.figures.detail import MOST_COLUMNS, make_grid
from shardrestore.figures.distributions import SWEEP_PERCENTS
from shardrestore.figures.overview import TensorOverview
from shardrestore.figures.profile_overview import detail_of_profile, overview_of_profile
from shardrestore.granularity import Granularity
from shardrestore.profile.file import Profile
from tests.support.checkpoints import Case
from tests.support.examples import examples
from tests.support.library import GRANULARITIES
from tests.support.profiles import FILLED, profiled, write_scores

REGIONS = ("transformer", "attention", "mlp", "embedding", "all")


def place(name: str, layer: int | None = 0, kind: str = "mlp") -> TensorOverview:
    return TensorOverview(
        name=name,
        tower="language",
        layer=layer,
        kind=kind,
        module=name,
        elements=1,
        mean_score=0.0,
        unchanged_share=None,
        restored=(),
    )


@given(FILLED, GRANULARITIES)
@examples(10)
def test_a_sweep_holds_what_each_percent_restores_in_each_cell(
    case: Case, granularity: Granularity
) -> None:
    with profiled(case, granularity) as (profile, _):
        present = [group.label for group in overview_of_profile(profile).regions]
        _, detail = detail_of_profile(
            profile, percents=[100.0], regions=present, strategies=["top", "bottom"]
        )
        assert len(detail.sweeps) == 2 * len(present)
        for sweep in detail.sweeps:
            assert [point.percent for point in sweep.points] == [
                percent for percent in sorted(SWEEP_PERCENTS) if int(sweep.elements * percent / 100)
            ]
            shown = overview_of_profile(
                profile,
                percents=[point.percent for point in sweep.points],
                regions=[sweep.region],
                strategies=[sweep.strategy],
            )
            expected = np.zeros_like(sweep.restored)
            ranked = np.zeros_like(sweep.ranked)
            for cell, tensor in zip(detail.grid.of_tensor, shown.tensors, strict=True):
                expected[cell] += np.array([count or 0 for count in tensor.restored])
                ranked[cell] += tensor.elements if tensor.restored[0] is not None else 0
            assert np.array_equal(sweep.restored, expected)
            assert np.array_equal(sweep.ranked, ranked)
            for point, cut in zip(sweep.points, shown.cuts, strict=True):
                assert (point.selected, point.exact) == (
                    cut.figures.selected_elements,
                    cut.figures.exact,
                )
                assert point.threshold == cut.figures.threshold or np.isnan(point.threshold)


def test_percents_that_are_asked_for_are_stops(tmp_path: Path) -> None:
    scores = {"model.layers.0.mlp.up_proj.weight": np.linspace(0, 1, 4000, dtype=np.float32)}
    with Profile(write_scores(tmp_path / "p", scores)) as profile:
        _, detail = detail_of_profile(
            profile, percents=[0.05, 33.3], regions=["mlp"], strategies=["top"]
        )
    (sweep,) = detail.sweeps
    percents = [point.percent for point in sweep.points]
    assert percents == sorted({*SWEEP_PERCENTS, 0.05, 33.3})
    assert sweep.restored[0].tolist() == [int(4000 * percent / 100) for percent in percents]


@given(FILLED)
@examples(10)
def test_a_distribution_counts_every_weight_once(case: Case) -> None:
    with profiled(case) as (profile, everything):
        exact = all(tensor.exact for tensor in profile.contents.tensors)
        overview, detail = detail_of_profile(
            profile, percents=[100.0], regions=["all"], strategies=["top"]
        )
    (one,) = detail.distributions
    scores = np.concatenate([part for part in everything.scores.values() if part.size])
    parts = [one.unchanged, one.below, *one.counts, one.beyond]
    assert sum(parts) == one.elements == scores.size == overview.elements
    assert one.unchanged == np.sum(scores == 0)
    assert one.zero_base == round(overview.zero_base_share * overview.elements)
    assert len(one.edges) == (len(one.counts) + 1 if one.counts else 0)
    if exact:  # float32 scores are known to 1/256: some lie in the next bin
        assert one.beyond == np.sum(~(scores < 100))
        counted = np.histogram(scores[(scores > 0) & (scores < 100)], one.edges or [0, 1])[0]
        assert not one.counts or counted.tolist() == list(one.counts)


def test_scores_beyond_every_edge_are_counted_apart(tmp_path: Path) -> None:
    scores = np.array([0, 1e-10, 1e-9, 0.5, 99, 100, 1e9, np.inf, np.nan], np.float32)
    source = write_scores(tmp_path / "p", {"a.weight": scores}, exact={"a.weight": False})
    with Profile(source) as profile:
        _, detail = detail_of_profile(
            profile, percents=[100.0], regions=["all"], strategies=["top"]
        )
    (one,) = detail.distributions
    assert (one.unchanged, one.below + sum(one.counts), one.beyond) == (1, 4, 4)
    assert one.edges[-1] == 100


def test_a_grid_shows_modules_while_there_are_few() -> None:
    few = [place(f"m{n}", layer) for layer in range(3) for n in range(MOST_COLUMNS)]
    grid = make_grid(few)
    assert [spot[3] for spot in grid.spots[:MOST_COLUMNS]] == sorted(one.module for one in few[:16])
    assert [grid.spots[cell] for cell in grid.of_tensor] == [
        (one.tower, one.layer, one.kind, one.module) for one in few
    ]
    many = make_grid([*few, place("another")])
    assert many.spots == tuple(("language", layer, "mlp", "") for layer in range(3))


def test_a_grid_of_many_counts_shows_kinds() -> None:
    tensors = [place(name, layer) for layer in range(100) for name in "abc"]
    assert len(make_grid(tensors, 300).spots) == 300
    assert len(make_grid(tensors, 400).spots) == 100


def test_sweeps_that_are_too_large_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detail_module, "MOST_COUNTS", 50)
    monkeypatch.setattr("shardrestore.figures.distributions.MOST_COUNTS", 50)
    scores = {"model.layers.0.mlp.up_proj.weight": np.linspace(0, 1, 4000, dtype=np.float32)}
    with Profile(write_scores(tmp_path / "p", scores)) as profile:
        _, detail = detail_of_profile(profile, percents=[10.0], regions=["mlp"], strategies=["top"])
    assert detail.sweeps == ()
    assert detail.distributions[0].elements == 4000
