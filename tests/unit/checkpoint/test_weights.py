"""Which files are the model's weights, and which index is written beside them."""

from __future__ import annotations

import pytest

from shardrestore.checkpoint.weights import find_weights, index_beside
from shardrestore.errors import CheckpointError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TWO = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NAMED = {"transformers_weights": "other.safetensors"}
NAMED_INDEX = {"transformers_weights": "other.safetensors.index.json"}

CHOICES = {
    "single": ([SINGLE], {}, (None, (SINGLE,), None)),
    "index": ([INDEX, *TWO], {}, (INDEX, (), None)),
    "single_before_index": ([SINGLE, INDEX, *TWO], {}, (None, (SINGLE,), INDEX)),
    "numbered_shards": ([*TWO], {}, (None, TWO, None)),
    "numbered_shards_in_any_order": ([TWO[1], "a.json", TWO[0]], {}, (None, TWO, None)),
    "named_file": (["other.safetensors"], NAMED, (None, ("other.safetensors",), None)),
    "named_file_before_single": (
        [SINGLE, "other.safetensors"], NAMED, (None, ("other.safetensors",), SINGLE)),
    "named_index": ([INDEX], NAMED_INDEX, ("other.safetensors.index.json", (), INDEX)),
    "named_usual_file": ([SINGLE], {"transformers_weights": SINGLE}, (None, (SINGLE,), None)),
    "a_name_that_is_null": ([SINGLE], {"transformers_weights": None}, (None, (SINGLE,), None)),
}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_the_weights_are_those_that_libraries_choose(choice: str) -> None:
    names, config, expected = CHOICES[choice]
    found = find_weights(names, config)
    assert found is not None
    assert (found.index, found.shards, found.passed_over) == expected


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["other.safetensors"],
        ["adapter_model.safetensors"],
        [TWO[0]],
        [TWO[1]],
        [*TWO, "other-1-of-1.safetensors"],
        ["sub/model.safetensors"],
        ["model-0-of-1.safetensors"],
        ["model-00001-of-00002.bin", "model-00002-of-00002.bin"],
        ["model-1-of-99999999999999999999.safetensors"],
    ],
    ids=", ".join,
)
def test_nothing_else_is_taken_for_a_model(names: list[str]) -> None:
    assert find_weights(names, {}) is None


@pytest.mark.parametrize(
    "named", ["../x.safetensors", "/etc/x.safetensors", "pytorch_model.bin", "x.index.json", 7, ""]
)
def test_a_configuration_that_names_no_weights_in_the_folder_is_refused(named: object) -> None:
    with pytest.raises(CheckpointError, match=r"transformers_weights is .*correct it, or remove"):
        find_weights([SINGLE], {"transformers_weights": named})


@pytest.mark.parametrize(
    ("shards", "config", "index"),
    [
        ((SINGLE,), {}, None),
        (TWO, {}, INDEX),
        (("model-00001-of-00001.safetensors",), {}, INDEX),
        (("other.safetensors",), NAMED, None),
        (TWO, NAMED_INDEX, "other.safetensors.index.json"),
    ],
)
def test_an_index_is_written_wherever_a_library_needs_one(
    shards: tuple[str, ...], config: dict[str, object], index: str | None
) -> None:
    assert index_beside(shards, config) == index
