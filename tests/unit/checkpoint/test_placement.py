"""Headers say where a tensor is; an index may be out of date, but not another model's."""

from __future__ import annotations

import pytest

from shardrestore.checkpoint.index import parse_index
from shardrestore.checkpoint.placement import Copy, place_tensors
from shardrestore.errors import CheckpointError


def test_an_index_that_is_right_needs_no_word() -> None:
    placement = place_tensors({"a": "1", "b": "2"}, {"1": ["a"], "2": ["b"]}, "index")
    assert (placement.copies, placement.absent, placement.moved) == ((), (), ())


def test_a_shard_that_is_named_in_two_ways_is_one() -> None:
    text = (
        b'{"weight_map": {"a": "s.safetensors", "b": "./s.safetensors", "c": "x//y.safetensors"}}'
    )
    found = parse_index(text, "index")
    assert found == {"a": "s.safetensors", "b": "s.safetensors", "c": "x/y.safetensors"}


def test_names_that_no_shard_has_and_names_in_other_shards_are_told_apart() -> None:
    weight_map = {"a": "1", "b": "2", "gone": "2", "c": "1"}
    placement = place_tensors(weight_map, {"1": ["a"], "2": ["b", "c"]}, "index")
    assert placement.absent == ("gone",)
    assert placement.moved == ("c",)


@pytest.mark.parametrize("home", ["1", "2", "3"])
def test_of_several_copies_the_one_counts_that_the_index_names(home: str) -> None:
    shards = {"1": ["x", "a"], "2": ["x", "b"], "3": ["x", "c"]}
    weight_map = {"x": home, "a": "1", "b": "2", "c": "3"}
    copies = place_tensors(weight_map, shards, "index").copies
    assert {copy.shard for copy in copies} == {"1", "2", "3"} - {home}
    assert home in {copy.home for copy in copies}


def test_without_an_index_the_first_copy_counts() -> None:
    placement = place_tensors({}, {"1": ["x"], "2": ["x"]}, "")
    assert placement.copies == (Copy(name="x", home="1", shard="2"),)


def test_a_shard_with_nothing_of_what_the_index_places_in_it_is_refused() -> None:
    with pytest.raises(CheckpointError, match="index: stale index: 2 holds none of the 2 tensors"):
        place_tensors({"a": "1", "b": "2", "c": "2"}, {"1": ["a"], "2": ["a"]}, "index")
