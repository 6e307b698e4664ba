"""Layers are the same layers: those that were renumbered are not ranked by their number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardrestore
from shardrestore.pairing.layers import find_stacks
from shardrestore.pairing.problems import list_indices
from shardrestore_cli.plan import describe
from tests.support.checkpoints import Layout, store, write_checkpoint
from tests.support.oracle import Stored, load

SUFFIX = "mlp.up_proj.weight"
rng = np.random.default_rng(0)
BASE = [rng.normal(0, 0.02, (8, 8)) for _ in range(8)]
TUNED = [weights * (1 + 0.01 * rng.normal(size=(8, 8))) for weights in BASE]


def layers(weights: Sequence[Any], stack: str = "model.layers") -> dict[str, Stored]:
    return {f"{stack}.{n}.{SUFFIX}": store(one, "F32") for n, one in enumerate(weights)}


def write(folder: Path, role: str, tensors: Mapping[str, Stored], **config: Any) -> Path:
    documents = {"config.json": json.dumps(config).encode()}
    write_checkpoint(folder / role, tensors, Layout(1, 1), documents)
    return folder / role


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path, "base", layers(BASE), num_hidden_layers=8)


def refusal(base: Path, target: Path, **options: Any) -> str:
    with pytest.raises(shardrestore.PairingError) as error:
        shardrestore.plan(base, target, **options)
    return str(error.value)


def pick(indices: Iterable[int]) -> list[Any]:
    return [TUNED[n] for n in indices]


@pytest.mark.parametrize(
    ("picked", "lacking"),
    [
        ([0, 1, 2, 6, 7], "the target lacks 5-7"),
        ([0, 1, 2, 3, 3, 4, 5, 6, 7, 7], "the base lacks 8, 9"),
    ],
    ids=["pruned", "inserted"],
)
def test_another_number_of_layers_is_refused_with_the_indices_that_one_side_lacks(
    base: Path, tmp_path: Path, picked: list[int], lacking: str
) -> None:
    target = write(tmp_path, "target", layers(pick(picked)), num_hidden_layers=len(picked))
    message = refusal(base, target)
    assert (
        f"model.layers: 8 layers in the base (0-7), {len(picked)} layers in the target" in message
    )
    assert lacking in message
    assert message.endswith("the others keep the target's values")
    with pytest.raises(shardrestore.PairingError, match=lacking):
        shardrestore.scan(base, target, tmp_path / "pair.profile.safetensors")


def test_leaving_out_layers_does_not_make_the_others_the_same(base: Path, tmp_path: Path) -> None:
    target = write(tmp_path, "target", layers(pick([0, 1, 2, 3, 3, 4, 5, 6, 7, 7])))
    message = refusal(base, target, exclude=[r"layers\.[89]\."])
    assert "the base lacks 8, 9" in message


def test_renames_that_map_layers_say_which_are_the_same(base: Path, tmp_path: Path) -> None:
    target = write(tmp_path, "target", layers(pick([0, 1, 2, 6, 7])), num_hidden_layers=5)
    renames = [r"layers\.([345])\.=dropped.\1.", r"layers\.6\.=layers.3.", r"layers\.7\.=layers.4."]
    output = tmp_path / "output"
    shardrestore.restore(base, target, output, percent=100, rename=renames)
    assert load(output) == layers([BASE[n] for n in (0, 1, 2, 6, 7)])
    assert shardrestore.verify(output).ok


def test_allow_unpaired_leaves_the_targets_what_has_no_partner(base: Path, tmp_path: Path) -> None:
    tensors = layers(pick([0, 1, 2, 3, 4, 5, 6, 7, 0, 1]))
    target = write(tmp_path, "target", tensors, num_hidden_layers=10)
    output = tmp_path / "output"
    result = shardrestore.restore(base, target, output, percent=100, allow_unpaired=True)
    assert load(output) == {**tensors, **layers(BASE)}
    (note,) = result.notes
    assert note.kind == "unpaired"
    assert "the base lacks 8, 9" in note.text
    assert f"model.layers.*.{SUFFIX} (2 tensors): only the target has it (* = 8, 9)" in note.text
    assert shardrestore.verify(output).ok
    assert json.loads((output / "shardrestore.json").read_bytes())["options"]["allow_unpaired"]
    assert "--allow-unpaired" in (output / "README.md").read_text()
    again = shardrestore.restore(
        base, target, output, percent=100, allow_unpaired=True, resume=True
    )
    assert again.notes == result.notes


def test_what_cannot_be_paired_for_another_reason_may_be_left_out_too(tmp_path: Path) -> None:
    base = write(tmp_path, "base", layers(BASE) | {"head.weight": store([1.0], "F32")})
    more = {"head.weight": store([1.0, 2.0], "F32"), "added.weight": store([1.0], "F32")}
    target = write(tmp_path, "target", layers(TUNED) | more)
    assert refusal(base, target, region="all").count("next step") == 2
    planned = shardrestore.plan(base, target, region="all", allow_unpaired=True)
    assert planned.models[0].region_elements == 8 * 64


def test_stacks_that_do_not_take_part_may_differ(tmp_path: Path) -> None:
    towers = [layers(BASE[:count], "vision_tower.layers") for count in (2, 3)]
    base = write(tmp_path, "base", layers(BASE) | towers[0])
    target = write(tmp_path, "target", layers(TUNED) | towers[1])
    assert shardrestore.plan(base, target).notes == ()
    assert "vision_tower.layers: 2 layers" in refusal(base, target, region="all")


def test_configurations_that_count_other_layers_are_refused(base: Path, tmp_path: Path) -> None:
    target = write(tmp_path, "target", layers(TUNED), text_config={"num_hidden_layers": 6})
    assert "num_hidden_layers is 8 in the base's, 6 in the target's" in refusal(base, target)
    unsaid = write(tmp_path, "unsaid", layers(TUNED))
    assert shardrestore.plan(base, unsaid).notes == ()


def test_blocks_beyond_the_count_that_both_configurations_give_are_no_layers(
    base: Path, tmp_path: Path
) -> None:
    target = write(tmp_path, "target", layers([*TUNED, TUNED[0]]), num_hidden_layers=8)
    assert f"model.layers.8.{SUFFIX}: only the target has it" in refusal(base, target)
    assert shardrestore.plan(base, target, exclude=[r"layers\.8\."]).notes == ()


def test_blocks_for_multi_token_prediction_are_no_layers(base: Path, tmp_path: Path) -> None:
    block = {"model.layers.8.eh_proj.weight": store([1.0], "F32")}
    extra = layers([*TUNED, TUNED[0]])
    names = find_stacks([*extra, *block])
    assert names == {"model.layers": frozenset(range(8))}
    pruned = write(tmp_path, "with", layers([*BASE, BASE[0]]) | block, num_hidden_layers=8)
    assert shardrestore.plan(pruned, write(tmp_path, "without", layers(TUNED))).notes == ()


def test_a_plan_names_the_blocks_and_what_of_them_is_neither_attention_nor_mlp(
    tmp_path: Path,
) -> None:
    mixer = {"model.layers.0.mamba.in_proj.weight": store(BASE[0], "F32")}
    tower = layers(BASE[:3], "vision_tower.layers")
    base, target = (
        write(tmp_path, role, layers(BASE) | mixer | tower) for role in ("base", "target")
    )
    planned = shardrestore.plan(base, target)
    assert [stack.describe() for stack in planned.regions[0].stacks] == ["layers 0-7"]
    assert planned.regions[0].others == {"in_proj": 64}
    assert [stack.tower for stack in planned.regions[-1].stacks] == ["language", "vision"]
    text = describe(planned)
    assert "language: layers 0-7" in text
    assert "64 neither attention nor mlp:" in text


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([], ""),
        ([3], "3"),
        ([4, 3], "3, 4"),
        ([0, 1, 2, 3, 8, 9], "0-3, 8, 9"),
        ([0, 2, 4, 5, 6], "0, 2, 4-6"),
    ],
)
def test_indices_are_listed_as_people_write_them(indices: list[int], text: str) -> None:
    assert list_indices(indices) == text
