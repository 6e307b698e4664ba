"""JSON documents: their keys, in order, and how values are converted."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardrestore
from shardrestore.documents import INLINE, OMITTED, encode_json, key, rounded, to_json, unless
from tests.support.checkpoints import store, write_checkpoint

# Conversion


@dataclass(frozen=True, kw_only=True)
class Inner:
    count: int = field(metadata=key("elements"))
    seconds: float = field(metadata=rounded(3))


@dataclass(frozen=True, kw_only=True)
class Outer:
    path: Path
    inner: Inner = field(metadata=INLINE)
    hidden: int = field(metadata=OMITTED)
    parts: tuple[Inner, ...] = field(metadata=key("parts", convert=len))
    nested: Inner | None
    shares: dict[float, float]


@dataclass(frozen=True, kw_only=True)
class Mode:
    mode: str = field(default="plain", metadata=unless("plain"))


INNER = Inner(count=3, seconds=1.23456)


def test_members_follow_the_fields_and_what_their_metadata_says() -> None:
    outer = Outer(
        path=Path("a/b"), inner=INNER, hidden=1, parts=(INNER,), nested=INNER, shares={0.5: 1.0}
    )
    assert list(to_json(outer).items()) == [
        ("path", "a/b"),
        ("elements", 3),
        ("seconds", 1.235),
        ("parts", 1),
        ("nested", {"elements": 3, "seconds": 1.235}),
        ("shares", {"0.5": 1.0}),
    ]


def test_a_member_may_be_left_out_where_it_has_its_default() -> None:
    assert (to_json(Mode()), to_json(Mode(mode="other"))) == ({}, {"mode": "other"})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_null(value: float) -> None:
    assert (
        encode_json({"scores": (value, 1.5)}) == b'{\n  "scores": [\n    null,\n    1.5\n  ]\n}\n'
    )


def test_a_value_without_a_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="ndarray has no JSON form"):
        to_json({"counts": np.zeros(3)})


# Documents of the commands

STATISTICS = "max median mean min sum"
CUT = "region_elements selected_elements threshold exact"
TIES = "ties ties_taken"
CHANGES = "unchanged_share zero_base_share nonfinite_weights"
CHOICE = "region strategy percent"
OPTIONS = "percent region include exclude rename strategy seed dtype approximate allow_nonfinite"
INPUT = "path shards"
GROUP = (
    "label tensors elements mean_score quantiles max_score unchanged_share zero_base_share "
    "nonfinite_weights"
)
RUN = (
    f"outputs {CHOICE} {CUT} {TIES} {CHANGES} total_rel_diffs selected_rel_diffs module_kinds "
    "notes read_bytes written_bytes download_seconds scan_seconds restore_seconds seconds workers "
    "projected_bytes device device_reason peak_rss_bytes files"
)
PLAN = (
    "base target base_bytes target_bytes regions models reads read_bytes written_bytes "
    "download_bytes disk_needed_bytes disk_free_bytes output_problem side_files files workers "
    "block_bytes projected_bytes device device_reason projected_device_bytes max_memory_bytes "
    "remarks notes"
)
OVERVIEW = (
    "source origin inputs options elements unchanged_share zero_base_share nonfinite_weights "
    "regions kinds layers cuts cells tensors unpaired notes"
)
VERIFICATION = (
    "output ok problems differing_elements region_elements selected_elements threshold ties "
    "ties_taken tensors compared_bytes seconds peak_rss_bytes"
)
PUSHED = (
    "output repository revision commit url files pushed_bytes deleted_bytes seconds pushed_before"
)


def keys(document: dict[str, Any]) -> str:
    return " ".join(document)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    names = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight")
    rng = np.random.default_rng(0)
    base = {name: store(rng.normal(0, 0.02, (16, 16)), "BF16") for name in names}
    target = {name: store(rng.normal(0, 0.02, (16, 16)), "BF16") for name in names}
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target)
    return tmp_path / "base", tmp_path / "target"


def test_a_run_prints_and_records_these_keys(sides: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "output"
    printed = shardrestore.summarize(shardrestore.restore(*sides, output))
    assert keys(printed) == RUN
    assert keys(printed["module_kinds"][0]) == "kind tensors elements restored"
    assert keys(printed["total_rel_diffs"]) == STATISTICS
    record = json.loads((output / "shardrestore.json").read_bytes())
    assert keys(record) == "format base target options cut notes files versions"
    assert keys(record["options"]) == OPTIONS
    assert keys(record["cut"]) == f"{CUT} tie_first_key tie_keys {TIES} {CHANGES}"
    assert keys(record["base"]) == INPUT
    statistics = json.loads((output / "selected_param_stats.json").read_bytes())
    assert keys(statistics) == "k_count strategy selected_rel_diffs total_rel_diffs"
    verified = shardrestore.summarize(shardrestore.verify(output))
    assert keys(verified) == VERIFICATION


def test_a_plan_prints_these_keys(sides: tuple[Path, Path]) -> None:
    planned = shardrestore.summarize(shardrestore.plan(*sides))
    assert keys(planned) == PLAN
    assert keys(planned["regions"][0]) == "region tensors elements unpaired stacks others"
    assert keys(planned["models"][0]) == f"output {CHOICE} region_elements selected_elements"


def test_scan_and_show_print_these_keys(sides: tuple[Path, Path], tmp_path: Path) -> None:
    profile = tmp_path / "sft.profile.safetensors"
    assert keys(shardrestore.summarize(shardrestore.scan(*sides, profile))) == OVERVIEW
    shown = shardrestore.summarize(shardrestore.show(profile))
    assert keys(shown) == OVERVIEW
    assert keys(shown["regions"][0]) == GROUP
    assert keys(shown["regions"][0]["quantiles"]) == "0.01 0.1 0.25 0.5 0.75 0.9 0.99 0.999"
    assert keys(shown["cuts"][0]) == f"{CHOICE} {CUT}"
    assert keys(shown["cells"][0]) == "tower layer kind elements mean_score ranked restored"
    assert keys(shown["tensors"][0]) == (
        "name tower layer kind module elements mean_score unchanged_share restored"
    )


def test_a_push_prints_these_keys(tmp_path: Path) -> None:
    pushed = shardrestore.Pushed(
        output=tmp_path, repository="acme/x", revision="main", commit="c", url="u", files=1,
        pushed_bytes=2, deleted_bytes=0,
    )  # fmt: skip
    assert keys(shardrestore.summarize(pushed)) == PUSHED


def test_results_print_in_one_line(sides: tuple[Path, Path], tmp_path: Path) -> None:
    result = shardrestore.restore(*sides, tmp_path / "output")
    for one in (result, shardrestore.show(tmp_path / "output")):
        assert len(repr(one)) < 300
        assert "\n" not in repr(one)
    assert "top 10 % of transformer, 25 of 256 elements of 1 tensors" in repr(result)
