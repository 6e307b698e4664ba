"""``config.json`` says in which format the weights are, and is otherwise left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import shardrestore
from shardrestore.checkpoint.config import parse_config, recast_config
from shardrestore.errors import CheckpointError
from tests.support.checkpoints import store, write_checkpoint

Q = "model.layers.0.self_attn.q_proj.weight"


def recast(config: Any, cast: str = "BF16") -> Any:
    found = recast_config(config, cast)
    assert found is not None
    return json.loads(found)


@pytest.mark.parametrize(
    ("cast", "name"), [("BF16", "bfloat16"), ("F16", "float16"), ("F32", "float32")]
)
def test_a_cast_names_the_new_format_under_either_key(cast: str, name: str) -> None:
    config = {"dtype": "float64", "torch_dtype": "auto", "model_type": "float64"}
    expected = {"dtype": name, "torch_dtype": name, "model_type": "float64"}
    assert recast(config, cast) == expected
    assert config["dtype"] == "float64"


def test_without_a_cast_or_without_a_configuration_nothing_is_rewritten() -> None:
    assert recast_config({"dtype": "float32"}, None) is None
    assert recast_config({}, "BF16") is None


def test_nested_configurations_are_recast_and_lists_are_not() -> None:
    config = {
        "text_config": {"dtype": "float32", "deeper": {"torch_dtype": "float32"}},
        "layers": [{"dtype": "float32"}],
        "dtype": {"dtype": "float32"},
    }
    assert recast(config) == {
        "text_config": {"dtype": "bfloat16", "deeper": {"torch_dtype": "bfloat16"}},
        "layers": [{"dtype": "float32"}],
        "dtype": {"dtype": "bfloat16"},
    }


@pytest.mark.parametrize("value", [None, 7, ["float32"], True])
def test_what_is_no_name_of_a_format_stays(value: object) -> None:
    assert recast({"dtype": value, "a": 1}) == {"dtype": value, "a": 1}


def test_the_order_of_keys_and_odd_texts_survive() -> None:
    text = b'{"z": "\\ud800", "dtype": "float32", "a": "\xc3\xa9", "n": 1e-05, "i": -Infinity}'
    found = recast_config(parse_config(text, "config.json"), "F16")
    assert found is not None
    assert list(json.loads(found)) == ["z", "dtype", "a", "n", "i"]
    assert json.loads(found) == json.loads(text) | {"dtype": "float16"}
    assert found.endswith(b"}\n")


def test_infinity_is_read_and_written_as_transformers_does() -> None:
    config = parse_config(b'{"time_step_limit": [0.0, Infinity]}', "config.json")
    assert b"Infinity" in (recast_config(config, "BF16") or b"")


@pytest.mark.parametrize("text", [b"[]", b"[1, 2]", b'"text"', b"7", b"null", b"{}"])
def test_json_that_is_no_object_is_an_empty_configuration(text: bytes) -> None:
    assert parse_config(text, "config.json") == {}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"{'a': 1}", b"\xff\xfe\xfd", b"[" * 200_000, b'{"n": ' + b"1" * 5000 + b"}"],
)
def test_what_is_no_json_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"^here/config\.json: not valid JSON: "):
        parse_config(text, "here/config.json")


def nested(depth: int) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for _ in range(depth):
        config = {"a": config}
    return config


def test_a_nesting_too_deep_to_be_written_is_refused() -> None:
    assert recast(nested(100)) == nested(100)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        recast_config(nested(50_000), "BF16")


# Whole runs


@pytest.mark.parametrize(
    "text", [b"[1,\t2]", b'[{"dtype": "float32"}]\r\n', b"{}", b"null", b' "text" ']
)
def test_a_configuration_that_is_no_object_is_copied_untouched(tmp_path: Path, text: bytes) -> None:
    write_checkpoint(tmp_path / "base", {Q: store([1.0, 2.0])})
    write_checkpoint(tmp_path / "target", {Q: store([1.5, 2.0])}, side_files={"config.json": text})
    shardrestore.restore(
        tmp_path / "base",
        tmp_path / "target",
        tmp_path / "output",
        percent=50,
        dtype="bf16",
        max_memory="16GiB",
    )
    assert (tmp_path / "output" / "config.json").read_bytes() == text
