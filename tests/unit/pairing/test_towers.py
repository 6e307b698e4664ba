"""Towers that a checkpoint's names show only together."""

from __future__ import annotations

import pytest

from shardrestore.pairing.regions import in_region, locate
from shardrestore.pairing.towers import NO_TOWERS, find_towers

TEXT = [
    "model.encoder.layers.0.fc1.weight",
    "model.encoder.embed_positions.weight",
    "model.decoder.layers.0.fc1.weight",
    "model.decoder.embed_tokens.weight",
]
"""BART's names, and Whisper's except for the convolutions."""


def test_an_encoder_behind_convolutions_reads_sound_and_another_one_text() -> None:
    assert find_towers(TEXT) == NO_TOWERS
    heard = find_towers([*TEXT, "model.encoder.conv1.weight"])
    assert heard.prefixes == (("model.encoder", "audio"),)
    assert locate(TEXT[0], (8, 8), heard).tower == "audio"
    assert not in_region(TEXT[0], (8, 8), "transformer", heard)
    assert in_region(TEXT[2], (8, 8), "transformer", heard)


@pytest.mark.parametrize(
    ("names", "prefixes"),
    [
        pytest.param(
            ["vit.embeddings.patch_embedding.weight", "vit.layers.0.mlp.fc1.weight",
             "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"],
            {"vit": "vision"}, id="patches"),
        pytest.param(
            ["encoder.embeddings.patch_embeddings.projection.weight",
             "encoder.encoder.layer.0.output.dense.weight",
             "decoder.bert.encoder.layer.0.output.dense.weight",
             "decoder.bert.embeddings.word_embeddings.weight"],
            {"encoder": "vision"}, id="patches above the encoder"),
        pytest.param(
            ["model.encoder.subsampling.layers.0.weight", "model.encoder.layers.0.fc1.weight",
             "model.decoder.layers.0.fc1.weight"],
            {"model.encoder": "audio"}, id="numbered convolutions"),
        pytest.param(
            ["encoder.layers.0.attn.to_q.weight",
             "language_model.model.layers.0.self_attn.q_proj.weight"],
            {"encoder": "other"}, id="another says that it is the language model"),
        pytest.param(
            ["model.encoder.text_model.layers.0.mlp.up_proj.weight",
             "model.decoder.layers.0.mlp.up_proj.weight"],
            {}, id="a decoder of one that says it"),
        pytest.param(
            ["blocks.0.mlp.fc1.weight", "patch_embed.proj.weight", "layers.0.mlp.up_proj.weight",
             "embed_tokens.weight"],
            {"blocks": "vision", "patch_embed": "vision", "pos_embed": "vision"},
            id="both without a prefix"),
        pytest.param(
            ["vit.embeddings.patch_embeddings.projection.weight",
             "vit.encoder.layer.0.output.dense.weight"],
            {}, id="a vision model alone is the model that is meant"),
    ],
)  # fmt: skip
def test_a_stack_is_a_tower_by_what_stands_beside_it(
    names: list[str], prefixes: dict[str, str]
) -> None:
    assert dict(find_towers(names).prefixes) == prefixes


def test_a_word_in_the_name_wins_over_the_neighbours() -> None:
    towers = find_towers([*TEXT, "model.encoder.conv1.weight"])
    assert locate("model.encoder.audio_projector.weight", (8, 8), towers).tower == "projector"
