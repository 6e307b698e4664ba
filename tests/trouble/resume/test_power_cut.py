"""What a power cut may bring back or take, once a run has ended: nothing is lost in silence."""

from __future__ import annotations

import pytest

import shardrestore
from shardrestore import OutputError
from shardrestore.names import STAGING_FOLDER
from shardrestore.output.staging import Staging
from tests.support.checkpoints import read_tree
from tests.support.scene import Scene


def test_a_power_cut_that_brings_names_back_loses_no_file(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a journal, a name may be back in the hidden folder after the run has ended."""
    side_file = "code/model.py"
    (scene.target / "code").mkdir()
    (scene.target / side_file).write_text("pass\n")
    monkeypatch.setattr(Staging, "finish", Staging.leave)
    shardrestore.restore(scene.base, scene.target, scene.output, percent=10)
    monkeypatch.undo()
    whole = read_tree(scene.output)
    hidden = scene.output / STAGING_FOLDER / side_file
    hidden.parent.mkdir(parents=True, exist_ok=True)
    (scene.output / side_file).rename(hidden)
    shardrestore.restore(scene.base, scene.target, scene.output, percent=10, resume=True)
    found = read_tree(scene.output)
    hidden_names = [name for name in whole if name.startswith(STAGING_FOLDER)]
    assert found == {name: data for name, data in whole.items() if name not in hidden_names}


def test_a_model_that_has_lost_a_side_file_is_not_called_finished(scene: Scene) -> None:
    shardrestore.restore(scene.base, scene.target, scene.output, percent=10)
    (scene.output / "config.json").unlink()
    with pytest.raises(OutputError, match="not empty"):
        shardrestore.restore(scene.base, scene.target, scene.output, percent=10, resume=True)
