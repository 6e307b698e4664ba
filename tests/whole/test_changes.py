"""Changes that no fine-tuning makes draw notes; one checkpoint as both sides is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardrestore
from tests.support.checkpoints import Layout, store, write_checkpoint
from tests.support.hub import Hub
from tests.support.hub.client import HubClient

NAMES = [f"model.layers.{n}.mlp.up_proj.weight" for n in range(2)]
rng = np.random.default_rng(0)
BASE = {name: rng.normal(0, 0.02, (40, 40)) for name in NAMES}
NOISE = {name: rng.normal(size=(40, 40)) for name in NAMES}

TARGETS = {
    "fine-tuned": {name: weights * (1 + 0.05 * NOISE[name]) for name, weights in BASE.items()},
    "unrelated": {name: 0.02 * noise for name, noise in NOISE.items()},
    "delta": {name: weights * 0.01 * NOISE[name] for name, weights in BASE.items()},
    "identical": BASE,
    "partly": {NAMES[0]: BASE[NAMES[0]], NAMES[1]: BASE[NAMES[1]] * (1 + 0.05 * NOISE[NAMES[1]])},
}


@pytest.fixture
def sides(tmp_path: Path) -> Path:
    for role, tensors in (("base", BASE), *TARGETS.items()):
        stored = {name: store(weights, "BF16") for name, weights in tensors.items()}
        write_checkpoint(tmp_path / role, stored, Layout(1, 1))
    return tmp_path


@pytest.mark.parametrize(
    ("target", "options", "kinds"),
    [
        ("fine-tuned", {}, []),
        ("unrelated", {}, ["change"]),
        ("unrelated", {"score": "absolute"}, []),  # it says nothing of the weights' size
        ("delta", {}, ["change"]),
        ("identical", {}, ["identical"]),
        ("identical", {"strategy": "random"}, ["identical"]),
        ("partly", {}, []),
        ("partly", {"percent": 80}, ["unchanged"]),
        ("partly", {"percent": 100}, []),  # all of them were asked for
        ("partly", {"strategy": "bottom"}, ["unchanged"]),
    ],
)
def test_changes_that_no_fine_tuning_makes_are_noted(
    sides: Path, target: str, options: dict[str, Any], kinds: list[str]
) -> None:
    result = shardrestore.restore(sides / "base", sides / target, sides / "out", **options)
    assert [note.kind for note in result.notes] == kinds
    assert "/" not in "".join(note.text for note in result.notes)


def test_the_notes_of_a_profiled_run_are_those_of_a_run_that_scans(sides: Path) -> None:
    profile = sides / "pair.profile.safetensors"
    inputs = sides / "base", sides / "unrelated"
    shardrestore.scan(*inputs, profile)
    first = shardrestore.restore(*inputs, sides / "first", profile=profile)
    second = shardrestore.restore(*inputs, sides / "second")
    assert first.notes == second.notes != ()


def test_one_folder_as_both_is_refused_under_any_name(sides: Path) -> None:
    base = sides / "base"
    link = sides / "link"
    link.symlink_to(base)
    for other in (base, link, sides / "unrelated" / ".." / "base"):
        for call in (shardrestore.plan, shardrestore.scan, shardrestore.restore):
            with pytest.raises(shardrestore.RequestError, match="base and target are the same"):
                call(base, other, *([] if call is shardrestore.plan else [sides / "out"]))  # type: ignore[operator]
    copy = shutil.copytree(base, sides / "copy")
    assert shardrestore.restore(base, copy, sides / "out").notes[0].kind == "identical"


def test_one_commit_as_both_is_refused(hub: Hub, hub_client: HubClient, sides: Path) -> None:
    hub.create("acme/base", sides / "base")
    with pytest.raises(shardrestore.RequestError, match="base and target are the same"):
        shardrestore.plan("acme/base", "acme/base@main")
