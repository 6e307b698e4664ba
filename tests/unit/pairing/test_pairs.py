"""Matching base with target: who takes part, and everything that does not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shardrestore.checkpoint.config import says_tied
from shardrestore.errors import PairingError, RequestError
from shardrestore.formats import CASTS
from shardrestore.inputs.reference import open_checkpoint
from shardrestore.pairing.filter import admitted_by, make_filter
from shardrestore.pairing.matching import match
from shardrestore.pairing.pairs import Pairing, survey
from shardrestore.pairing.regions import REGIONS
from shardrestore.pairing.rename import parse_rename, rename_all, suggest_prefix
from shardrestore.pairing.ties import NO_TIES, find_ties
from shardrestore.scoring import Scoring
from tests.support import oracle
from tests.support.checkpoints import Layout, Stored, store, write_checkpoint
from tests.support.library import Library, cut_into

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"
EMBED = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
USUAL = Library()
FINE = Library(cut_into(segment_elements=61, chunk_elements=16, block_bytes=200))


def weights(*shape: int, dtype: str = "BF16", start: float = 1.0) -> Stored:
    size = 1
    for length in shape:
        size *= length
    return store([start + i for i in range(size)], dtype, shape)


def codes(dtype: str, nbytes: int) -> Stored:
    return Stored(dtype, (nbytes,), bytes(range(nbytes)))


def llama() -> dict[str, Stored]:
    return {
        EMBED: weights(6, 4),
        Q: weights(4, 4),
        NORM: weights(4),
        UP: weights(8, 4),
        DOWN: weights(4, 8),
        HEAD: weights(6, 4, start=50.0),
    }


class Pair:
    """Two checkpoints on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(
        self, base: Mapping[str, Stored], target: Mapping[str, Stored], **config: Any
    ) -> Pair:
        write_checkpoint(self.folder / "base", base, Layout(2, 3))
        side_files = {"config.json": json.dumps(config).encode()} if config else {}
        write_checkpoint(self.folder / "target", target, Layout(3, 5), side_files)
        return self

    def match(
        self,
        region: str = "all",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        rename: Sequence[str] = (),
        dtype: str = "auto",
    ) -> Pairing:
        with (
            open_checkpoint(self.folder / "base", "base") as base,
            open_checkpoint(self.folder / "target", "target") as target,
        ):
            admitted = make_filter(region, include, exclude)
            scoring = Scoring(cast=CASTS[dtype], renames=tuple(rename))
            ties = find_ties(target, admitted_by([admitted]))
            return match(base, target, admitted, scoring, ties)

    def refusal(self, kind: type[Exception] = PairingError, **options: Any) -> str:
        with pytest.raises(kind) as error:
            self.match(**options)
        return str(error.value)

    def restore(
        self, percent: float, library: Library = USUAL, **options: Any
    ) -> dict[str, Stored]:
        self.result = library.restore(
            self.folder / "base",
            self.folder / "target",
            self.folder / "output",
            percent=percent,
            max_memory="16GiB",
            **options,
        )
        return oracle.load(self.folder / "output")


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def names(pairing: Pairing) -> list[str]:
    return [found.name for found in pairing.pairs]


# Who takes part


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("transformer", [UP, Q, DOWN]),
        ("attention", [Q]),
        ("mlp", [UP, DOWN]),
        ("embedding", [HEAD, EMBED]),
        ("all", [HEAD, EMBED, NORM, UP, Q, DOWN]),
    ],
)
def test_pairs_stand_in_canonical_order(pair: Pair, region: str, expected: list[str]) -> None:
    pairing = pair.write(llama(), llama()).match(region)
    assert names(pairing) == expected
    assert pairing.elements == sum(len(llama()[name].data) // 2 for name in expected)
    assert all(found.base.name == found.target.name for found in pairing.pairs)


def test_canonical_order_is_that_of_code_points_not_of_numbers_or_case(pair: Pair) -> None:
    tensors = {
        name: weights(2)
        for name in ("b", "B", "layers.10.x", "layers.2.x", "\uffff", "\U00010000", "a.b", "a")
    }
    pairing = pair.write(tensors, tensors).match()
    assert names(pairing) == sorted(tensors, key=lambda name: [ord(c) for c in name])


def test_include_narrows_the_region_and_exclude_narrows_it_further(pair: Pair) -> None:
    pair.write(llama(), llama())
    assert names(pair.match("mlp", include=["layers.1"])) == [DOWN]
    assert names(pair.match("mlp", include=["up_", "down_"])) == [UP, DOWN]
    assert names(pair.match("all", include=["mlp"], exclude=["down"])) == [UP]
    assert names(pair.match("mlp", exclude=["^layers"])) == [UP, DOWN]


def test_include_never_widens_the_region(pair: Pair) -> None:
    assert names(pair.write(llama(), llama()).match("attention", include=["."])) == [Q]


def test_tensors_outside_the_region_need_no_partner(pair: Pair) -> None:
    target = llama() | {"score.weight": weights(3), "x.codes": codes("F8_E4M3", 4)}
    base = llama() | {"base.only": weights(2)}
    assert names(pair.write(base, target).match("mlp")) == [UP, DOWN]


def test_buffers_take_no_part_in_any_region(pair: Pair) -> None:
    target = llama() | {
        "model.layers.0.self_attn.rotary_emb.inv_freq": weights(2, dtype="F32"),
        "model.embeddings.position_ids": codes("I64", 8),
    }
    target["model.embeddings.position_ids"] = Stored("I64", (1,), bytes(8))
    assert len(pair.write(llama(), target).match("all").pairs) == len(llama())


# What does not fit


def test_every_missing_tensor_is_listed_with_the_next_steps(pair: Pair) -> None:
    base = {name: stored for name, stored in llama().items() if name not in (UP, Q)}
    message = pair.write(base, llama()).refusal()
    assert "2 tensors of region 'all' cannot be paired" in message
    assert f"{UP}: only the target has it" in message
    assert f"{Q}: only the target has it" in message
    assert str(pair.folder / "base") in message
    assert str(pair.folder / "target") in message
    assert "--exclude" in message
    assert "--rename" in message


def test_all_kinds_of_mismatch_are_listed_at_once(pair: Pair) -> None:
    base, target = llama(), llama()
    base[EMBED] = weights(5, 4)
    del base[UP]
    base[Q] = Stored("F8_E4M3", (4, 4), bytes(16))
    target[DOWN] = Stored("I8", (4, 8), bytes(32))
    message = pair.write(base, target).refusal()
    assert "4 tensors" in message
    assert f"{EMBED}: shape [5, 4] in the base, [6, 4] in the target" in message
    assert f"{UP}: only the target has it" in message
    assert f"{Q}: F8_E4M3 in the base" in message
    assert f"{DOWN}: I8 in the target" in message
    assert message.count("next step") == 3


def test_a_transposed_shape_is_another_shape(pair: Pair) -> None:
    base = llama() | {UP: weights(4, 8)}
    assert "[4, 8] in the base, [8, 4] in the target" in pair.write(base, llama()).refusal()


def test_names_that_differ_by_numbers_alone_share_a_line(pair: Pair) -> None:
    target = {f"model.layers.{n}.mlp.up_proj.weight": weights(2) for n in range(40)}
    target |= {f"model.layers.{n}.mlp.down_proj.weight": weights(3) for n in range(40)}
    message = pair.write({"other": weights(9)}, target).refusal()
    assert "80 tensors of region" in message
    for module in ("up_proj", "down_proj"):
        assert f"model.layers.*.mlp.{module}.weight (40 tensors): only the target" in message


@pytest.mark.parametrize(
    "dtype", ["F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL", "F64", "I64", "I32", "F4"]
)
def test_codes_and_integers_in_the_region_are_refused_on_either_side(
    pair: Pair, dtype: str
) -> None:
    bits = {"F4": 4, "F64": 64, "I64": 64, "I32": 32}.get(dtype, 8)
    stored = Stored(dtype, (2,), bytes(2 * bits // 8))
    message = pair.write(llama() | {UP: weights(2)}, llama() | {UP: stored}).refusal(region="mlp")
    assert f"{UP}: {dtype} in the target" in message
    assert "dequantise" in message
    write_checkpoint(pair.folder / "base", llama() | {UP: stored}, Layout(2, 3))
    write_checkpoint(pair.folder / "target", llama() | {UP: weights(2)}, Layout(3, 5))
    assert f"{UP}: {dtype} in the base" in pair.refusal(region="mlp")


def test_what_is_refused_can_be_excluded_and_passes_through(pair: Pair) -> None:
    target = llama() | {UP: Stored("F8_E4M3", (8, 4), bytes(32))}
    output = pair.write(llama(), target).restore(100, region="mlp", exclude=["up_proj"])
    assert output == target


def test_nothing_is_written_when_tensors_do_not_fit(pair: Pair) -> None:
    pair.write({"x": weights(1)}, llama())
    with pytest.raises(PairingError):
        pair.restore(10)
    assert not (pair.folder / "output").exists()


# Names that differ


def renamed(tensors: Mapping[str, Stored], old: str, new: str) -> dict[str, Stored]:
    return {re.sub(old, new, name): stored for name, stored in tensors.items()}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"^model\.", "model.language_model."),
        (r"^model\.", "language_model.model."),
        (r"^model\.", ""),
        (r"^model\.", "model.model."),
    ],
)
def test_one_changed_prefix_is_suggested_and_the_suggestion_works(
    pair: Pair, old: str, new: str
) -> None:
    pair.write(renamed(llama(), old, new), llama())
    message = pair.refusal(region="transformer")
    suggestion = re.search(r"--rename '(.*)' pairs all of them", message)[1]
    assert names(pair.match("transformer", rename=[suggestion])) == [UP, Q, DOWN]


def test_no_prefix_is_suggested_that_would_pair_other_shapes(pair: Pair) -> None:
    base = renamed(llama(), r"^model\.", "m.")
    base["m.layers.0.mlp.up_proj.weight"] = weights(2, 2)
    message = pair.write(base, llama()).refusal(region="transformer")
    assert "pairs all of them" not in message


def test_renames_apply_to_the_bases_names_one_after_the_other(pair: Pair) -> None:
    pair.write(renamed(llama(), r"^model\.layers", "h"), llama())
    with pytest.raises(PairingError):
        pair.match("mlp")
    assert names(pair.match("mlp", rename=[r"^h=z", r"^z(\.\d)=model.layers\1"])) == [UP, DOWN]


def test_a_renamed_base_gives_the_values(pair: Pair) -> None:
    base = {name: store([0.0] * (len(s.data) // 2), "BF16", s.shape) for name, s in llama().items()}
    pair.write(renamed(base, r"^model\.", "x."), llama())
    output = pair.restore(100, region="mlp", rename=[r"^x\.=model."])
    assert output == llama() | {UP: base[UP], DOWN: base[DOWN]}


def test_two_names_that_become_one_are_refused() -> None:
    with pytest.raises(PairingError, match=r"'a\.w' and 'b\.w', into 'w'"):
        rename_all(["a.w", "b.w"], [r"^[ab]\.="])


@pytest.mark.parametrize("text", ["no separator", "(=x", r"a=\1", r"a=\g<x>", "[=b"])
def test_renames_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--rename"):
        parse_rename(text)


def test_the_last_equals_sign_separates() -> None:
    assert rename_all(["model.w"], [r"^(?=model)(?!x)=y."]) == {"y.model.w": "model.w"}


def test_a_prefix_is_suggested_for_tens_of_thousands_of_names_at_once() -> None:
    base = {f"old.layers.{n}.w" for n in range(20_000)}
    wanted = [f"new.layers.{n}.w" for n in range(20_000)]
    assert suggest_prefix(base, wanted, lambda *_: True) == r"^old\.=new."


# Regions that match nothing, wrong requests


def test_a_region_without_a_tensor_names_those_that_have(pair: Pair) -> None:
    tensors = {UP: weights(8, 4), EMBED: weights(6, 4)}
    message = pair.write(tensors, tensors).refusal(RequestError, region="attention")
    assert "region 'attention' matches no tensor" in message
    assert "transformer (32 elements)" in message
    assert "embedding (24 elements)" in message
    assert "all (56 elements)" in message
    assert "attention (" not in message


def test_patterns_that_leave_nothing_are_blamed(pair: Pair) -> None:
    message = pair.write(llama(), llama()).refusal(RequestError, include=["nothing"])
    assert "--include/--exclude" in message
    assert "no region would" in message


def test_a_region_of_empty_tensors_has_nothing_to_rank(pair: Pair) -> None:
    tensors = {UP: weights(0, 4), Q: weights(2)}
    message = pair.write(tensors, tensors).refusal(RequestError, region="mlp")
    assert "attention (2 elements)" in message


def test_an_unknown_region_or_pattern_is_refused() -> None:
    with pytest.raises(RequestError, match="transformer, attention, mlp, embedding, all"):
        make_filter("layers")
    for option in ("include", "exclude"):
        with pytest.raises(RequestError, match=rf"--{option} '\('"):
            make_filter("all", **{option: ["("]})


def test_a_survey_says_what_can_be_paired_and_why_the_rest_cannot(pair: Pair) -> None:
    base = {name: stored for name, stored in llama().items() if name != Q}
    pair.write(base, llama() | {UP: weights(2)})
    with (
        open_checkpoint(pair.folder / "base", "base") as opened_base,
        open_checkpoint(pair.folder / "target", "target") as target,
    ):
        pairing, problems = survey(
            opened_base, target, make_filter("transformer"), Scoring(), NO_TIES
        )
    assert names(pairing) == [DOWN]
    assert {problem.name: problem.kind for problem in problems} == {Q: "missing", UP: "shape"}


# Formats


@pytest.mark.parametrize(
    ("base_dtype", "target_dtype", "dtype", "out", "exact"),
    [
        ("BF16", "BF16", "auto", "BF16", True),
        ("BF16", "F32", "auto", "F32", False),
        ("F32", "BF16", "auto", "BF16", True),
        ("F16", "BF16", "auto", "BF16", True),
        ("F32", "F16", "auto", "F16", False),
        ("F16", "F16", "auto", "F16", False),
        ("F32", "F32", "bf16", "BF16", True),
        ("F16", "BF16", "bf16", "BF16", True),
        ("BF16", "BF16", "fp32", "F32", False),
        ("BF16", "BF16", "fp16", "F16", False),
        ("BF16", "BF16", "bf16", "BF16", True),
    ],
)
def test_formats_decide_what_is_written_and_whether_scores_are_bfloat16(
    pair: Pair, base_dtype: str, target_dtype: str, dtype: str, out: str, exact: bool
) -> None:
    pair.write({UP: weights(3, dtype=base_dtype)}, {UP: weights(3, dtype=target_dtype)})
    (found,) = pair.match(dtype=dtype).pairs
    assert (found.out_dtype, found.exact) == (out, exact)


def test_a_mixed_pair_restores_the_bases_value_rounded_to_nearest_even(pair: Pair) -> None:
    base = store([1.0 + 2**-8, 1.0 + 3 * 2**-8, -(1.0 + 2**-8), 1.0 + 2**-8 + 2**-20], "F32")
    output = pair.write({UP: base}, {UP: weights(4)}).restore(100)
    expected = [1.0, 1.0 + 2**-6, -1.0, 1.0 + 2**-7]
    assert output == {UP: store(expected, "BF16")}


# Heads: tied, missing, of their own


def test_a_tied_head_counts_once_and_is_written_like_its_embedding(pair: Pair) -> None:
    target = llama()
    target[HEAD] = target[EMBED]
    base = llama() | {EMBED: weights(6, 4, start=3.0)}
    output = pair.write(base, target, tie_word_embeddings=True).restore(50, region="embedding")
    assert pair.result.region_elements == 24
    assert pair.result.selected_elements == 12
    assert output[HEAD] == output[EMBED] != target[EMBED]


@pytest.mark.parametrize("strategy", ["top", "bottom", "random"])
@pytest.mark.parametrize("dtype", ["auto", "bf16", "fp32"])
def test_tied_heads_agree_under_every_strategy_and_cast(
    pair: Pair, strategy: str, dtype: str
) -> None:
    # The classifier comes first, so that no segment of the embedding has the number 0.
    first = "classifier.weight"
    target = {first: weights(30), EMBED: weights(50, 7, start=0.0), UP: weights(30)}
    target[HEAD] = target[EMBED]
    base = {first: weights(30, start=3.0), EMBED: weights(50, 7, start=0.5)}
    base[UP] = weights(30, start=2.0)
    pair.write(base, target, tie_word_embeddings=True)
    output = pair.restore(30, FINE, region="all", strategy=strategy, dtype=dtype)
    assert pair.result.region_elements == 410
    assert output[HEAD] == output[EMBED]


def test_a_tied_head_repeats_the_turns_of_its_embeddings_ties(pair: Pair) -> None:
    """All scores are equal; the segments before the embedding's shift whose turn it is."""
    first = "classifier.weight"
    base = {first: store([1.0] * 100, "BF16"), EMBED: store([[1.0] * 7] * 50, "BF16")}
    target = {first: store([1.5] * 100, "BF16"), EMBED: store([[1.5] * 7] * 50, "BF16")}
    target[HEAD] = target[EMBED]
    pair.write(base, target, tie_word_embeddings=True)
    output = pair.restore(37, FINE, region="all")
    assert pair.result.figures.ties.count == 450
    assert output[HEAD] == output[EMBED]


def test_a_tied_head_takes_part_if_and_only_if_its_embedding_does(pair: Pair) -> None:
    target = llama() | {HEAD: llama()[EMBED]}
    pair.write(llama(), target, tie_word_embeddings=True)
    pairing = pair.match("embedding", exclude=["lm_head"])
    assert [found.name for found in pairing.twins] == [HEAD]
    pairing = pair.match("all", exclude=["embed_tokens"])
    assert pairing.twins == ()
    assert HEAD not in names(pairing)


def test_heads_that_only_claim_to_be_tied_are_refused(pair: Pair) -> None:
    pair.write(llama(), llama(), tie_word_embeddings=True)
    with pytest.raises(PairingError, match=f"{HEAD} differs from {EMBED}"):
        pair.restore(50, region="embedding")
    assert not (pair.folder / "output").exists()


def test_a_head_of_another_shape_is_no_twin(pair: Pair) -> None:
    tensors = llama() | {HEAD: weights(7, 4)}
    pairing = pair.write(tensors, tensors, tie_word_embeddings=True).match("embedding")
    assert names(pairing) == [HEAD, EMBED]
    assert pairing.twins == ()


def test_untied_heads_count_for_themselves(pair: Pair) -> None:
    pairing = pair.write(llama(), llama(), tie_word_embeddings=False).match("embedding")
    assert (names(pairing), pairing.twins) == ([HEAD, EMBED], ())


def test_a_base_without_a_head_lends_its_embedding(pair: Pair) -> None:
    base = {name: stored for name, stored in llama().items() if name != HEAD}
    pairing = pair.write(base, llama()).match("embedding")
    assert {found.name: found.base.name for found in pairing.pairs} == {HEAD: EMBED, EMBED: EMBED}


def test_a_base_without_head_or_embedding_has_none_to_lend(pair: Pair) -> None:
    message = pair.write({Q: weights(4, 4)}, llama()).refusal(region="embedding")
    assert f"{HEAD}: only the target has it" in message


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({}, None),
        ({"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": False}, False),
        ({"tie_word_embeddings": None}, None),
        ({"text_config": {"tie_word_embeddings": True}}, True),
        ({"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}}, False),
        ({"text_config": "no object"}, None),
    ],
)
def test_the_configuration_says_whether_heads_are_tied_or_is_silent(
    config: dict[str, Any], tied: bool | None
) -> None:
    assert says_tied(config) is tied


def test_every_region_can_be_asked_for(pair: Pair) -> None:
    pair.write(llama(), llama())
    assert all(pair.match(region).elements for region in REGIONS)
