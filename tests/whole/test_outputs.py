"""An output that holds an input's file, by whatever links, is refused before any write."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shardrestore
from shardrestore import OutputError
from tests.support.scene import Scene, shard_names, snapshot

BUDGET = "16GiB"


def restore(scene: Scene, output: str = "out", **options: Any) -> shardrestore.Restoration:
    options = {"max_memory": BUDGET, "overwrite": True, "follow_links": True} | options
    return shardrestore.restore(scene.base, scene.target, scene.root / output, **options)


def link_into(side: str, name: str, place: str) -> Callable[[Scene], None]:
    """Move a file of an input away, and leave a link to it."""

    def spoil(scene: Scene) -> None:
        path, new = scene.root / side / name, scene.root / place / Path(name).name
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
        path.symlink_to(os.path.relpath(new, path.parent))

    return spoil


SHARD = "model-00002-of-00003.safetensors"


@pytest.mark.parametrize(
    ("side", "name", "place", "output"),
    [
        ("base", SHARD, "out", "out"),
        ("target", SHARD, "out", "out"),
        ("base", SHARD, "out/deep/er", "out"),
        ("target", "tokenizer.model", "out", "out"),
        ("target", "templates/extra.jinja", "out/cache", "out"),
        ("base", SHARD, "out", "other"),  # a link to the folder
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_holds_an_inputs_file_is_refused(
    scene: Scene, side: str, name: str, place: str, output: str, overwrite: bool
) -> None:
    link_into(side, name, place)(scene)
    (scene.root / "other").symlink_to("out")
    before = snapshot(scene.root)
    with pytest.raises(OutputError, match=f"holds {re.escape(name)} of the {side} .*another"):
        restore(scene, output, overwrite=overwrite)
    assert snapshot(scene.root) == before
    assert restore(scene, "fresh").output == scene.root / "fresh"


def test_one_of_a_sweeps_outputs_that_holds_a_shard_stops_them_all(scene: Scene) -> None:
    link_into("base", SHARD, "out/restore_transformer_top_5pct")(scene)
    before = snapshot(scene.root)
    with pytest.raises(OutputError, match=f"5pct: holds {SHARD} of the base"):
        shardrestore.sweep(
            scene.base, scene.target, scene.output, percents=[1, 5],
            overwrite=True, max_memory=BUDGET, follow_links=True,
        )  # fmt: skip
    assert snapshot(scene.root) == before


def test_an_output_beside_what_the_inputs_link_to_is_fine(scene: Scene) -> None:
    for name in shard_names(scene.base):
        link_into("base", name, "blobs")(scene)
    restore(scene, "out")
    restore(scene, "blobs-out")
