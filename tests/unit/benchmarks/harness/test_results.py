"""All results have one form, and the entry point speaks to its user."""

from __future__ import annotations

import argparse
import json
import shutil

import pytest

from benchmarks.__main__ import ALL, BENCHMARKS, main
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.options import numbers
from benchmarks.harness.requirements import Requirement
from benchmarks.harness.results import Results, publish
from benchmarks.harness.table import Spread, Table, spread_cells, summarize
from benchmarks.large.restoration import check_space

TABLE = Table(head=("", "ratio"), rows=(("ours", "1.00 ×"), ("a longer name", "12.50 ×")))


def make_results(**changes):
    return Results(name="trial", title="A trial", tables=(TABLE,), samples={"a": [1]}, **changes)


def test_a_table_is_aligned_as_plain_text_too():
    assert TABLE.markdown().splitlines() == [
        "|               |   ratio |",
        "| ------------- | ------: |",
        "| ours          |  1.00 × |",
        "| a longer name | 12.50 × |",
    ]


def test_a_caption_stands_above_its_table():
    table = Table(caption="Above", head=TABLE.head, rows=TABLE.rows)
    assert table.markdown() == f"Above\n\n{TABLE.markdown()}"


def test_a_spread_is_told_by_its_median_and_extremes():
    assert spread_cells(summarize([3, 1, 2]), " s", 1) == ("2.0 s", "1.0 – 3.0")


@pytest.mark.parametrize(
    ("limit", "at_least", "holds", "demand"),
    [
        (None, False, True, ""),
        (2.0, False, True, "≤ 2 s"),  # the median alone is asked
        (1.9, False, False, "≤ 1.9 s"),
        (2.0, True, True, "≥ 2 s"),
        (2.1, True, False, "≥ 2.1 s"),
    ],
)
def test_a_requirement_is_asked_of_the_median(limit, at_least, holds, demand):
    spread = Spread(median=2, least=1, most=9)
    one = Requirement(
        label="time", measured=spread, unit=" s", digits=0, limit=limit, at_least=at_least
    )
    assert (one.holds, one.demand) == (holds, demand)
    assert (one.problem() is None) == holds


def test_results_are_written_with_machine_versions_and_date(tmp_path, capsys):
    assert publish(make_results(remarks=("A remark.",), versions={"other": "1.2"}), tmp_path) == 0
    record = json.loads((tmp_path / "trial.json").read_text(encoding="utf-8"))
    assert set(record) == {
        *("title", "date", "machine", "versions"),
        *("tables", "remarks", "problems", "samples"),
    }
    assert record["tables"][0]["rows"] == [list(row) for row in TABLE.rows]
    assert record["versions"]["other"] == "1.2"
    text = (tmp_path / "trial.md").read_text(encoding="utf-8")
    assert text.startswith(f"# A trial\n\n{TABLE.markdown()}\n\nA remark.\n\nMeasured on ")
    assert TABLE.markdown() in capsys.readouterr().out


def test_a_problem_is_told_and_fails_the_benchmark(tmp_path, capsys):
    assert publish(make_results(problems=("too slow",)), None) == 1
    assert capsys.readouterr().err == "problem: too slow\n"


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_name_the_benchmarks_are_listed_one_line_each(arguments, capsys):
    assert main(arguments) == 0
    listed = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in listed] == [*BENCHMARKS, "all"]
    assert all(len(line) <= 110 for line in listed)


def test_all_names_benchmarks_that_anyone_can_run_or_are_left_out():
    assert ALL == ("compare", "peak_memory", "gpu")


def test_an_unknown_benchmark_is_wrong_usage(capsys):
    assert main(["speed"]) == 2
    assert "there is no benchmark 'speed'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["llama7b", "llama70b"])
def test_too_little_disk_is_refused_before_anything_is_made(name, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=7 * 10**9))
    assert main([name, "--folder", str(tmp_path / "new")]) == 1
    told = capsys.readouterr().err
    assert "7.0 GB are free: free some space" in told
    assert told.startswith(f"{name}: ")
    assert list((tmp_path / "new").iterdir()) == []


def test_the_space_that_is_needed_is_enough(tmp_path):
    check_space(tmp_path, 1, "a byte")
    with pytest.raises(BenchmarkError, match=r"a lot takes 1,000,000,000\.0 GB of disk"):
        check_space(tmp_path, 10**18, "a lot")


def test_lists_of_numbers_are_above_zero():
    assert numbers("1,2,16") == (1, 2, 16)


@pytest.mark.parametrize("text", ["1,0", "", "1;2", "-1", "two"])
def test_other_lists_of_numbers_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected whole numbers above zero"):
        numbers(text)
