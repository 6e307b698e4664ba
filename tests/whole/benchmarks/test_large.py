"""Large models have their real shapes; scaled down, their benchmarks run from end to end."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import shardrestore
from benchmarks import llama7b, llama70b
from benchmarks.harness import disk_image
from benchmarks.harness.disk_image import compressed_disk
from benchmarks.harness.errors import UnsupportedError
from benchmarks.harness.memory_group import memory_group
from benchmarks.large.sample_check import check_sample, find_tensors
from benchmarks.models.llama import LLAMA_7B, LLAMA_70B, split
from benchmarks.models.tiles import is_in_region, make_tiles, predict, write_sides
from shardrestore.kernels import reference
from shardrestore.scores import relative
from tests.support.tiny import MODEL


@pytest.mark.parametrize(
    ("model", "side_bytes", "shards"),
    [
        (LLAMA_7B, 13_476_831_232, (2, 3)),
        (LLAMA_70B, 137_953_296_384, (15, 15)),
    ],
)
def test_large_models_have_their_published_sizes(model, side_bytes, shards):
    assert model.side_bytes == side_bytes
    sizes = model.base_shard_bytes, model.target_shard_bytes
    assert tuple(len(split(model.tensors, size)) for size in sizes) == shards


def test_fewer_layers_make_the_same_model_smaller():
    small = LLAMA_70B.with_layers(2)
    assert len(small.tensors) == 3 + 2 * 9
    assert small.tensors[1] == LLAMA_70B.tensors[1]


@pytest.fixture(scope="module")
def tiles():
    return make_tiles()


@pytest.fixture(scope="module")
def pair(tiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    write_sides(folder, MODEL, tiles, workers=2)
    return folder


@pytest.fixture(scope="module")
def restored(pair):
    output = pair / "restored"
    shardrestore.restore(pair / "base", pair / "target", output, percent=10, max_memory="16GiB")
    return output


def test_the_cut_is_predicted_from_the_tiles_alone(pair, tiles):
    sides = [find_tensors(pair / side) for side in ("base", "target")]
    keys = []
    for name, place in sides[0].items():
        if is_in_region(name):
            base, target = (side[name].read(0, place.elements) for side in sides)
            keys.append(np.empty(place.elements, np.uint32))
            reference.score_keys(relative.SCORE, base, target, keys[-1])
    ordered = np.sort(np.concatenate(keys))[::-1]
    predicted = predict(MODEL, tiles, 10)
    assert predicted.region_elements == ordered.size
    assert predicted.selected == ordered.size // 10
    assert predicted.tie_first_key == ordered[predicted.selected - 1]
    tied = ordered == predicted.tie_first_key
    assert predicted.ties == np.count_nonzero(tied)
    assert predicted.ties_taken == np.count_nonzero(tied[: predicted.selected])


def load_cut(output):
    return json.loads((output / "shardrestore.json").read_text(encoding="utf-8"))["cut"]


def test_a_restored_model_passes_its_check(pair, restored, tiles):
    check = check_sample(pair, restored, load_cut(restored), predict(MODEL, tiles, 10), blocks=30)
    assert (check.problems, check.wrong, check.blocks) == ((), 0, 30)
    assert 0.05 < check.restored / check.elements < 0.15


def test_a_wrong_element_is_found(pair, restored, tiles):
    place = find_tensors(restored)["model.layers.1.mlp.up_proj.weight"]
    with open(place.path, "r+b") as file:
        file.seek(place.offset + 2 * 77)
        kept = file.read(2)
        file.seek(-2, os.SEEK_CUR)
        file.write(b"\x34\x12")
    try:
        check = check_sample(
            pair, restored, load_cut(restored), predict(MODEL, tiles, 10), blocks=200
        )
    finally:
        with open(place.path, "r+b") as file:
            file.seek(place.offset + 2 * 77)
            file.write(kept)
    assert check.wrong > 0
    [problem] = set(check.problems)
    assert problem.startswith("model.layers.1.mlp.up_proj.weight: ")
    assert "1 of 180,224 elements from 0 on are wrong, the first is element 77" in problem


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("selected_elements", "selected_elements is 1, predicted were "),
        ("ties", "ties is 1, predicted were "),
        ("tie_first_key", "the threshold's key is 0x1, predicted was 0x"),
    ],
)
def test_a_cut_that_was_not_predicted_is_a_problem(pair, restored, tiles, key, problem):
    cut = load_cut(restored) | {key: 1}
    [found] = check_sample(pair, restored, cut, predict(MODEL, tiles, 10), blocks=1).problems
    assert found.startswith(problem)


def test_llama7b_runs_from_end_to_end(tmp_path, capsys):
    places = ["--folder", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    assert llama7b.main([*places, "--blocks", "20", "--floor"], MODEL) == 0
    assert "| time / I/O floor" in capsys.readouterr().out
    samples = json.loads((tmp_path / "results" / "llama7b.json").read_text())["samples"]
    assert samples["peaks"][0]["side_bytes"] == MODEL.side_bytes
    assert list((tmp_path / "work").iterdir()) == []


def test_llama70b_runs_from_end_to_end(tmp_path, capsys):
    places = ["--folder", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    try:
        assert llama70b.main([*places, "--blocks", "20"], MODEL) == 0
    except UnsupportedError as error:
        pytest.skip(str(error))
    finally:
        assert list((tmp_path / "work").iterdir()) == []
    assert "memory of the cgroup, page cache included" in capsys.readouterr().out
    assert (tmp_path / "results" / "llama70b.json").exists()


def test_a_trial_with_fewer_layers_writes_no_results(tmp_path):
    places = ["--folder", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    assert llama7b.main([*places, "--blocks", "1", "--layers", "1"], MODEL) == 0
    assert not (tmp_path / "results").exists()


def test_what_a_compressed_disk_lacks_is_told_all_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_image.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(disk_image.shutil, "which", lambda _: None)
    with (
        pytest.raises(UnsupportedError, match=r"takes root; mkfs\.btrfs is missing: install btrfs"),
        compressed_disk(tmp_path / "new", 1 << 30),
    ):
        pass
    assert not (tmp_path / "new").exists()


def test_a_system_without_cgroups_is_refused(tmp_path):
    with (
        pytest.raises(UnsupportedError, match="no memory cgroup can be made"),
        memory_group(1 << 30, tmp_path / "nowhere"),
    ):
        pass
