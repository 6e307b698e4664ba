"""An overview's figures are those of the sorted scores, and its cuts those of a run."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shardrestore
from shardrestore.errors import CheckpointError, ProfileError, RequestError
from shardrestore.figures.folder_overview import overview_of_folder
from shardrestore.figures.groups import Group
from shardrestore.figures.overview import (
    QUANTILES,
    Overview,
    ScoreGroup,
    layer_label,
)
from shardrestore.figures.path_overview import overview_of
from shardrestore.figures.profile_overview import overview_of_profile
from shardrestore.granularity import Granularity
from shardrestore.profile.contents import Contents, ProfiledTensor
from shardrestore.profile.file import Tallies, write_profile
from shardrestore.scoring import Scoring
from shardrestore.selection.histogram import SparseHistogram
from tests.support import oracle
from tests.support.checkpoints import Case, store, write_checkpoint
from tests.support.examples import examples
from tests.support.library import GRANULARITIES
from tests.support.profiles import FILLED, IDENTITY, expect, profiled, write_scores

REGIONS = ("transformer", "attention", "mlp", "embedding", "all")

PLACES = {
    "model.layers.0.self_attn.q_proj.weight": ("0", "attention"),
    "model.layers.0.self_attn.k_proj.bias": ("0", "attention"),
    "model.layers.0.mlp.down_proj.weight": ("0", "mlp"),
    "model.layers.1.mlp.gate_proj.weight": ("1", "mlp"),
    "model.layers.10.self_attn.o_proj.weight": ("10", "attention"),
    "model.layers.2.self_attn.q_norm.weight": ("2", "norm"),
    "model.layers.10.input_layernorm.weight": ("10", "norm"),
    "model.norm.weight": ("outside", "norm"),
    "model.embed_tokens.weight": ("outside", "embedding"),
    "lm_head.weight": ("outside", "embedding"),
    "classifier.weight": ("outside", "other"),
}
"""Layer and kind of the names in tests.support.checkpoints, told by hand."""


# Groups ---------------------------------------------------------------------------------------


def assert_describes(
    group: ScoreGroup, scores: Sequence[np.ndarray], *, tolerance: float = 0.0
) -> None:
    """Compare a group's figures with those of all its scores, sorted."""
    ranked = np.sort(np.concatenate(scores).astype(np.float64))
    wanted = [ranked[math.floor(round(p * 1000) * (ranked.size - 1) / 1000)] for p in QUANTILES]
    assert group.tensors == len(scores)
    assert group.elements == ranked.size
    assert tuple(group.quantiles) == QUANTILES
    np.testing.assert_allclose(list(group.quantiles.values()), wanted, rtol=tolerance)
    np.testing.assert_allclose(group.max_score, ranked[-1], rtol=tolerance)
    np.testing.assert_allclose(group.mean_score, np.mean(ranked), rtol=max(tolerance, 1e-12))
    np.testing.assert_allclose(group.unchanged_share, np.mean(ranked == 0), rtol=1e-12)


@given(FILLED, GRANULARITIES)
def test_groups_have_the_figures_of_their_sorted_scores(
    case: Case, granularity: Granularity
) -> None:
    with profiled(case, granularity) as (profile, everything):
        overview = overview_of_profile(profile)
        exact = all(tensor.exact for tensor in profile.contents.tensors)
    scores = {name: found for name, found in everything.scores.items() if found.size}
    places = {name: PLACES[name] for name in scores}
    groups = {f"region {group.label}": group for group in overview.regions}
    groups |= {f"kind {group.label}": group for group in overview.kinds}
    groups |= {f"layer {group.label}": group for group in overview.layers}
    wanted = {
        f"region {region}": [name for name in scores if oracle.in_region(name, region)]
        for region in REGIONS
    }
    for name, (layer, kind) in places.items():
        wanted.setdefault(f"kind {kind}", []).append(name)
        wanted.setdefault(f"layer {layer}", []).append(name)
    wanted = {label: names for label, names in wanted.items() if names}
    assert groups.keys() == wanted.keys()
    for label, names in wanted.items():
        # float32 scores are known to their bin, 1/128 wide; below the normal numbers, worse.
        parts = [scores[name] for name in names]
        small = any(((part > 0) & (part < 1e-37)).any() for part in parts)
        if exact or not small:
            assert_describes(groups[label], parts, tolerance=0 if exact else 1 / 128)
        assert groups[label].nonfinite == sum(everything.nonfinite.get(n, 0) for n in names)
    total = groups["region all"]
    assert total.zero_base_share == everything.zero_base / everything.elements
    assert (overview.elements, overview.nonfinite) == (total.elements, total.nonfinite)
    assert overview.unchanged_share == total.unchanged_share
    assert overview.zero_base_share == total.zero_base_share


@pytest.mark.parametrize("elements", [1, 2, 3, 10, 11, 100, 101, 1000, 1001, 5001])
def test_quantiles_are_elements_of_a_rank(tmp_path: Path, elements: int) -> None:
    rng = np.random.default_rng(elements)
    scores = np.sort(rng.integers(1, 0x7F00, elements).astype(np.uint32) << 16).view(np.float32)
    path = write_scores(
        tmp_path / "p", {"model.layers.0.mlp.up_proj.weight": rng.permutation(scores)}
    )
    (group,) = overview_of(path, percents=[100]).kinds
    # Thousandths, so that no rank is missed by a rounding error.
    ranks = [round(1000 * p) * (elements - 1) // 1000 for p in QUANTILES]
    assert list(group.quantiles.values()) == [float(scores[rank]) for rank in ranks]
    assert group.quantiles[0.5] == float(scores[(elements - 1) // 2])


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, 0x7FFF), min_size=1)),
        min_size=1,
        max_size=4,
    )
)
def test_merging_does_not_depend_on_the_order(parts: list[tuple[bool, list[int]]]) -> None:
    merged = []
    for order in itertools.permutations(parts):
        whole = Group()
        for exact, bins in order:
            part = Group(tensors=1, zero_base=len(bins), nonfinite=1)
            found, counts = np.unique(np.array(bins, np.uint16), return_counts=True)
            sparse = SparseHistogram(bins=found, counts=counts.astype(np.uint32))
            part.scores.add(sparse, exact=exact)
            whole.merge(part)
        merged.append(whole)
    for other in merged[1:]:
        assert np.array_equal(other.scores.exact, merged[0].scores.exact)
        assert np.array_equal(other.scores.binned, merged[0].scores.binned)
        counts = other.tensors, other.zero_base, other.nonfinite
        assert counts == (merged[0].tensors, merged[0].zero_base, merged[0].nonfinite)


# Cuts -----------------------------------------------------------------------------------------

PERCENTS = st.floats(0.001, 100) | st.sampled_from([1.0, 10.0, 50.0, 100.0])


@given(
    FILLED,
    GRANULARITIES,
    st.lists(PERCENTS, min_size=1, max_size=3, unique=True),
    st.sampled_from(REGIONS),
    st.sampled_from(["top", "bottom"]),
)
def test_cuts_restore_what_a_run_restores(
    case: Case, granularity: Granularity, percents: list[float], region: str, strategy: str
) -> None:
    wanted = [expect(case, percent=p, region=region, strategy=strategy) for p in percents]
    with profiled(case, granularity) as (profile, everything):
        request = {"percents": percents, "regions": [region], "strategies": [strategy]}
        if not all(one.selected for one in wanted):
            with pytest.raises(RequestError, match=rf"region {region}"):
                overview_of_profile(profile, **request)
            return
        overview = overview_of_profile(profile, **request)
    exactly = [
        expect(case, percent=p, region=region, strategy=strategy, approximate=False)
        for p in percents
    ]
    assert [tensor.name for tensor in overview.tensors] == list(everything.scores)
    for number, (cut, binned, fine) in enumerate(zip(overview.cuts, wanted, exactly, strict=True)):
        assert (cut.choice.region, cut.choice.strategy, cut.choice.percent) == (
            region,
            strategy,
            percents[number],
        )
        assert (cut.figures.region_elements, cut.figures.selected_elements) == (
            binned.elements,
            binned.selected,
        )
        assert cut.figures.threshold == pytest.approx(binned.threshold, rel=0, abs=0, nan_ok=True)
        restored = {
            tensor.name: tensor.restored[number]
            for tensor in overview.tensors
            if tensor.restored[number] is not None
        }
        assert restored == {name: int(taken.sum()) for name, taken in binned.taken.items()}
        if cut.figures.exact:
            assert restored == {name: int(taken.sum()) for name, taken in fine.taken.items()}
            assert cut.figures.threshold == pytest.approx(fine.threshold, rel=0, abs=0, nan_ok=True)
        assert overview.totals().total.restored[number] == cut.figures.selected_elements
        assert overview.totals().total.ranked[number] == cut.figures.region_elements


def test_a_cut_among_bfloat16_scores_is_exact_and_one_among_float32_scores_is_not(
    tmp_path: Path,
) -> None:
    names = [f"model.layers.0.mlp.{module}.weight" for module in ("down_proj", "up_proj")]
    scores = {
        names[0]: np.full(100, 0.5, np.float32),
        names[1]: np.linspace(2, 2.01, 100, dtype=np.float32),
    }
    path = write_scores(tmp_path / "p", scores, exact={names[0]: True, names[1]: False})
    overview = overview_of(path, percents=[10, 60], strategy=["top", "bottom"])
    assert [cut.figures.exact for cut in overview.cuts] == [False, True, True, False]


def test_ties_are_spread_without_overflow(tmp_path: Path) -> None:
    """The product of tie numbers and ties taken needs more than 64 bits."""
    elements = 3 << 33
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(3)]

    class Large:
        def get(self, number: int) -> SparseHistogram:
            return SparseHistogram(
                bins=np.array([5], np.uint16), counts=np.array([1 << 26], np.uint32)
            )

        def close(self) -> None:
            """Nothing to close."""

    contents = Contents(
        segment_elements=1 << 26,
        inputs={"base": IDENTITY, "target": IDENTITY},
        scoring=Scoring(),
        tensors=tuple(
            ProfiledTensor(name=n, shape=(1 << 33,), dtypes=("BF16", "BF16"), exact=True)
            for n in names
        ),
        unpaired={},
    )
    none = np.zeros(elements >> 26, np.int64)
    tallies = Tallies(zero_base=none, nonfinite=none, overflows=none)
    write_profile(tmp_path / "p", contents, Large(), tallies)
    overview = overview_of(tmp_path / "p", percents=[70])
    total = overview.cuts[0].figures.selected_elements
    assert total == int(elements * 70.0 / 100)
    ends = [total * (layer + 1) // 3 for layer in range(3)]
    assert [tensor.restored[0] for tensor in overview.tensors] == [
        ends[0],
        ends[1] - ends[0],
        ends[2] - ends[1],
    ]


def test_cuts_come_in_the_order_of_a_sweep(tmp_path: Path) -> None:
    scores = np.arange(1, 101, dtype=np.float32)
    names = ("mlp.up_proj", "self_attn.q_proj")
    path = write_scores(tmp_path / "p", {f"model.layers.0.{name}.weight": scores for name in names})
    overview = overview_of(
        path, percents=[1, 5], region=["mlp", "attention"], strategy=["bottom", "top"]
    )
    assert [
        (cut.choice.region, cut.choice.strategy, cut.choice.percent) for cut in overview.cuts
    ] == list(itertools.product(["mlp", "attention"], ["bottom", "top"], [1, 5]))


# Tables ---------------------------------------------------------------------------------------


@given(FILLED)
@examples(10)
def test_cells_rows_and_totals_sum_their_tensors(case: Case) -> None:
    with profiled(case) as (profile, _):
        overview = overview_of_profile(
            profile, percents=[100.0], regions=["all"], strategies=["top"]
        )
    found: dict[tuple[str, str], list[int]] = {}
    for tensor in overview.tensors:
        found.setdefault(PLACES[tensor.name], []).append(tensor.elements)
    rows = overview.rows()
    shown = {(row.label, kind): cell for row in rows for kind, cell in row.cells.items()}
    assert {place: cell.elements for place, cell in shown.items()} == {
        place: sum(sizes) for place, sizes in found.items()
    }
    for cell in (*overview.cells, *(row.total for row in rows), overview.totals().total):
        assert cell.restored == (cell.elements,) == cell.ranked
        assert cell.restored_share(0) == (1.0 if cell.elements else None)
    assert sum(row.total.elements for row in rows) == overview.elements
    labels = [label for label in ("0", "1", "2", "10", "outside") if label in {a for a, _ in found}]
    assert [row.label for row in rows] == labels
    order = ("attention", "mlp", "norm", "embedding", "other")
    kinds = tuple(kind for kind in order if kind in {b for _, b in found})
    assert overview.kind_names() == kinds == tuple(overview.totals().cells)


def test_means_of_cells_are_weighted_by_elements(tmp_path: Path) -> None:
    scores = {
        "model.layers.0.mlp.up_proj.weight": np.full(30, 1.0, np.float32),
        "model.layers.0.mlp.down_proj.weight": np.full(10, 5.0, np.float32),
        "model.layers.0.self_attn.q_proj.weight": np.full(40, 0.0, np.float32),
        "model.layers.1.mlp.up_proj.weight": np.empty(0, np.float32),
    }
    overview = overview_of(write_scores(tmp_path / "p", scores))
    assert [(cell.kind, cell.mean_score) for cell in overview.cells] == [
        ("attention", 0.0),
        ("mlp", 2.0),
        ("mlp", 0.0),
    ]
    assert overview.totals().total.mean_score == 1.0
    assert overview.tensors[0].unchanged_share == 0
    assert overview.tensors[2].unchanged_share == 1


def test_layers_of_towers_have_names_of_their_own(tmp_path: Path) -> None:
    names = [
        "model.vision_tower.encoder.layers.10.self_attn.q_proj.weight",
        "model.vision_tower.encoder.layers.9.self_attn.q_proj.weight",
        "model.vision_tower.patch_embedding.weight",
        "model.multi_modal_projector.linear_1.weight",
        "model.language_model.layers.0.mlp.up_proj.weight",
        "lm_head.weight",
    ]
    path = write_scores(tmp_path / "p", {name: np.ones(3, np.float32) for name in names})
    overview = overview_of(path, percents=[50])
    labels = ["0", "outside", "vision 9", "vision 10", "vision", "projector"]
    assert [group.label for group in overview.layers] == labels
    assert [row.label for row in overview.rows()] == labels
    assert overview.cells[0].restored == (1,)
    assert overview.cells[-1].restored_share(0) is None
    assert layer_label("audio", 3) == "audio 3"


def numbers_of(document: object) -> Iterator[float]:
    """Yield every number of a document."""
    if isinstance(document, dict):
        document = list(document.values())
    if isinstance(document, list):
        for item in document:
            yield from numbers_of(item)
    elif isinstance(document, (int, float)):
        yield document


@given(FILLED)
@examples(10)
def test_the_summary_is_strict_json_whatever_the_scores(case: Case) -> None:
    with profiled(case) as (profile, _):
        overview = overview_of_profile(profile, percents=[100], regions=["all"], strategies=["top"])
    document = json.loads(json.dumps(shardrestore.summarize(overview), allow_nan=False))
    assert document["elements"] == overview.elements
    assert document["unpaired"] == {"model.odd": "has no partner"}
    assert [tensor["name"] for tensor in document["tensors"]] == [t.name for t in overview.tensors]
    assert len(document["cells"]) == len(overview.cells)
    assert set(document["regions"][0]["quantiles"]) == {f"{p:g}" for p in QUANTILES}
    assert all(math.isfinite(number) for number in numbers_of(document))


# Finished models ------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A finished model beside its ``base`` and ``target``."""
    rng = np.random.default_rng(5)
    base = {name: store(rng.normal(0, 0.02, (16, 16)), "BF16") for name in PLACES}
    target = {
        name: store(
            tensor.values().float().numpy() * (1 + rng.normal(0, 0.01, 256)), "BF16", (16, 16)
        )
        for name, tensor in base.items()
    }
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target)
    return restore(tmp_path)


def restore(folder: Path, name: str = "model", **options: object) -> Path:
    arguments = {"percent": 12.5, "max_memory": "16GiB", "workers": 1} | options
    sides = folder / "base", folder / "target"
    shardrestore.restore(*sides, folder / name, **arguments)  # type: ignore[arg-type]
    return folder / name


def restored_in(overview: Overview) -> dict[str, int]:
    return {
        tensor.name: tensor.restored[0]
        for tensor in overview.tensors
        if tensor.restored[0] is not None
    }


@pytest.mark.parametrize("strategy", ["top", "bottom"])
@pytest.mark.parametrize("region", ["transformer", "all"])
def test_a_finished_model_shows_what_its_profile_does(
    model: Path, region: str, strategy: str
) -> None:
    folder = restore(model.parent, "other", region=region, strategy=strategy)
    sides = [oracle.load(model.parent / side) for side in ("base", "target")]
    with profiled(Case(*sides, tied=False)) as (profile, _):
        asked = overview_of_profile(
            profile, percents=[12.5], regions=[region], strategies=[strategy]
        )
    shown = overview_of(folder)
    assert shown.cuts == asked.cuts
    assert restored_in(shown) == restored_in(asked)
    means = {tensor.name: tensor.mean_score for tensor in asked.tensors}
    for tensor in shown.tensors:
        assert tensor.mean_score == pytest.approx(means[tensor.name], abs=1e-8)
        assert tensor.unchanged_share is None
    assert (shown.origin, asked.origin) == ("model", "profile")
    assert shown.regions == shown.kinds == shown.layers == ()
    assert shown.inputs["target"]["path"] == str((model.parent / "target").resolve())
    if region == "all":
        assert shown.unchanged_share == asked.unchanged_share
        assert shown.zero_base_share == asked.zero_base_share


def test_a_model_of_random_choice_has_no_threshold(model: Path) -> None:
    overview = overview_of(restore(model.parent, "other", strategy="random"))
    assert overview.cuts[0].figures.threshold is None
    assert overview.totals().total.restored == (overview.cuts[0].figures.selected_elements,)
    json.dumps(shardrestore.summarize(overview), allow_nan=False)


def test_odd_names_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    names = ["model.layers.0.mlp.up\tproj.weight", "model.layers.1.mlp.\n\u2028.weight"]
    write_checkpoint(tmp_path / "base", {name: store([1.0, 2.0]) for name in names})
    write_checkpoint(tmp_path / "target", {name: store([1.5, 2.0]) for name in names})
    overview = overview_of(restore(tmp_path, percent=50))
    assert [(tensor.layer, tensor.kind) for tensor in overview.tensors] == [(0, "mlp"), (1, "mlp")]


def edit_record(folder: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    path = folder / "shardrestore.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def replace_in(name: str, old: bytes, new: bytes) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new, 1))

    return spoil


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no record": (
        lambda folder: (folder / "shardrestore.json").unlink(),
        "not a finished model, there is no shardrestore.json",
    ),
    "record is no JSON": (
        replace_in("shardrestore.json", b"{", b"["),
        "shardrestore.json: damaged",
    ),
    "record of the future": (
        replace_in("shardrestore.json", b'"format": 1', b'"format": 3'),
        "its format is 3",
    ),
    "no share": (
        lambda folder: edit_record(folder, lambda record: record["cut"].pop("unchanged_share")),
        r"cut.unchanged_share is missing, expected a number from 0 to 1",
    ),
    "impossible share": (
        lambda folder: edit_record(folder, lambda record: record["cut"].update(zero_base_share=2)),
        r"cut.zero_base_share is 2, expected a number from 0 to 1",
    ),
    "no count": (
        lambda folder: edit_record(
            folder, lambda record: record["cut"].update(nonfinite_weights="x")
        ),
        r"cut.nonfinite_weights is 'x', expected a whole number",
    ),
    "no flag": (
        lambda folder: edit_record(folder, lambda record: record["cut"].update(exact=1)),
        r"cut.exact is 1, expected true or false",
    ),
    "no summary": (lambda folder: (folder / "diff_summary.tsv").unlink(), "diff_summary.tsv"),
    "no statistics": (lambda folder: (folder / "restore_stats.tsv").unlink(), "restore_stats.tsv"),
    "other columns": (
        replace_in("diff_summary.tsv", b"numel", b"count"),
        "diff_summary.tsv: damaged: it has not the columns",
    ),
    "cut off": (
        lambda folder: (folder / "diff_summary.tsv").write_bytes(
            (folder / "diff_summary.tsv").read_bytes()[:-3]
        ),
        "does not end with a line",
    ),
    "empty": (lambda folder: (folder / "restore_stats.tsv").write_bytes(b""), "not the columns"),
    "too many columns": (
        replace_in("restore_stats.tsv", b".weight\t", b".weight\t\t"),
        "line 2 has 6 columns, expected 5",
    ),
    "binary": (replace_in("restore_stats.tsv", b"model", b"\xff\xfe"), "not UTF-8"),
    "other tensors": (
        replace_in("diff_summary.tsv", b"layers.0.mlp", b"layers.7.mlp"),
        "its tensors are not those of diff_summary.tsv",
    ),
    "other counts": (
        replace_in("shardrestore.json", b'"selected_elements": 160', b'"selected_elements": 161'),
        "160 restored in all, shardrestore.json says 161",
    ),
    "mean is a word": (replace_in("diff_summary.tsv", b"\t0.0", b"\tx"), "line 2 of .* is damaged"),
    "mean below zero": (replace_in("diff_summary.tsv", b"\t0.0", b"\t-9"), "is below zero"),
    "a link to nothing": (
        lambda folder: [
            (folder / "diff_summary.tsv").unlink(),
            (folder / "diff_summary.tsv").symlink_to("nowhere"),
        ],
        "diff_summary.tsv: cannot be opened",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT)
def test_damaged_reports_are_told_in_one_line(
    model: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(model)
    with pytest.raises(CheckpointError, match=message) as caught:
        overview_of_folder(model)
    assert "\n" not in str(caught.value)
    assert str(model) in str(caught.value)


def test_a_count_that_is_none_is_told_with_its_line(model: Path) -> None:
    path = model / "restore_stats.tsv"
    head, first, *others = path.read_text().split("\n")
    for count, message in (("-1", "'-1' is no count"), ("257", "257 of 256"), ("9" * 99, "count")):
        cells = first.split("\t")
        cells[2] = count
        path.write_text("\n".join([head, "\t".join(cells), *others]))
        with pytest.raises(CheckpointError, match=rf"line 2 .*{message}"):
            overview_of_folder(model)


def test_a_folder_of_several_models_names_one(model: Path) -> None:
    (model.parent / "sweep").mkdir()
    shutil.move(model, model.parent / "sweep" / "restore_transformer_top_12.5pct")
    with pytest.raises(CheckpointError, match=r"several models: name one of them.*12\.5pct"):
        overview_of(model.parent / "sweep")


# What cannot be shown -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked", [{"percents": [10]}, {"region": "mlp"}, {"strategy": "top"}], ids=str
)
def test_a_finished_model_answers_for_no_other_cut(model: Path, asked: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="its own cut only"):
        overview_of(model, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"strategy": "random"}, "strategy random: .*choose top or bottom"),
        ({"region": "embedding"}, "region embedding: .*choose one of transformer, mlp, all"),
        ({"percents": [0.001]}, "0.001 % of the 100 elements of region transformer is none"),
        ({"percents": [0]}, "percent 0"),
        ({"percents": [101]}, "percent 101"),
        ({"percents": []}, "no percent"),
        ({"percents": [1, 1]}, "twice"),
        ({"region": "heads"}, "region 'heads'"),
        ({"strategy": "best"}, "strategy 'best'"),
    ],
    ids=str,
)
def test_a_cut_that_cannot_be_made_is_refused(
    tmp_path: Path, asked: dict[str, object], message: str
) -> None:
    path = write_scores(
        tmp_path / "p", {"model.layers.0.mlp.up_proj.weight": np.ones(100, np.float32)}
    )
    with pytest.raises(RequestError, match=message):
        overview_of(path, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", RequestError, "empty"),
        ("nowhere", CheckpointError, "nowhere: no such file or folder"),
        ("a\0b", CheckpointError, "no such file or folder|not a usable path"),
        ("~nobody-of-this-name/p", CheckpointError, "not a usable path"),
        ("base", CheckpointError, "base: not a finished model"),
        ("base/model.safetensors", ProfileError, "a safetensors file, but no profile"),
        ("/dev/null", ProfileError, "not a regular file"),
    ],
    ids=str,
)
def test_a_path_that_is_neither_is_told(
    model: Path, monkeypatch: pytest.MonkeyPatch, path: str, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(model.parent)
    with pytest.raises(error, match=message) as caught:
        overview_of(path)
    assert "\n" not in str(caught.value)


def test_a_profile_of_nothing_is_refused(tmp_path: Path) -> None:
    path = write_scores(
        tmp_path / "p", {"model.layers.0.mlp.up_proj.weight": np.empty(0, np.float32)}
    )
    with pytest.raises(ProfileError, match="holds no scores: scan again"):
        overview_of(path)
