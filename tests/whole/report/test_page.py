"""The page in a browser: complete, silent, offline; its figures are those of ``show --json``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import shardrestore
from shardrestore.errors import OutputError, RequestError
from shardrestore.figures.overview import TensorOverview, make_cells
from shardrestore.figures.path_overview import detail_of
from shardrestore.plan.work import PAGE_DISK_BYTES
from shardrestore.report import page as page_module
from shardrestore.report import pictures
from shardrestore.report.document import (
    LISTED_TENSORS,
    NAME_CHARACTERS,
    encode_document,
    pack,
    shorten,
)
from tests.support.browser import Browser, browsing
from tests.support.profiles import write_scores
from tests.support.runs import BUDGET
from tests.support.scene import Scene

HOSTILE = (
    "model.layers.0.mlp.</script><script>document.title='owned'</script>.weight",
    "model.layers.0.mlp.<!--<script>.weight",
    "model.layers.0.mlp.<img src=x onerror=alert(1)>.weight",
    "model.layers.1.mlp.{{data}}.weight",
    "model.layers.1.mlp.\u2028\u2029.weight",
    "model.layers.2.mlp.\ud800.weight",
    "model.layers.2.mlp.\x00\x1b[31m\u202e.weight",
    "model.layers.3.mlp." + "long" * 10_000,
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module", params=["BF16", "F32"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A tiny pair and its profile."""
    scene = Scene.make(tmp_path_factory.mktemp("pair"), request.param)
    shardrestore.scan(scene.base, scene.target, profile_of(scene), max_memory=BUDGET)
    return scene


def profile_of(scene: Scene) -> Path:
    return scene.root / "p.profile.safetensors"


def report(source: Path, folder: Path, **options: Any) -> Path:
    output = folder / "page.html"
    assert shardrestore.write_report(source, output, overwrite=True, **options)[0] == output
    return output


def spread_scores(tensors: int, name: Callable[[int], str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {name(n): rng.lognormal(-4, 2, 40).astype(np.float32) for n in range(tensors)}


# In the browser -----------------------------------------------------------------------------


def show_share(share: float) -> str:
    """Return a share as the command line prints it."""
    return f"{share * 100:.1g} %" if 0 < share < 0.0001 else f"{share * 100:.2f} %"


def check_quiet(browser: Browser) -> None:
    assert browser.complaints() == []
    assert browser.requests() == []


def test_the_page_shows_the_figures_of_show(browser: Browser, pair: Scene, tmp_path: Path) -> None:
    options: dict[str, Any] = {"percents": [3, 10, 40], "strategy": ["top", "bottom"]}
    browser.open(report(profile_of(pair), tmp_path, **options))
    overview = shardrestore.show(profile_of(pair), **options)
    (region,) = (one for one in overview.regions if one.label == "transformer")
    assert browser.text("[data-figure=elements]") == f"{region.elements:,}"
    assert browser.text("[data-figure=unchanged]") == show_share(region.unchanged_share)
    assert browser.text("[data-figure=zero-base]") == show_share(region.zero_base_share)
    median = float(browser.text("[data-figure=median]"))
    assert median == pytest.approx(region.quantiles[0.5], rel=0.006)
    for view, strategy in enumerate(["top", "bottom"]):
        browser.one(f"#view option[value='{view}']").click()
        for number, cut in enumerate(overview.cuts):
            if cut.choice.strategy == strategy:
                browser.slide(f"{cut.choice.percent:g}")
                assert (
                    browser.text("[data-figure=selected]") == f"{cut.figures.selected_elements:,}"
                )
                check_answer(browser.text("#answer"), cut)
                check_cells(browser, overview, number)
    check_quiet(browser)


def check_answer(text: str, cut: shardrestore.OverviewCut) -> None:
    assert f"{cut.figures.selected_elements:,} of {cut.figures.region_elements:,} weights" in text
    found = re.search(r"[≥≤] ([\d.e-]+)( \(approximate\))?\.$", text)
    assert found is not None, text
    assert float(found[1]) == pytest.approx(cut.figures.threshold, rel=1e-5)
    assert bool(found[2]) == (not cut.figures.exact)


def check_cells(browser: Browser, overview: shardrestore.Overview, cut: int) -> None:
    """The tables below the heatmaps hold, layer by layer, what ``show`` prints."""
    kinds = overview.kind_names()
    means, restored = browser.table("#mean-table"), browser.table("#restored-table")
    rows = overview.rows()
    assert [row[0] for row in means] == [row[0] for row in restored] == [r.label for r in rows]
    for row, mean, share in zip(rows, means, restored, strict=True):
        for kind, mean_text, share_text in zip(kinds, mean[1:], share[1:], strict=True):
            cell = row.cells.get(kind)
            expected = cell.restored_share(cut) if cell else None
            assert share_text == ("–" if expected is None else show_share(expected))
            if cell is None:
                assert mean_text == "–"
            else:
                assert float(mean_text) == pytest.approx(cell.mean_score, rel=0.006)


def test_the_slider_changes_numbers_and_pictures(
    browser: Browser, pair: Scene, tmp_path: Path
) -> None:
    browser.open(report(profile_of(pair), tmp_path))
    seen = []
    for percent in ("0.5", "10", "99", "100"):
        browser.slide(percent)
        assert browser.one("#percent").get_attribute("aria-valuetext") == f"{percent} %"
        seen.append(
            tuple(
                browser.text(selector)
                for selector in ("[data-figure=selected]", "#answer", "#restored-table")
            )
        )
        assert browser.text("#restored-heading") == f"What is restored at {percent} %"
    assert len({part for parts in seen for part in parts}) == 3 * len(seen)
    shares = {text for row in browser.table("#restored-table") for text in row[1:]}
    assert shares == {"100.00 %", "–"}
    check_quiet(browser)


def test_columns_change_from_kinds_to_modules(
    browser: Browser, pair: Scene, tmp_path: Path
) -> None:
    browser.open(report(profile_of(pair), tmp_path))
    heads = "return [...document.querySelectorAll('#mean-table thead th')].map(e => e.textContent)"
    before = browser.driver.execute_script(heads)
    browser.driver.execute_script("document.querySelector('input[value=modules]').click()")
    after = browser.driver.execute_script(heads)
    assert before == ["layer", "attention", "mlp", "norm", "embedding"]
    assert {"q_proj", "k_proj", "gate_proj", "embed_tokens"} < set(after)
    check_quiet(browser)


def test_the_table_sorts_and_searches(browser: Browser, pair: Scene, tmp_path: Path) -> None:
    browser.open(report(profile_of(pair), tmp_path))
    overview = shardrestore.show(profile_of(pair), percents=[10])
    ordered = sorted(overview.tensors, key=lambda tensor: -tensor.mean_score)
    table = browser.table("#table")
    assert [row[0] for row in table] == [tensor.name for tensor in ordered]
    assert [row[3] for row in table] == [f"{tensor.elements:,}" for tensor in ordered]
    buttons = {button.text: button for button in browser.all("#table th button")}
    for label, key in (("tensor", 0), ("weights", 3), ("weights", 3)):
        buttons[label].click()
        head = browser.one("#table th[aria-sort]")
        assert head.text == label
        values: list[Any] = [row[key] for row in browser.table("#table")]
        if key:
            values = [int(value.replace(",", "")) for value in values]
        up = head.get_attribute("aria-sort") == "ascending"
        assert values == sorted(values, reverse=not up)
    browser.one("#search").send_keys("q_proj LAYERS.1")
    assert [row[0] for row in browser.table("#table")] == ["model.layers.1.self_attn.q_proj.weight"]
    assert browser.text("#found") == f"1 of {len(ordered)} tensors"
    check_quiet(browser)


def test_every_picture_says_what_it_shows(browser: Browser, pair: Scene, tmp_path: Path) -> None:
    browser.open(report(profile_of(pair), tmp_path))
    assert len(browser.all("[role=img]")) == 3
    for chart in browser.all("[role=img]"):
        label = chart.get_attribute("aria-label") or ""
        assert len(label) > 60
        assert re.search(r"\d", label)
        assert "NaN" not in label
        assert "undefined" not in label
    assert len(browser.all("[role=img] svg")) == 3
    labelled = "return [...document.querySelectorAll('input,select')].every(e => e.labels.length)"
    assert browser.driver.execute_script(labelled)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(
    browser: Browser, pair: Scene, tmp_path: Path, width: int, scheme: str
) -> None:
    browser.emulate(
        "setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    browser.emulate(
        "setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    try:
        browser.open(report(profile_of(pair), tmp_path, percents=[1, 3, 5, 10, 20, 40, 60]))
        root = "document.documentElement"
        script = f"return [{root}.scrollWidth, {root}.clientWidth]"
        widths = browser.driver.execute_script(script)
        assert widths[0] == widths[1] <= width
        colour = "return getComputedStyle(document.documentElement).backgroundColor"
        levels = map(int, re.findall(r"\d+", browser.driver.execute_script(colour))[:3])
        assert (sum(levels) > 380) == (scheme == "light")
        check_quiet(browser)
    finally:
        browser.emulate("clearDeviceMetricsOverride")
        browser.emulate("setEmulatedMedia", features=[])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_hint_in_the_search_field_is_as_readable_as_other_text(
    browser: Browser, pair: Scene, tmp_path: Path, scheme: str
) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.emulate("setEmulatedMedia", features=features)
    try:
        browser.open(report(profile_of(pair), tmp_path))
        colours = browser.driver.execute_script(
            "return [['search', '::placeholder'], ['found']].map(([id, part]) =>"
            " getComputedStyle(document.getElementById(id), part).color)"
        )
        assert colours[0] == colours[1]
    finally:
        browser.emulate("setEmulatedMedia", features=[])


def test_no_column_is_cut_off_on_paper(browser: Browser, pair: Scene, tmp_path: Path) -> None:
    source = report(profile_of(pair), tmp_path, percents=[3, 10], strategy=["top", "bottom"])
    paper = {"width": 990, "height": 1280, "deviceScaleFactor": 1, "mobile": False}
    browser.emulate("setDeviceMetricsOverride", **paper)
    browser.emulate("setEmulatedMedia", media="print")
    try:
        browser.open(source)
        script = "return document.getElementById('table').getBoundingClientRect().right"
        assert browser.driver.execute_script(script) <= 990
    finally:
        browser.emulate("clearDeviceMetricsOverride")
        browser.emulate("setEmulatedMedia", media="")


# What a page may be made of -----------------------------------------------------------------


def test_hostile_names_stay_text(browser: Browser, tmp_path: Path) -> None:
    scores = {name: np.full(8, 0.5 + n, np.float32) for n, name in enumerate(HOSTILE)}
    # JSON on disk holds no lone surrogate of a name, but as an escape.
    scores = {name: part for name, part in scores.items() if "\ud800" not in name}
    output = report(write_scores(tmp_path / "p", scores), tmp_path)
    browser.open(output)
    assert browser.driver.title != "owned"
    shown = {row[0] for row in browser.table("#table")}
    assert shown == {shorten(name) for name in scores}
    assert len(browser.all("#table img, #table script")) == 0
    check_quiet(browser)


def test_nothing_in_a_document_ends_its_script() -> None:
    encoded = encode_document({"names": list(HOSTILE)})
    assert encoded.isascii()
    assert b"<" not in encoded
    assert b"\n" not in encoded


@pytest.mark.parametrize(
    "scores",
    [
        {"model.layers.0.mlp.up_proj.weight": np.zeros(50, np.float32)},
        {"model.layers.0.mlp.up_proj.weight": np.full(1, 0.25, np.float32)},
        {"model.layers.0.mlp.up_proj.weight": np.array([0, np.inf, np.nan, 1e8, 1], np.float32)},
        {"model.layers.0.mlp.up_proj.weight": np.array([1e-12, 3e38], np.float32)},
        {"classifier.weight": np.linspace(0, 1, 30, dtype=np.float32)},
    ],
    ids=["unchanged", "one weight", "non-finite", "extreme", "outside all layers"],
)
def test_odd_scores_make_a_quiet_page(
    browser: Browser, tmp_path: Path, scores: dict[str, np.ndarray]
) -> None:
    exact = dict.fromkeys(scores, False)
    source = write_scores(tmp_path / "p", scores, exact=exact)
    browser.open(report(source, tmp_path, percents=[100], region="all"))
    assert browser.text("[data-figure=elements]") == f"{sum(map(np.size, scores.values())):,}"
    assert "NaN" not in browser.text("main")
    assert "undefined" not in browser.text("main")
    check_quiet(browser)


UP, Q = "model.layers.0.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize("strategy", ["top", "bottom"])
def test_a_threshold_that_is_not_finite_is_no_random_choice(
    browser: Browser, tmp_path: Path, strategy: str
) -> None:
    source = write_scores(tmp_path / "p", {UP: np.array([1, 2, np.inf, np.inf], np.float32)})
    percent = {"top": 25, "bottom": 75}[strategy]
    browser.open(report(source, tmp_path, percents=[percent], strategy=strategy))
    assert browser.text("#answer").endswith("weights, relative change not finite.")
    assert "relative change not finite" in browser.text("#facts")
    check_quiet(browser)


@pytest.mark.parametrize(
    ("score", "median"), [("relative", r"[\d.]+ %"), ("absolute", r"[\d.e-]+")]
)
def test_the_median_is_a_percentage_only_where_the_score_is_a_share_of_the_base(
    browser: Browser, pair: Scene, tmp_path: Path, score: str, median: str
) -> None:
    profile = tmp_path / "p.profile.safetensors"
    shardrestore.scan(pair.base, pair.target, profile, max_memory=BUDGET, score=score)
    browser.open(report(profile, tmp_path))
    assert re.search(f"half changed by {median} or less;", browser.text("#distribution-caption"))


def test_a_median_that_is_not_finite_is_not_called_zero(browser: Browser, tmp_path: Path) -> None:
    source = write_scores(
        tmp_path / "p", {UP: np.array([0, 1, np.nan, np.nan, np.nan], np.float32)}
    )
    browser.open(report(source, tmp_path, percents=[100]))
    assert "half changed by an amount that is not finite;" in browser.text("#distribution-caption")


def test_a_region_without_changes_keeps_no_picture_of_another(
    browser: Browser, tmp_path: Path
) -> None:
    scores = {UP: np.linspace(0, 1, 50, dtype=np.float32), Q: np.zeros(50, np.float32)}
    browser.open(
        report(write_scores(tmp_path / "p", scores), tmp_path, region=["mlp", "attention"])
    )
    chart = browser.one("#distribution-chart")
    assert chart.is_displayed()
    browser.one("#view option[value='1']").click()
    assert "50 weights of attention" in browser.text("#distribution-caption")
    assert not chart.is_displayed()
    browser.one("#view option[value='0']").click()
    assert chart.is_displayed()
    assert "50 weights of mlp" in str(chart.get_attribute("aria-label"))
    check_quiet(browser)


def test_layers_sort_by_number_in_every_tower(browser: Browser, tmp_path: Path) -> None:
    names = ("model.layers.{}.mlp.up_proj.weight", "vision_tower.encoder.layers.{}.mlp.fc1.weight")
    scores = spread_scores(24, lambda n: names[n % 2].format(n // 2))
    browser.open(report(write_scores(tmp_path / "p", scores), tmp_path))
    browser.one("#table th:nth-child(2) button").click()
    towers = ("", "vision ")
    expected = [f"{tower}{layer}" for tower in towers for layer in range(12)]
    assert [row[1] for row in browser.table("#table")] == expected


def test_modules_with_line_ends_stay_apart(browser: Browser, tmp_path: Path) -> None:
    scores = {
        f"model.layers.0.mlp.up\n{part}.weight": np.full(8, size, np.float32)
        for part, size in (("a", 0.25), ("b", 4))
    }
    browser.open(report(write_scores(tmp_path / "p", scores), tmp_path, percents=[50]))
    browser.driver.execute_script("document.querySelector('input[value=modules]').click()")
    assert browser.table("#mean-table") == [["0", "0.25", "4"]]
    assert browser.table("#restored-table") == [["0", "0.00 %", "100.00 %"]]


def test_without_a_slider_the_cuts_of_a_profile_are_not_called_a_models(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardrestore.figures.distributions.MOST_COUNTS", 0)
    source = write_scores(tmp_path / "p", {UP: np.linspace(0, 1, 50, dtype=np.float32)})
    browser.open(report(source, tmp_path, percents=[10, 20]))
    assert not browser.one("#percent").is_displayed()
    labels = [option.text for option in browser.all("#view option")]
    assert labels == [f"most changed {percent} % of transformer" for percent in (10, 20)]
    assert "it has no slider" in browser.text("#notes")
    check_quiet(browser)


def test_too_many_tensors_are_left_out_with_a_word(browser: Browser, tmp_path: Path) -> None:
    def name(number: int) -> str:
        return f"model.layers.{number % 40}.mlp.experts.{number:05}.up_proj.weight"

    scores = spread_scores(LISTED_TENSORS + 300, name)
    output = report(write_scores(tmp_path / "p", scores), tmp_path)
    assert output.stat().st_size < PAGE_DISK_BYTES
    browser.open(output)
    assert len(browser.table("#table")) == LISTED_TENSORS
    assert "300 between them are left out" in browser.text("#left-out")
    ordered = sorted(scores, key=lambda one: -float(scores[one].mean(dtype=np.float64)))
    assert browser.table("#table")[0][0] == ordered[0]
    assert browser.table("#table")[-1][0] == ordered[-1]
    check_quiet(browser)


def test_many_cuts_of_many_tensors_stay_below_the_size_of_a_page(tmp_path: Path) -> None:
    blocks = [f"model.layers.{n}" for n in range(80)]
    modules = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    names = [f"{block}.{module}" for block in blocks for module in modules]
    tensors = tuple(
        TensorOverview(
            name=f"{name}.{copy:04}.weight",
            tower="language",
            layer=int(name.split(".")[2]),
            kind="mlp" if "mlp" in name else "attention",
            module=name.rsplit(".", 1)[1],
            elements=58_720_256,
            mean_score=0.0123456789012345,
            unchanged_share=0.123456789012345,
            restored=(12_345_678,) * 42,
        )
        for copy in range(7)
        for name in names
    )
    source = write_scores(tmp_path / "p", {UP: np.linspace(0, 1, 50, dtype=np.float32)})
    overview = shardrestore.show(source, percents=[10])
    many = replace(overview, tensors=tensors, cells=make_cells(tensors), cuts=overview.cuts * 42)
    assert len(page_module.encode_page(many, None)) < PAGE_DISK_BYTES


def test_scores_of_any_size_are_readable(browser: Browser, tmp_path: Path) -> None:
    sizes = [0.0, 1.5e-7, 0.00123, 0.5, 20.0, 999.9, 6612.0, 123_456.0, 4e9]
    scores = {
        f"model.layers.{n}.mlp.up_proj.weight": np.full(200, size, np.float32)
        for n, size in enumerate(sizes)
    }
    exact = dict.fromkeys(scores, False)
    browser.open(report(write_scores(tmp_path / "p", scores, exact=exact), tmp_path))
    shown = [float(row[4].replace(",", "")) for row in browser.table("#table")]
    assert shown == pytest.approx(sorted(sizes, reverse=True), rel=0.01)
    assert all(re.fullmatch(r"[\d,.]+(e-?\d+)?", row[4]) for row in browser.table("#table"))
    check_quiet(browser)


# Beside a model -----------------------------------------------------------------------------


def restore(scene: Scene, folder: Path, *percents: float, **options: Any) -> Path:
    """Restore into a new folder; return the first model."""
    settings: dict[str, Any] = {"max_memory": BUDGET, **options}
    made = shardrestore.sweep(scene.base, scene.target, folder, percents=percents, **settings)
    return made[0].output


@pytest.mark.parametrize("strategy", ["top", "bottom", "random"])
def test_a_run_leaves_a_page_with_its_own_counts(
    browser: Browser, pair: Scene, tmp_path: Path, strategy: str
) -> None:
    made = restore(pair, tmp_path / "sweep", 10, 3, strategy=strategy)
    browser.open(made / "report.html")
    model = shardrestore.show(made)
    assert browser.text("[data-figure=selected]") == f"{model.cuts[0].figures.selected_elements:,}"
    restored = browser.table("#restored-table")
    for row, texts in zip(model.rows(), restored, strict=True):
        shares = [row.cells[kind].restored_share(0) for kind in model.kind_names()]
        assert texts == [row.label, *(show_share(share or 0.0) for share in shares)]
    by_name = {tensor.name: tensor for tensor in model.tensors}
    for cells in browser.table("#table"):
        tensor = by_name[cells[0]]
        assert cells[-1] == show_share((tensor.restored[0] or 0) / tensor.elements)
    facts = browser.text("#facts")
    for part in ("s so far: scan", "MiB planned", "of weights", made.name, strategy):
        assert part in facts
    assert str(made.parent) not in facts, "where it lies is nobody else's business"
    check_quiet(browser)


def test_the_slider_of_a_runs_page_goes_over_all_percents(
    browser: Browser, pair: Scene, tmp_path: Path
) -> None:
    browser.open(restore(pair, tmp_path / "sweep", 10, exclude=["down_proj"]) / "report.html")
    if browser.one("#view").is_displayed():  # refined cuts are no position of the slider
        browser.all("#view option")[-1].click()
    again = shardrestore.plan(
        pair.base, pair.target, percent=60, exclude=["down_proj"], max_memory=BUDGET
    )
    browser.slide("60")
    assert browser.text("[data-figure=selected]") == f"{again.models[0].selected_elements:,}"
    check_quiet(browser)


def test_a_finished_folder_makes_a_page_that_says_what_it_lacks(
    browser: Browser, pair: Scene, tmp_path: Path
) -> None:
    made = restore(pair, tmp_path / "sweep", 10)
    browser.open(report(made, tmp_path))
    assert "shardrestore scan" in browser.text("#notes")
    assert "page of its own" in browser.text("#notes")
    assert not browser.one("#distribution").is_displayed()
    assert not browser.one("#percent").is_displayed()
    model = shardrestore.show(made)
    for row, texts in zip(model.rows(), browser.table("#restored-table"), strict=True):
        shares = [row.cells[kind].restored_share(0) for kind in model.kind_names()]
        assert texts == [row.label, *(show_share(share or 0.0) for share in shares)]
    check_quiet(browser)


def test_a_report_in_place_of_a_runs_page_does_not_send_the_reader_there(
    pair: Scene, tmp_path: Path
) -> None:
    made = restore(pair, tmp_path / "sweep", 10)
    page = made / "report.html"
    shardrestore.write_report(made, page, overwrite=True)
    assert "page of its own" not in page.read_text()


def test_a_run_without_a_report_leaves_none(pair: Scene, tmp_path: Path) -> None:
    made = restore(pair, tmp_path / "sweep", 10, report=False)
    assert not (made / "report.html").exists()
    restore(pair, tmp_path / "sweep", 10, report=True, overwrite=True)
    assert (made / "report.html").exists()
    restore(pair, tmp_path / "sweep", 20, report=False)
    restore(pair, tmp_path / "sweep", 10, report=False, overwrite=True)
    assert not (made / "report.html").exists()  # it told of the model before


def test_a_report_is_no_side_file_of_the_next_model(pair: Scene, tmp_path: Path) -> None:
    made = restore(pair, tmp_path / "first", 10)
    again = shardrestore.sweep(
        pair.base, made, tmp_path / "second", percents=[10], report=False, max_memory=BUDGET
    )
    assert not (again[0].output / "report.html").exists()


def test_verify_neither_demands_nor_minds_a_report(pair: Scene, tmp_path: Path) -> None:
    made = restore(pair, tmp_path / "sweep", 10, checksum=True)
    assert b"report.html" not in (made / "SHA256SUMS").read_bytes()
    (made / "report.html").write_text("edited")
    assert shardrestore.verify(made, max_memory=BUDGET).ok
    (made / "report.html").unlink()
    assert shardrestore.verify(made, max_memory=BUDGET).ok


def test_a_finished_run_that_is_resumed_keeps_its_page(pair: Scene, tmp_path: Path) -> None:
    made = restore(pair, tmp_path / "sweep", 10)
    before = (made / "report.html").read_bytes()
    restore(pair, tmp_path / "sweep", 10, resume=True)
    assert (made / "report.html").read_bytes() == before


# Files --------------------------------------------------------------------------------------


def test_a_report_is_not_written_over_what_is_there(pair: Scene, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    output.write_text("mine")
    with pytest.raises(OutputError, match="exists: choose another --output, or pass --overwrite"):
        shardrestore.write_report(profile_of(pair), output)
    with pytest.raises(OutputError, match=r"name it profile.txt.html"):
        shardrestore.write_report(profile_of(pair), tmp_path / "profile.txt")
    made = restore(pair, tmp_path / "sweep", 10)
    with pytest.raises(RequestError, match="a finished model shows its own cut only"):
        shardrestore.write_report(made, tmp_path / "other.html", percents=[10])
    assert output.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "sweep"}


def test_pictures_lie_beside_the_page(pair: Scene, tmp_path: Path) -> None:
    written = shardrestore.write_report(profile_of(pair), tmp_path / "page.html", png=True)
    assert [path.name for path in written] == [
        "page.html",
        "page.distribution.png",
        "page.layers.png",
    ]
    for path in written[1:]:
        assert path.read_bytes().startswith(b"\x89PNG")
    made = restore(pair, tmp_path / "sweep", 10)
    written = shardrestore.write_report(made, tmp_path / "model.html", png=True)
    assert [path.name for path in written] == ["model.html", "model.layers.png"]


def test_a_picture_marks_the_cuts_of_one_strategy(tmp_path: Path) -> None:
    source = write_scores(tmp_path / "p", {UP: np.geomspace(1e-3, 1, 100, dtype=np.float32)})
    overview, detail = detail_of(source, percents=[5, 10], strategy=["bottom", "top"])
    assert detail is not None
    spec = pictures._draw_distribution(overview, detail.distributions[0])
    marks = [layer["data"]["values"] for layer in spec["layer"]][2]
    bottom = [cut.figures.threshold for cut in overview.cuts if cut.choice.strategy == "bottom"]
    assert [mark["score"] for mark in marks] == bottom


def test_pictures_without_their_library_are_refused_with_advice(
    pair: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardrestore.report.pictures.find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r"pip install 'shardrestore\[png\]'"):
        shardrestore.write_report(profile_of(pair), tmp_path / "page.html", png=True)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_one_message(
    pair: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "page"
    shutil.copytree(page_module._FOLDER, folder)
    (folder / "vega.min.js").unlink()
    monkeypatch.setattr(page_module, "_FOLDER", folder)
    with pytest.raises(OutputError, match=r"vega\.min\.js: cannot be read: .*install"):
        shardrestore.write_report(profile_of(pair), tmp_path / "page.html")
    with pytest.raises(OutputError, match="leave the report out with --no-report"):
        restore(pair, tmp_path / "sweep", 10)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_page_is_complete_and_below_its_size(pair: Scene, tmp_path: Path) -> None:
    text = report(profile_of(pair), tmp_path).read_text()
    assert len(text) < PAGE_DISK_BYTES
    assert "default-src 'none'" in text
    markup = re.sub(r"(<(script|style)[^>]*>).*?</\2>", r"\1", text, flags=re.DOTALL)
    assert len(markup) < 10_000
    assert re.findall(r"<(?:link|img|iframe|object)|src=|href=|url\(", markup) == []


# The document -------------------------------------------------------------------------------


def unpack(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Read what `pack` writes, as the page does."""
    import base64

    codes, code, unit = [], 0, 1
    for byte in base64.b64decode(text):
        code += (byte & 127) * unit
        unit *= 128
        if byte < 128:
            codes.append(-(code + 1) // 2 if code % 2 else code // 2)
            code, unit = 0, 1
    return np.cumsum(np.array(codes, np.int64).reshape(shape), axis=1)


@given(
    arrays.arrays(
        np.int64,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.integers(0, 2**50) | st.integers(0, 200),
    )
)
@settings(deadline=None, derandomize=True)
def test_counts_are_packed_without_loss(counts: np.ndarray) -> None:
    assert np.array_equal(unpack(pack(counts), counts.shape), counts)


@given(st.text(max_size=400))
@settings(deadline=None, derandomize=True)
def test_names_are_shortened_in_the_middle(name: str) -> None:
    short = shorten(name)
    assert len(short) <= NAME_CHARACTERS
    assert short == name or (short[:50], short[-50:]) == (name[:50], name[-50:])
