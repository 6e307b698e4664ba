"""A renaming that is suggested has been tried, and works as it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import shardrestore
from shardrestore.errors import PairingError, RequestError
from shardrestore.pairing.rename import parse_rename, rename_all, suggest_prefix
from tests.support import oracle
from tests.support.checkpoints import Stored, store, write_checkpoint

LAYERS = [f"layers.{n}.{m}.weight" for n in (0, 1) for m in ("self_attn.q_proj", "mlp.up_proj")]
HEADS = ["lm_head.weight", "score.weight"]


def tensors(names: Sequence[str], factor: float) -> dict[str, Stored]:
    return {name: store([factor * (n + 1), factor]) for n, name in enumerate(names)}


def write(folder: Path, base: Sequence[str], target: Sequence[str]) -> Mapping[str, Stored]:
    write_checkpoint(folder / "target", tensors(target, 1.5))
    write_checkpoint(folder / "base", found := tensors(base, 1.0))
    return found


def restore(folder: Path, region: str, rename: Sequence[str] = ()) -> dict[str, Stored]:
    shardrestore.restore(
        folder / "base", folder / "target", folder / "out",
        percent=100, region=region, rename=rename, max_memory="16GiB",
    )  # fmt: skip
    return oracle.load(folder / "out")


def refusal(folder: Path, region: str) -> str:
    with pytest.raises(PairingError) as error:
        restore(folder, region)
    return str(error.value)


def suggestion(message: str) -> str:
    found = re.search(r"one prefix differs; --rename '(.*)' pairs all of them", message)
    assert found, message
    return found[1]


@pytest.mark.parametrize("region", ["all", "transformer", "mlp"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "model."),
        ("", "model.language_model."),
        ("model.", ""),
        ("model.", "language_model.model."),
        ("a+b(c).", "model."),
    ],
)
def test_following_the_suggestion_leaves_the_heads_that_fit_alone(
    tmp_path: Path, region: str, before: str, after: str
) -> None:
    base_names = [before + name for name in LAYERS] + HEADS
    target_names = [after + name for name in LAYERS] + HEADS
    base = write(tmp_path, base_names, target_names)
    output = restore(tmp_path, region, [suggestion(refusal(tmp_path, region))])
    in_region = {
        "all": target_names,
        "transformer": target_names[:4],
        "mlp": [name for name in target_names if "mlp" in name],
    }[region]
    for old, new in zip(base_names, target_names, strict=True):
        assert (output[new] == base[old]) == (new in in_region), new


def test_what_would_break_another_pair_is_not_suggested(tmp_path: Path) -> None:
    """``norm`` fits as it is; the same prefix on ``layers.0`` would take it along."""
    base = ["x.layers.0.mlp.up_proj.weight", "x.norm.weight"]
    write(tmp_path, base, ["y.layers.0.mlp.up_proj.weight", "x.norm.weight"])
    message = refusal(tmp_path, "all")
    assert "pairs all of them" not in message
    assert "--exclude" in message


def test_two_prefixes_that_differ_are_not_one_suggestion(tmp_path: Path) -> None:
    base = ["a.layers.0.mlp.up_proj.weight", "b.layers.1.mlp.up_proj.weight"]
    write(tmp_path, base, [name[2:] for name in base])
    assert "pairs all of them" not in refusal(tmp_path, "all")


@pytest.mark.parametrize("prefix", [r"m\odel.", r"m\1.", "m=odel."])
def test_a_prefix_that_a_replacement_cannot_spell_hides_no_list_of_problems(
    tmp_path: Path, prefix: str
) -> None:
    write(tmp_path, LAYERS, [prefix + name for name in LAYERS])
    assert "4 tensors of region 'all' cannot be paired" in refusal(tmp_path, "all")


@pytest.mark.parametrize(
    ("text", "name", "new"),
    [
        (r"(?i)^MODEL\.=m.", "model.w", "m.w"),
        (r"(?i)^(MO)del\.=\1.", "model.w", "mo.w"),
        (r"(?x) ^ model \. =m.", "model.w", "m.w"),
        (r"(?i:MODEL)\.=", "model.w", "w"),
        (r"(?P<n>\d+)=<\g<n>>", "a.12.w", "a.<12>.w"),
        (r"^(?!m)=m.", "a", "m.a"),
    ],
)
def test_flags_and_groups_mean_what_they_mean_in_python(text: str, name: str, new: str) -> None:
    assert rename_all([name], [text]) == {new: name}


@pytest.mark.parametrize("text", [r"(?i)a=\1", r"(?x)a # b=\g<c>", "(?i=x", "a(?i)=x"])
def test_flags_do_not_hide_a_replacement_that_is_none(text: str) -> None:
    with pytest.raises(RequestError, match="--rename"):
        parse_rename(text)


def test_a_head_is_no_other_head_under_a_new_prefix() -> None:
    base = {"bert.encoder.w", "cls.seq_relationship.weight", "cls.seq_relationship.bias"}
    wanted = ["classifier.weight", "classifier.bias"]
    assert suggest_prefix(base, wanted, lambda *_: True) is None
    assert suggest_prefix(base | {"a.classifier.weight", "a.classifier.bias"}, wanted,
                          lambda *_: True) == r"^a\.="  # fmt: skip
