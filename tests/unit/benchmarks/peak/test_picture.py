"""The picture of peak memory shows what was measured, and marks what was not."""

from __future__ import annotations

import json
from dataclasses import asdict
from xml.etree import ElementTree

import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.peak.picture import EXTRAPOLATED, LARGEST_GB, OURS, THEIRS, points, redraw, specify
from benchmarks.peak.samples import Sample

MIB = 1 << 20


def make_sample(side_gb: float, peak_mib: float) -> Sample:
    return Sample(
        label=f"{side_gb} GB",
        side_bytes=round(side_gb * 1e9),
        measured_bytes=(round(peak_mib * MIB),),
        projected_bytes=None,
    )


SERIES = [make_sample(size, 170) for size in (0.1, 1, 4)]
IN_MEMORY = [make_sample(size, 300 + 10_000 * size) for size in (0.1, 1)]


def of(who: str, rows: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(row["gb"], row["mib"]) for row in rows if row["who"] == who]


def test_the_extrapolated_line_goes_on_where_the_measured_one_ends():
    rows = points(SERIES, IN_MEMORY)
    assert of(OURS, rows) == [(0.1, 170), (1, 170), (4, 170)]
    assert of(EXTRAPOLATED, rows)[0] == of(THEIRS, rows)[-1] == (1, 10_300)
    assert of(EXTRAPOLATED, rows)[-1] == (LARGEST_GB, pytest.approx(300 + 10_000 * LARGEST_GB))


def test_nothing_is_extrapolated_from_one_size():
    assert of(EXTRAPOLATED, points(SERIES, IN_MEMORY[:1])) == []


def test_the_picture_says_in_words_what_it_shows():
    assert specify(SERIES, IN_MEMORY)["description"] == (
        "Peak memory of shardrestore: 170 to 170 MiB for models of 0.1 to 4 GB a side. The "
        "algorithm in memory: 1.3 GiB rising to 10.1 GiB at 1 GB a side."
    )


def write_results(folder, name, **samples):
    entries = {key: [asdict(sample) for sample in found] for key, found in samples.items()}
    (folder / f"{name}.json").write_text(json.dumps({"samples": entries}))


def test_large_models_come_into_the_picture_once_they_are_measured(tmp_path):
    pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
    write_results(tmp_path, "peak_memory", series=SERIES, in_memory=IN_MEMORY)
    write_results(tmp_path, "llama70b", peaks=[make_sample(138, 199)])
    picture = redraw(tmp_path)
    drawn = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    texts = ["".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "shardrestore run, measured: 170 to 199 MiB" in texts
    assert "in memory, extrapolated: 1,348 GiB" in texts
    assert "budget: 512 MiB, the default of --max-memory" in texts
    background = next(drawn.iter("{http://www.w3.org/2000/svg}rect"))
    assert background.get("fill") == "white"  # readable on a dark page too


def test_there_is_no_picture_without_results(tmp_path):
    with pytest.raises(BenchmarkError, match="run `python -m benchmarks peak_memory` first"):
        redraw(tmp_path)
