"""A pair of two formats is ranked by what would be written: in the target's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import shardrestore
from shardrestore.profile.contents import Contents
from tests.support.checkpoints import store, write_checkpoint
from tests.support.examples import examples
from tests.support.oracle import TORCH_DTYPES, Stored, codes_of, load
from tests.support.runs import scratch

NAME = "model.layers.0.mlp.up_proj.weight"
MIXED = [("F32", "BF16"), ("F32", "F16"), ("F16", "BF16"), ("BF16", "F32"), ("BF16", "F16")]


def write_pair(folder: Path, dtypes: tuple[str, str], changed: float, seed: int = 0) -> None:
    """Write a base, and a target that is its cast except for a share of the weights."""
    rng = np.random.default_rng(seed)
    base = store(rng.normal(0, 0.02, 4000), dtypes[0])
    cast = base.values().to(TORCH_DTYPES[dtypes[1]]).float().numpy()
    tuned = np.where(rng.random(4000) < changed, cast * 1.05, cast)
    write_checkpoint(folder / "base", {NAME: base})
    write_checkpoint(folder / "target", {NAME: store(tuned, dtypes[1])})


def restore(folder: Path, percent: float = 10, **options: Any) -> shardrestore.Restoration:
    sides = folder / "base", folder / "target", folder / "output"
    return shardrestore.restore(*sides, percent=percent, overwrite=True, **options)


@pytest.mark.parametrize("dtypes", MIXED, ids="-".join)
def test_weights_that_training_left_alone_count_as_unchanged(
    tmp_path: Path, dtypes: tuple[str, str]
) -> None:
    write_pair(tmp_path, dtypes, changed=0.02)
    result = restore(tmp_path, 1)
    assert 0.96 < result.unchanged_share < 0.99
    before, after = (codes_of(load(tmp_path / role)[NAME]) for role in ("target", "output"))
    assert (before != after).sum() == result.selected_elements == 40
    assert shardrestore.verify(tmp_path / "output").ok


@examples(20)
@given(
    st.sampled_from(MIXED),
    st.sampled_from([1, 33.3, 100]),
    st.sampled_from(["top", "bottom", "random"]),
    st.sampled_from(["cpu", "torch:cpu"]),
)
def test_restored_bytes_are_the_base_cast_to_the_targets_format(
    dtypes: tuple[str, str], percent: float, strategy: str, device: str
) -> None:
    with scratch() as folder:
        write_pair(folder, dtypes, changed=0.5)
        result = restore(folder, percent, strategy=strategy, device=device)
        base, target, output = (load(folder / r)[NAME] for r in ("base", "target", "output"))
        cast = base.values().to(TORCH_DTYPES[dtypes[1]])
        kind = torch.int32 if dtypes[1] == "F32" else torch.int16
        written = Stored(dtypes[1], target.shape, cast.view(kind).numpy().tobytes())
        codes = [codes_of(one) for one in (written, target, output)]
        assert np.all((codes[2] == codes[0]) | (codes[2] == codes[1]))
        if percent == 100:
            assert output == written
        # What differs from the base is what was not chosen.
        differing = int((codes[0] != codes[1]).sum())
        changed = int((codes[2] != codes[1]).sum())
        if strategy == "top":
            assert changed == min(differing, result.selected_elements)


@pytest.mark.parametrize("dtypes", MIXED, ids="-".join)
def test_a_mixed_pair_gets_what_the_pair_of_the_cast_base_gets(
    tmp_path: Path, dtypes: tuple[str, str]
) -> None:
    write_pair(tmp_path, dtypes, changed=0.5)
    mixed = restore(tmp_path, 7)
    expected = load(tmp_path / "output")
    base = load(tmp_path / "base")[NAME].values().to(TORCH_DTYPES[dtypes[1]]).float().numpy()
    write_checkpoint(tmp_path / "cast" / "base", {NAME: store(base, dtypes[1])})
    (tmp_path / "cast" / "target").symlink_to(tmp_path / "target")
    alike = restore(tmp_path / "cast", 7)
    assert load(tmp_path / "cast" / "output") == expected
    assert (mixed.figures.cut, mixed.figures.scores) == (alike.figures.cut, alike.figures.scores)


def test_a_bfloat16_target_of_a_float32_base_needs_no_refining_scan(tmp_path: Path) -> None:
    write_pair(tmp_path, ("F32", "BF16"), changed=0.5)
    planned = shardrestore.plan(tmp_path / "base", tmp_path / "target")
    assert planned.reads == 2


def test_a_profile_answers_as_the_weights_do_and_an_earlier_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path, ("F32", "BF16"), changed=0.5)
    sides = tmp_path / "base", tmp_path / "target"
    profile, earlier = (tmp_path / f"{name}.profile.safetensors" for name in ("new", "old"))
    shardrestore.scan(*sides, profile)
    assert restore(tmp_path, profile=profile).figures == restore(tmp_path).figures
    with monkeypatch.context() as patch:  # as one that does not say so
        patch.setattr(Contents, "is_rounded", False)
        shardrestore.scan(*sides, earlier)
    with pytest.raises(shardrestore.ProfileError, match="in the target's format: scan again"):
        restore(tmp_path, profile=earlier)


def test_a_record_of_a_version_that_scored_otherwise_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    write_pair(tmp_path, ("F32", "BF16"), changed=0.5)
    restore(tmp_path)
    path = tmp_path / "output" / "shardrestore.json"
    document = json.loads(path.read_bytes())
    assert document.pop("rounded") is True
    path.write_text(json.dumps(document))
    with pytest.raises(shardrestore.CheckpointError, match="verify it with the version that wrote"):
        shardrestore.verify(tmp_path / "output")


def test_with_a_cast_that_was_asked_for_nothing_is_new(tmp_path: Path) -> None:
    write_pair(tmp_path, ("F32", "BF16"), changed=0.5)
    restore(tmp_path, dtype="fp32")
    document = json.loads((tmp_path / "output" / "shardrestore.json").read_bytes())
    assert "rounded" not in document
    assert shardrestore.verify(tmp_path / "output").ok
