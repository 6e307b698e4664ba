"""Stacks of blocks, as a plan names them."""

from __future__ import annotations

from shardrestore.pairing.layers import list_stacks


def test_stacks_are_listed_tower_by_tower_with_their_numbers() -> None:
    places = [
        *((f"model.layers.{n}.mlp.up_proj.weight", "language") for n in (10, 0, 1, 2)),
        ("vision_tower.blocks.3.attn.qkv.weight", "vision"),
        ("decoder.layers.0.experts.7.fc1.weight", "language"),
        ("model.embed_tokens.weight", "language"),
    ]
    assert [(stack.tower, stack.name, stack.describe()) for stack in list_stacks(places)] == [
        ("language", "decoder.layers", "layers 0"),
        ("language", "model.layers", "layers 0-2, 10"),
        ("vision", "vision_tower.blocks", "layers 3"),
    ]
