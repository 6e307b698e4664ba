"""Names that differ in spelling alone are one name, and no others are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shardrestore
from shardrestore.pairing.regions import REGIONS, in_region, is_output_head, locate
from shardrestore.pairing.spelling import plain_names, unwrap
from shardrestore.pairing.towers import find_towers
from tests.support import oracle
from tests.support.checkpoints import Layout, Stored, store, write_checkpoint
from tests.support.examples import examples

NAMES = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{layer}.{part}.weight"
        for layer in (0, 1, 10)
        for part in ("self_attn.q_proj", "self_attn.q_norm", "mlp.up_proj", "input_layernorm")
    ),
    "model.conv.parametrizations.weight.original0",
    "model.norm.weight",
    "lm_head.weight",
]
WRAPPERS = [
    *("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"),
    *("_forward_module", "_module"),  # of Lightning around DeepSpeed, of Opacus
]


def wrap(name: str, places: list[tuple[int, str]]) -> str:
    """Put wrappers before components of a name, by their numbers."""
    parts = name.split(".")
    for place, wrapper in places:
        parts.insert(place % len(parts), wrapper)
    return ".".join(parts)


places = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(WRAPPERS)), max_size=4)


@given(name=st.sampled_from(NAMES), places=places)
@examples(100)
def test_a_wrapped_name_is_where_the_name_is(name: str, places: list[tuple[int, str]]) -> None:
    wrapped = wrap(name, places)
    assert unwrap(wrapped) == name
    assert locate(wrapped, (4, 4)) == locate(name, (4, 4))
    assert is_output_head(wrapped) == is_output_head(name)
    for region in REGIONS:
        assert in_region(wrapped, (4, 4), region) == in_region(name, (4, 4), region)


def test_a_wrapped_checkpoint_has_the_same_towers() -> None:
    names = ["vit.patch_embed.w", "vit.layers.0.fc1.w", "model.layers.0.fc1.w"]
    assert find_towers(f"_orig_mod.{name}" for name in names) == find_towers(names)


@pytest.mark.parametrize(
    "name", ["model.modules.w", "my_module.w", "a_orig_mod.w", "model.layers.0.module", "module"]
)
def test_what_only_resembles_a_wrapper_stays(name: str) -> None:
    assert unwrap(name) == name


def test_names_that_would_become_one_keep_their_own() -> None:
    names = ["a.weight", "module.a.weight", "n.gamma", "n.weight", "m.gamma", "m.beta"]
    spelled = plain_names(names)
    assert sorted(spelled.values()) == sorted(names)
    assert {plain for plain, name in spelled.items() if plain != name} == {"m.weight", "m.bias"}


def tensors(names: list[str], factor: float) -> dict[str, Stored]:
    return {name: store([factor + n, factor]) for n, name in enumerate(sorted(names))}


def restore_all(folder: Path, base: dict[str, Stored], target: dict[str, Stored]) -> None:
    """Restore everything, which must make the target's tensors the base's, name for name."""
    write_checkpoint(folder / "base", base, Layout(2, 1))
    write_checkpoint(folder / "target", target, Layout(3, 2))
    shardrestore.restore(
        folder / "base", folder / "target", folder / "out",
        percent=100, region="all", max_memory="16GiB",
    )  # fmt: skip
    by_key = {key(name): stored for name, stored in base.items()}
    assert oracle.load(folder / "out") == {name: by_key[key(name)] for name in target}


def key(name: str) -> str:
    """Return a name in today's words, by regular expressions of this test's own."""
    name = re.sub(r"(^|\.)(?:(?:_orig_mod|module|_\w+_wrapped_module)\.)+", r"\1", name)
    name = re.sub(r"\.weight_g$", ".parametrizations.weight.original0", name)
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))


SPELLINGS = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "ddp_around_compiled": lambda name: f"module._orig_mod.{name}",
    "blocks_compiled": lambda name: re.sub(r"(layers\.\d+\.)", r"\1_orig_mod.", name),
    "fsdp_with_checkpointing": lambda name: (
        "_fsdp_wrapped_module."
        + re.sub(r"(\d+\.)", r"\1_fsdp_wrapped_module._checkpoint_wrapped_module.", name)
    ),
    "before_2019": lambda name: re.sub(r"norm\.weight$", "norm.gamma", name),
    "old_weight_norm": lambda name: name.replace(".parametrizations.weight.original0", ".weight_g"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("side", ["base", "target"])
def test_each_side_may_have_its_own_spelling(tmp_path: Path, spelling: str, side: str) -> None:
    spelled = [SPELLINGS[spelling](name) for name in NAMES]
    sides = {"base": list(NAMES), "target": list(NAMES)} | {side: spelled}
    restore_all(tmp_path, tensors(sides["base"], 1.0), tensors(sides["target"], 50.0))
    record = json.loads((tmp_path / "out" / "shardrestore.json").read_bytes())
    (text,) = (note["text"] for note in record["notes"] if note["kind"].endswith("-names"))
    assert text.startswith(f"{side}: ")
    assert ("restored model keeps" in text) == (side == "target")


def test_weight_and_gamma_of_one_module_are_never_taken_for_each_other(tmp_path: Path) -> None:
    names = ["layers.0.norm.gamma", "layers.0.norm.weight", "layers.0.norm.bias"]
    base, target = tensors(names, 1.0), tensors(names, 50.0)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target)
    shardrestore.restore(
        tmp_path / "base", tmp_path / "target", tmp_path / "out",
        percent=100, region="all", max_memory="16GiB",
    )  # fmt: skip
    assert oracle.load(tmp_path / "out") == base


def test_gamma_is_no_partner_of_a_weight_that_its_own_model_has(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", tensors(["norm.gamma", "norm.weight"], 1.0))
    write_checkpoint(tmp_path / "target", tensors(["norm.gamma"], 50.0))
    shardrestore.restore(
        tmp_path / "base", tmp_path / "target", tmp_path / "out",
        percent=100, region="all", max_memory="16GiB",
    )  # fmt: skip
    base = oracle.load(tmp_path / "base")
    assert oracle.load(tmp_path / "out") == {"norm.gamma": base["norm.gamma"]}


def test_a_prefix_is_suggested_over_other_spellings_and_works(tmp_path: Path) -> None:
    base = [re.sub(r"norm\.weight$", "norm.gamma", f"bert.{name}") for name in NAMES]
    write_checkpoint(tmp_path / "base", tensors(base, 1.0))
    write_checkpoint(tmp_path / "target", tensors(NAMES, 50.0))
    words = {"percent": 100, "region": "all", "max_memory": "16GiB"}
    with pytest.raises(shardrestore.PairingError) as error:
        shardrestore.plan(tmp_path / "base", tmp_path / "target", **words)
    found = re.search(r"--rename '(.*)' pairs all of them", str(error.value))
    assert found
    plan = shardrestore.plan(tmp_path / "base", tmp_path / "target", rename=[found[1]], **words)
    assert plan.models[0].region_elements == 2 * len(NAMES)
