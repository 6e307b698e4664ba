"""Checkpoints that libraries load although their files are not right: restored, with a note."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shardrestore
from tests.support import oracle
from tests.support.hub import Hub
from tests.support.hub.client import PUSHES, HubClient
from tests.support.scene import (
    INDEX,
    SINGLE,
    Scene,
    read_shard,
    read_tensors,
    shard_names,
    write_shard,
)

FIRST, SECOND, THIRD = (f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
OTHER = "transformers.safetensors"
Q0 = "model.layers.0.self_attn.q_proj.weight"


def restore(scene: Scene) -> dict[str, Any]:
    """Restore the pair, and check the result by verify; return the record."""
    shardrestore.restore(scene.base, scene.target, scene.output, percent=10, max_memory="16GiB")
    found = shardrestore.verify(scene.output, max_memory="16GiB")
    assert found.problems == ()
    record = json.loads((scene.output / "shardrestore.json").read_bytes())
    assert isinstance(record, dict)
    return record


def kinds(record: dict[str, Any], role: str = "target") -> list[str]:
    return [note["kind"] for note in record["notes"] if note["text"].startswith(f"{role}: ")]


def reindex(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    document = json.loads((folder / INDEX).read_text())
    change(document["weight_map"])
    (folder / INDEX).write_text(json.dumps(document))


def lose_index(folder: Path) -> None:
    (folder / INDEX).unlink()


def add_stale(folder: Path) -> None:
    reindex(folder, lambda names: names.update({"mtp.fc.weight": THIRD}))


def move_in_index(folder: Path) -> None:
    reindex(folder, lambda names: names.update({Q0: THIRD}))


def put_twice(folder: Path) -> None:
    """Put the first shard's tensors into the last one as well, before and after its own."""
    copied = read_shard(folder / FIRST)
    own = read_shard(folder / THIRD)
    names = list(copied)
    before = {name: copied[name] for name in names[::2]}
    after = {name: copied[name] for name in names[1::2]}
    write_shard(folder / THIRD, {**before, **own, **after})


def add_single(folder: Path) -> None:
    """Put the whole model beside its shards; transformers reads that."""
    write_shard(folder / SINGLE, read_tensors(folder))


ACCEPTED = {
    "without_an_index": (lose_index, ["no-index"]),
    "a_stale_key": (add_stale, ["stale-index"]),
    "a_key_that_names_another_shard": (move_in_index, ["stale-index"]),
    "tensors_twice": (put_twice, ["copies"]),
    "a_single_file_beside_the_index": (add_single, ["passed-over"]),
    "several_at_once": (lambda folder: (add_stale(folder), put_twice(folder)),
                        ["stale-index", "copies"]),
    "tensors_twice_without_an_index": (lambda folder: (lose_index(folder), put_twice(folder)),
                                       ["no-index", "copies"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACCEPTED)
@pytest.mark.parametrize("role", ["base", "target"])
def test_the_same_model_is_made_of_it_and_a_note_says_so(
    scene: Scene, kind: str, role: str
) -> None:
    restore(scene)
    expected = read_tensors(scene.output)
    shutil.rmtree(scene.output)
    spoil, notes = ACCEPTED[kind]
    spoil(scene.root / role)
    record = restore(scene)
    assert kinds(record, role) == notes
    assert oracle.load(scene.output).keys() == expected.keys()
    assert read_tensors(scene.output) == expected
    if shard_names(scene.output) != [SINGLE]:  # each once, and where the index says
        index = json.loads((scene.output / INDEX).read_text())["weight_map"]
        names = [(n, s) for s in shard_names(scene.output) for n in read_shard(scene.output / s)]
        assert sorted(names) == sorted(index.items())


def test_a_tensor_twice_with_other_bytes_is_refused(scene: Scene) -> None:
    name, (dtype, shape, data) = next(iter(read_shard(scene.target / FIRST).items()))
    changed = dtype, shape, data[:-1] + bytes([data[-1] ^ 1])
    write_shard(scene.target / THIRD, {**read_shard(scene.target / THIRD), name: changed})
    with pytest.raises(shardrestore.CheckpointError, match=r"in two shards.*bytes differ"):
        restore(scene)
    shape = shape[::-1] if shape[0] != shape[-1] else (*shape, 1)
    write_shard(
        scene.target / THIRD, {**read_shard(scene.target / THIRD), name: (dtype, shape, data)}
    )
    with pytest.raises(shardrestore.CheckpointError, match=r"in two shards.*of shape"):
        restore(scene)


def test_a_shard_of_another_model_is_refused(scene: Scene) -> None:
    shutil.copy(scene.target / FIRST, scene.target / SECOND)
    with pytest.raises(shardrestore.CheckpointError, match=f"stale index: {SECOND} holds none"):
        restore(scene)


def name_weights(folder: Path, named: str) -> None:
    """Give the model's file or index another name, which the configuration says."""
    if named.endswith(".json"):
        (folder / INDEX).rename(folder / named)
    else:
        write_shard(folder / named, read_tensors(folder))
        for name in (INDEX, *shard_names(folder)):
            (folder / name).unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": named}))


@pytest.mark.parametrize("sharded", [False, True], ids=["file", "index"])
def test_the_configuration_says_which_file_holds_the_weights(scene: Scene, sharded: bool) -> None:
    restore(scene)
    expected = read_tensors(scene.output)
    shutil.rmtree(scene.output)
    named = f"transformers.safetensors{'.index.json' if sharded else ''}"
    name_weights(scene.target, named)
    # What stands under the usual name is another model.
    other = {name: (d, s, bytes(len(b))) for name, (d, s, b) in expected.items()}
    write_shard(scene.target / SINGLE, other)
    assert kinds(restore(scene)) == ["passed-over"]
    made = scene.output / named
    files = [made] if not sharded else [scene.output / name for name in (FIRST, SECOND, THIRD)]
    found = {name: tensor for file in files for name, tensor in read_shard(file).items()}
    assert found == expected
    assert made.exists()
    assert not (scene.output / INDEX).exists()


@PUSHES
@pytest.mark.parametrize("spoil", [put_twice, lose_index, lambda f: name_weights(f, OTHER)])
def test_what_is_made_of_it_can_be_pushed(
    scene: Scene, hub: Hub, hub_client: HubClient, spoil: Callable[[Path], object]
) -> None:
    hub.tokens = {"hf_alice": "alice"}
    hub_client.log_in("hf_alice")
    spoil(scene.target)
    restore(scene)
    shardrestore.push(scene.output, "alice/restored")
    pushed = hub.repositories["alice/restored"].files("main")
    here = {path.name: path.read_bytes() for path in scene.output.glob("*.safetensors*")}
    assert {name: data for name, data in pushed.items() if ".safetensors" in name} == here
