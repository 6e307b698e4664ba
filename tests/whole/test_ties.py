"""What is tied in the target stays tied, whatever its configuration says or leaves out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shardrestore
from shardrestore.pairing.ties import SAMPLE_ELEMENTS
from tests.support.checkpoints import Layout, store, write_checkpoint
from tests.support.examples import examples
from tests.support.library import Library, cut_into
from tests.support.oracle import Stored, load
from tests.support.runs import scratch

ROWS = 3 * SAMPLE_ELEMENTS
SHAPE = (ROWS, 2)
"""Large enough for elements that no sample looks at."""
UNSAMPLED = 3 * SAMPLE_ELEMENTS // 2

FINE = Library(cut_into(500, 100, 1000))

UP = "model.layers.0.mlp.up_proj.weight"
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
GROUPS = {
    "llama": [[EMBED, HEAD]],
    "gpt2": [["transformer.wte.weight", HEAD]],
    "t5": [["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD]],
    "bert": [
        ["bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"],
        ["cls.predictions.bias", "cls.predictions.decoder.bias"],
    ],
    "biogpt": [["biogpt.embed_tokens.weight", "output_projection.weight"]],
    "vision": [["model.language_model.embed_tokens.weight", "lm_head.weight"]],
    "deepseek": [
        [EMBED, "model.layers.61.embed_tokens.weight"],
        [HEAD, "model.layers.61.shared_head.head.weight"],
    ],
}
"""Names of the same weights, in the files of well-known models."""


def make_pair(
    folder: Path, groups: Sequence[Sequence[str]], config: Mapping[str, Any], seed: int = 0
) -> dict[str, Stored]:
    """Write a pair in which the base holds each name, too; return the target."""
    rng = np.random.default_rng(seed)
    base: dict[str, Stored] = {}
    target: dict[str, Stored] = {}
    for names, shape in (([UP], (16, 16)), *((group, SHAPE) for group in groups)):
        weights = rng.normal(0, 0.02, shape)
        tuned = weights * (1 + 0.05 * rng.normal(size=shape))
        base |= dict.fromkeys(names, store(weights, "BF16"))
        target |= dict.fromkeys(names, store(tuned, "BF16"))
    write_checkpoint(folder / "base", base, Layout(1, 1))
    documents = {"config.json": json.dumps(config).encode()}
    write_checkpoint(folder / "target", target, Layout(2, 2), documents)
    return target


def sides(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "base", folder / "target", folder / "output"


def spoil(folder: Path, name: str, element: int = UNSAMPLED) -> None:
    """Change one element of a tensor of the target."""
    from shardrestore.inputs.reference import open_checkpoint

    with open_checkpoint(folder / "target", "target") as target:
        tensor = target.tensors[name]
        shard = target.shards[tensor.shard].filename
    with (folder / "target" / shard).open("r+b") as file:
        file.seek(tensor.offset + element * 2)
        file.write(b"\x80\x3f")


SAID = ({}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False})


@pytest.mark.parametrize("config", SAID, ids=["silent", "tied", "untied"])
@pytest.mark.parametrize("family", GROUPS)
def test_names_of_the_same_weights_count_once_and_are_written_alike(
    tmp_path: Path, family: str, config: dict[str, Any]
) -> None:
    groups = GROUPS[family]
    if family == "deepseek":
        config = {"tie_word_embeddings": False}
    target = make_pair(tmp_path, groups, config)
    planned = shardrestore.plan(*sides(tmp_path), percent=30, region="embedding")
    result = shardrestore.restore(*sides(tmp_path), percent=30, region="embedding")
    output = load(tmp_path / "output")
    elements = len(groups) * ROWS * 2
    assert result.region_elements == planned.models[0].region_elements == elements
    for group in groups:
        assert len({output[name].data for name in group}) == 1
        assert output[group[0]] != target[group[0]]
    assert shardrestore.verify(tmp_path / "output").ok


@examples(20)
@given(st.data())
def test_tied_tensors_are_equal_after_any_restoration(data: st.DataObject) -> None:
    groups = GROUPS[data.draw(st.sampled_from(sorted(GROUPS)))]
    names = [name for group in groups for name in group]
    patterns = st.lists(st.sampled_from(names).map(lambda name: f"^{name}$"), max_size=2)
    options: dict[str, Any] = {
        "percent": data.draw(st.sampled_from([1, 17.3, 50, 100])),
        "region": data.draw(st.sampled_from(["embedding", "all", "transformer"])),
        "strategy": data.draw(st.sampled_from(["top", "bottom", "random"])),
        "dtype": data.draw(st.sampled_from(["auto", "fp32", "fp16"])),
        "exclude": data.draw(patterns),
    }
    with scratch() as folder:
        untied = groups is GROUPS["deepseek"]
        make_pair(folder, groups, {"tie_word_embeddings": False} if untied else {})
        try:
            FINE.restore(*sides(folder), **options, max_memory="16GiB")
        except shardrestore.RequestError:
            return  # all of the region is excluded
        output = load(folder / "output")
        assert all(len({output[name].data for name in group}) == 1 for group in groups)
        assert FINE.verify(folder / "output", max_memory_bytes=16 << 30).ok


@pytest.mark.parametrize(
    "element", [0, UNSAMPLED, 2 * ROWS - 1], ids=["first", "unsampled", "last"]
)
class TestWhatOnlyItsNameTies:
    """One element differs, where a sample sees it or where only the whole comparison does."""

    def test_counts_for_itself_and_is_noted_where_the_configuration_is_silent(
        self, tmp_path: Path, element: int
    ) -> None:
        make_pair(tmp_path, GROUPS["llama"], {})
        spoil(tmp_path, HEAD, element)
        result = shardrestore.restore(*sides(tmp_path), percent=100, region="embedding")
        assert result.region_elements == 2 * ROWS * 2
        (note,) = result.notes
        assert note.kind == "untied"
        assert f"{HEAD} differs from {EMBED} near element {element}, and" in note.text
        assert shardrestore.verify(tmp_path / "output").ok

    def test_is_refused_where_the_configuration_ties_it(self, tmp_path: Path, element: int) -> None:
        make_pair(tmp_path, GROUPS["llama"], {"tie_word_embeddings": True})
        spoil(tmp_path, HEAD, element)
        message = f"{HEAD} differs from {EMBED} near element {element}, although config.json of"
        with pytest.raises(shardrestore.PairingError, match=message):
            shardrestore.restore(*sides(tmp_path), percent=100, region="embedding")
        assert not (tmp_path / "output").exists()
        assert shardrestore.restore(*sides(tmp_path), percent=100).notes == ()

    def test_counts_for_itself_without_a_word_where_the_configuration_parts_it(
        self, tmp_path: Path, element: int
    ) -> None:
        make_pair(tmp_path, GROUPS["llama"], {"tie_word_embeddings": False})
        spoil(tmp_path, HEAD, element)
        result = shardrestore.restore(*sides(tmp_path), percent=100, region="embedding")
        assert (result.region_elements, result.notes) == (2 * ROWS * 2, ())

    def test_leaves_the_others_of_its_group_tied(self, tmp_path: Path, element: int) -> None:
        make_pair(tmp_path, GROUPS["t5"], {"tie_word_embeddings": False})
        for name in (HEAD, "encoder.embed_tokens.weight"):
            spoil(tmp_path, name, element)
        result = shardrestore.restore(*sides(tmp_path), percent=40, region="embedding")
        output = load(tmp_path / "output")
        assert result.region_elements == 2 * ROWS * 2
        assert output[HEAD] == output["encoder.embed_tokens.weight"]
        assert output["shared.weight"] == output["decoder.embed_tokens.weight"]
        assert {note.kind for note in result.notes} == {"untied", "tied"}
        assert shardrestore.verify(tmp_path / "output").ok

    def test_is_found_by_a_scan_whose_profile_then_answers_as_the_weights_do(
        self, tmp_path: Path, element: int
    ) -> None:
        make_pair(tmp_path, GROUPS["llama"], {})
        spoil(tmp_path, HEAD, element)
        base, target, output = sides(tmp_path)
        profile = tmp_path / "pair.profile.safetensors"
        shardrestore.scan(base, target, profile)
        from_profile = shardrestore.restore(
            base, target, output, percent=10, region="all", profile=profile
        )
        from_weights = shardrestore.restore(
            base, target, tmp_path / "other", percent=10, region="all"
        )
        assert from_profile.figures == from_weights.figures


@pytest.mark.parametrize(
    ("exclude", "restored"), [(HEAD, True), (EMBED, False)], ids=["the head", "the embedding"]
)
def test_a_pattern_cannot_part_what_is_tied_and_a_note_says_so(
    tmp_path: Path, exclude: str, restored: bool
) -> None:
    target = make_pair(tmp_path, GROUPS["llama"], {})
    result = shardrestore.restore(
        *sides(tmp_path), percent=50, region="all", exclude=[f"^{exclude}$"]
    )
    output = load(tmp_path / "output")
    assert output[HEAD] == output[EMBED]
    assert (output[HEAD] != target[HEAD]) is restored
    (note,) = result.notes
    assert note.kind == "tied"
    assert f"{HEAD} is tied to {EMBED}" in note.text or f"{EMBED}" in note.text


def test_copies_for_token_prediction_need_no_word_of_the_configuration(tmp_path: Path) -> None:
    make_pair(tmp_path, GROUPS["deepseek"], {"tie_word_embeddings": False})
    assert shardrestore.plan(*sides(tmp_path), region="embedding").notes == ()


def test_a_configuration_that_denies_what_the_bytes_say_is_noted(tmp_path: Path) -> None:
    make_pair(tmp_path, GROUPS["llama"], {"tie_word_embeddings": False})
    (note,) = shardrestore.plan(*sides(tmp_path), region="embedding").notes
    assert note.kind == "tied"
    assert f"{HEAD} is equal to {EMBED} in every byte, although" in note.text


def test_the_default_region_reads_nothing_to_find_ties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair(tmp_path, GROUPS["llama"], {})
    monkeypatch.setattr(
        "shardrestore.pairing.ties._read_sample", lambda *_: pytest.fail("a weight was read")
    )
    assert shardrestore.restore(*sides(tmp_path)).notes == ()


def test_copies_that_a_base_lacks_take_their_originals_values(tmp_path: Path) -> None:
    make_pair(tmp_path, GROUPS["llama"], {})
    rng = np.random.default_rng(3)
    weights = store(rng.normal(0, 0.02, SHAPE), "BF16")
    base = {UP: store(rng.normal(0, 0.02, (16, 16)), "BF16"), EMBED: weights}
    write_checkpoint(tmp_path / "untied", base, Layout(0, 0))
    _, target, output = sides(tmp_path)
    shardrestore.restore(tmp_path / "untied", target, output, percent=100, region="embedding")
    found = load(output)
    assert found[HEAD] == found[EMBED] == weights
