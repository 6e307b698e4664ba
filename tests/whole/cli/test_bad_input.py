"""Every bad input: one clear message, exit 1 (2 for wrong usage), and an untouched file system.

Each row of a table starts from a good pair, spoils it, and runs the command line as a
process of its own, in the folder that holds ``base`` and ``target``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import shardrestore
from tests.support.checkpoints import read_tree
from tests.support.process.command import offline, run_cli
from tests.support.scene import (
    INDEX,
    SINGLE,
    STAGING,
    Scene,
    Tensor,
    edit,
    entry,
    header_file,
    read_shard,
    read_tensors,
    shard_names,
    snapshot,
    write_index,
    write_shard,
    zeros,
)

SHARD = "model-00002-of-00003.safetensors"
Q0 = "model.layers.0.self_attn.q_proj.weight"
Q1 = "model.layers.1.self_attn.q_proj.weight"


@dataclass(frozen=True)
class Bad:
    """One bad input."""

    claim: str
    says: Sequence[str]
    """What the message must hold, in this order."""
    spoil: Callable[[Scene], object] = field(default=lambda scene: None)
    args: Sequence[str] = ()


def assert_refused(
    scene: Scene,
    says: Sequence[str],
    args: Sequence[str] = (),
    *,
    status: int = 1,
    **options: Any,
) -> str:
    """Run on the spoilt pair; return the message after every check."""
    before = snapshot(scene.root)
    done = scene.cli(*args, **options)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if status == 1:
        assert done.stderr.startswith("error: ")
    message = re.sub(r"\s+", " ", done.stderr)
    at = 0
    for words in says:
        assert words in message[at:], f"{words!r} not in {message[at:]!r}"
        at += message[at:].index(words) + len(words)
    assert snapshot(scene.root) == before
    return done.stderr


def table(*rows: Bad) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bad", rows, ids=[row.claim for row in rows])


def each(*spoils: Callable[[Scene], object]) -> Callable[[Scene], object]:
    def spoil(scene: Scene) -> None:
        for one in spoils:
            one(scene)

    return spoil


# Spoiling folders and files -------------------------------------------------------------


def remove(*names: str, side: str = "target") -> Callable[[Scene], object]:
    return lambda scene: [Path(scene.root, side, name).unlink() for name in names]


def empty(side: str) -> Callable[[Scene], object]:
    def spoil(scene: Scene) -> None:
        shutil.rmtree(scene.root / side)
        (scene.root / side).mkdir()

    return spoil


def put(name: str, content: bytes, side: str = "target") -> Callable[[Scene], object]:
    return lambda scene: Path(scene.root, side, name).write_bytes(content)


def replace_weights(name: str, content: bytes = b"") -> Callable[[Scene], object]:
    """Leave one file of weights in the base, of any kind."""
    return each(empty("base"), put(name, content, "base"))


def single(content: bytes) -> Callable[[Scene], object]:
    """Make the target one file, made of any bytes."""
    return each(empty("target"), put(SINGLE, content))


def resize(nbytes: int) -> Callable[[Scene], object]:
    """Add bytes to the end of a shard, or cut them off."""

    def spoil(scene: Scene) -> None:
        path = scene.target / SHARD
        os.truncate(path, path.stat().st_size + nbytes)

    return spoil


def index(change: Callable[[dict[str, Any]], object]) -> Callable[[Scene], object]:
    """Change the target's index."""

    def spoil(scene: Scene) -> None:
        document = json.loads((scene.target / INDEX).read_text())
        change(document)
        (scene.target / INDEX).write_text(json.dumps(document))

    return spoil


def point(name: str, shard: object) -> Callable[[Scene], object]:
    """Let the target's index place one tensor elsewhere."""
    return index(lambda document: document["weight_map"].update({name: shard}))


def instead_of_shard(make: Callable[[Path], object]) -> Callable[[Scene], object]:
    def spoil(scene: Scene) -> None:
        path = scene.target / SHARD
        path.unlink()
        make(path)

    return spoil


def twice(scene: Scene) -> None:
    """Put a tensor of one shard into another as well, with other bytes."""
    first, second = shard_names(scene.target)[:2]
    tensors = read_shard(scene.target / second)
    name, (dtype, shape, data) = next(iter(read_shard(scene.target / first).items()))
    write_shard(scene.target / second, tensors | {name: (dtype, shape, bytes(len(data)))})


# Spoiling tensors -----------------------------------------------------------------------


def tensor(name: str, new: Tensor, side: str = "target") -> Callable[[Scene], object]:
    """Replace one tensor."""
    return lambda scene: edit(
        scene.root / side, lambda n, old: {n: new if re.search(name, n) else old}
    )


def add(name: str, new: Tensor, side: str = "target") -> Callable[[Scene], object]:
    """Add one tensor."""

    def spoil(scene: Scene) -> None:
        folder = scene.root / side
        path = folder / SHARD
        write_shard(path, read_shard(path) | {name: new})
        write_index(folder)

    return spoil


def rename(old: str, new: str, side: str = "base") -> Callable[[Scene], object]:
    return lambda scene: edit(scene.root / side, lambda n, t: {re.sub(old, new, n): t})


def poison(name: str, pattern: int, count: int, side: str) -> Callable[[Scene], object]:
    """Set the first `count` bfloat16 weights of a tensor."""

    def change(this: str, old: Tensor) -> dict[str, Tensor]:
        if this == name:
            codes = np.frombuffer(old[2], np.uint16).copy()
            codes[:count] = pattern
            old = old[0], old[1], codes.tobytes()
        return {this: old}

    return lambda scene: edit(scene.root / side, change)


NAN, INFINITY = 0x7FC0, 0x7F80
NARROW = "F8_E4M3", (32, 32), bytes(1024)


# The tables -----------------------------------------------------------------------------


@table(
    Bad("base_is_missing", ["base nowhere", "no such folder"], args=["--base", "nowhere"]),
    Bad("target_is_missing", ["target no/such/where: no such folder"],
        args=["--target", "no/such/where"]),
    Bad("a_nul_free_but_overlong_path", ["base", "not a usable path"],
        args=["--base", "x" * 5000]),
    Bad("path_is_a_file", [f"base base/{SHARD}", "a file, not a folder", "name base"],
        args=["--base", f"base/{SHARD}"]),
    Bad("hub_id", ["acme/base: no such folder, and not in the cache", "HF_HUB_OFFLINE"],
        args=["--base", "acme/base"]),
    Bad("a_mistyped_path_that_may_be_a_hub_id",
        ["work/bsae: no such folder (is it work/base?), and not in the cache"],
        lambda scene: shutil.copytree(scene.base, scene.root / "work" / "base"),
        ["--base", "work/bsae"]),
    Bad("hub_id_with_revision",
        ["acme/base@v1: no such folder, and not in the cache", "HF_HUB_OFFLINE"],
        args=["--base", "acme/base@v1"]),
    Bad("hub_address", ["acme/base: not in the cache", "HF_HUB_OFFLINE"],
        args=["--target", "hf://acme/base"]),
    Bad("hub_address_of_a_data_set", ["a dataset on the Hub, not a model"],
        args=["--target", "hf://datasets/acme/base"]),
    Bad("hub_address_of_a_file", ["'model.safetensors' inside acme/base", "repository alone"],
        args=["--target", "hf://acme/base/model.safetensors"]),
    Bad("folder_is_empty", [f"base: neither {SINGLE} nor {INDEX}", "no safetensors file"],
        empty("base")),
    Bad("only_bin", ["base", "pytorch_model.bin", "no safetensors", "Convert it",
                     'torch.load("base/pytorch_model.bin"', '"base-safetensors/model.safetensors"'],
        replace_weights("pytorch_model.bin")),
    Bad("only_pt", ["consolidated.00.pth", "Convert it"], replace_weights("consolidated.00.pth")),
    Bad("only_an_adapter", ["adapter_model.safetensors", "merge"],
        replace_weights("adapter_model.safetensors")),
    Bad("weights_of_another_name", ["neither", "only weights.safetensors"],
        replace_weights("weights.safetensors")),
    Bad("config_is_no_json", ["target/config.json: not valid JSON"], put("config.json", b"{")),
)  # fmt: skip
def test_a_folder_that_is_no_checkpoint(scene: Scene, bad: Bad) -> None:
    bad.spoil(scene)
    assert_refused(scene, bad.says, bad.args)


TWO = {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 4, 8)}


@table(
    Bad("empty_file", [f"target/{SINGLE}: 0 bytes are too short"], single(b"")),
    Bad("seven_bytes", ["7 bytes are too short"], single(b"\x08\0\0\0\0\0\0")),
    Bad("header_beyond_the_file", ["header ends at byte 1008", "13 bytes", "download it again"],
        single((1000).to_bytes(8, "little") + b"{    ")),
    Bad("header_length_oversized", ["header of 100000001 bytes", "100000000"],
        single((100_000_001).to_bytes(8, "little") + bytes(64))),
    Bad("git_lfs_pointer", ["git-lfs", "git lfs pull"],
        single(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")),
    Bad("not_json", ["header", "no safetensors file"], single(header_file("{not json"))),
    Bad("not_utf_8", ["header"], single((8).to_bytes(8, "little") + b'{"\xff":1}')),
    Bad("not_an_object", ["header"], single(header_file("[]      "))),
    Bad("truncated_shard", [f"target/{SHARD}", "truncated", "download it again"], resize(-1)),
    Bad("trailing_bytes", [f"target/{SHARD}", "3 trailing bytes"], resize(3)),
    Bad("overlapping", ["'b' begins at data offset 2", "'a'", "ends at 4", "overlap"],
        single(header_file(TWO | {"b": entry("F32", [1], 2, 6)}, bytes(6)))),
    Bad("holed", ["'b' begins at data offset 6", "from 4 on", "hole"],
        single(header_file(TWO | {"b": entry("F32", [1], 6, 10)}, bytes(10)))),
    Bad("duplicate_key", ["'a' is given twice"],
        single(header_file(json.dumps(TWO).replace('"b"', '"a"'), bytes(8)))),
    Bad("shape_against_bytes", ["'a'", "shape [3]", "12 bytes", "hold 4"],
        single(header_file({"a": entry("F32", [3], 0, 4)}, bytes(4)))),
    Bad("unknown_dtype", ["'a' has dtype 'F33'"],
        single(header_file({"a": entry("F33", [1], 0, 4)}, bytes(4)))),
    Bad("negative_shape", ["'a'", "-1"],
        single(header_file({"a": entry("F32", [-1], 0, 4)}, bytes(4)))),
    Bad("shard_is_a_folder", [SHARD, "not a regular file"], instead_of_shard(Path.mkdir)),
    Bad("shard_is_a_fifo", [SHARD, "not a regular file"], instead_of_shard(os.mkfifo)),
    Bad("shard_is_a_dangling_link", [SHARD, "missing", "download it again"],
        instead_of_shard(lambda path: path.symlink_to("../blobs/gone"))),
    Bad("single_file_is_a_dangling_link", [f"target/{SINGLE}", "cannot be opened", "No such file"],
        each(empty("target"), lambda scene: (scene.target / SINGLE).symlink_to("gone"))),
    Bad("single_file_is_a_folder", [f"target/{SINGLE}", "not a regular file"],
        each(empty("target"), lambda scene: (scene.target / SINGLE).mkdir())),
)  # fmt: skip
def test_a_file_that_is_no_safetensors(scene: Scene, bad: Bad) -> None:
    bad.spoil(scene)
    assert_refused(scene, bad.says, bad.args)


@table(
    Bad("missing_shard", [INDEX, f"names the shard {SHARD}", "missing", "download it again"],
        remove(SHARD)),
    Bad("shard_of_another_model",
        [INDEX, "stale", f"{SHARD} holds none of the", "tensors", "index and shards"],
        lambda scene: shutil.copy(scene.target / shard_names(scene.target)[0],
                                  scene.target / SHARD)),
    Bad("absolute_path", [INDEX, "/etc/x.safetensors", "inside the checkpoint's folder"],
        point(Q0, "/etc/x.safetensors")),
    Bad("parent_folder", ["../base/model.safetensors", "inside the checkpoint's folder"],
        point(Q0, "../base/model.safetensors")),
    Bad("parent_folder_within", ["a/../../x.safetensors", "inside"],
        point(Q0, "a/../../x.safetensors")),
    Bad("another_kind_of_file", ["'config.json'", ".safetensors"], point(Q0, "config.json")),
    Bad("a_shard_that_is_no_name", [f"{Q0!r}", "7"], point(Q0, 7)),
    Bad("not_json", [INDEX, "not a valid index"], put(INDEX, b'{"weight_map": {')),
    Bad("not_an_object", [INDEX, "weight_map"], put(INDEX, b"[]")),
    Bad("no_weight_map", [INDEX, "weight_map"], index(lambda document: document.pop("weight_map"))),
    Bad("weight_map_is_a_list", [INDEX, "weight_map"], put(INDEX, b'{"weight_map": []}')),
    Bad("name_given_twice", [INDEX, "'a' is named twice"],
        put(INDEX, b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}')),
    Bad("tensor_in_two_shards", ["in two shards", "00001", "00002", "bytes differ", "without it"],
        twice),
    Bad("index_is_a_folder", [INDEX, "not a regular file"],
        each(remove(INDEX), lambda scene: (scene.target / INDEX).mkdir())),
    Bad("index_is_a_dangling_link", [INDEX, "cannot be opened"],
        each(remove(INDEX), lambda scene: (scene.target / INDEX).symlink_to("gone"))),
)  # fmt: skip
def test_an_index_that_lies(scene: Scene, bad: Bad) -> None:
    bad.spoil(scene)
    assert_refused(scene, bad.says, bad.args)


EXTRA = "model.layers.2.mlp.up_proj.weight"


@table(
    Bad("only_the_target_has_it", [f"{EXTRA}: only the target has it", "--exclude", "--rename"],
        add(EXTRA, zeros("BF16", 4, 4))),
    Bad("shapes_differ_all_listed",
        ["8 tensors",
         "*.self_attn.k_proj.weight (2 tensors): shape [16, 32] in the base, [8, 64] in the target",
         "o_proj", "q_proj", "v_proj", "--exclude"],
        tensor("self_attn", zeros("BF16", 8, 64))),
    Bad("many_problems_are_counted", ["14 tensors", "*.mlp.down_proj.weight (2 tensors)"],
        tensor("_proj", zeros("BF16", 2))),
    Bad("vocabulary_rows_differ",
        ["embed_tokens.weight: shape [96, 32] in the base, [104, 32] in the target"],
        tensor("embed_tokens", zeros("BF16", 104, 32)), ["--region", "embedding"]),
    Bad("every_kind_of_problem_at_once",
        ["3 tensors", "F8_E4M3", "shape", "only the target", "next step", "next step", "next step"],
        each(tensor("layers.0.mlp.gate", NARROW), tensor("layers.1.mlp.gate", zeros("BF16", 1)),
             add(EXTRA, zeros("BF16", 4)))),
    Bad("fp8_in_the_target", [Q0, "F8_E4M3 in the target", "dequantise"], tensor(Q0, NARROW)),
    Bad("fp8_in_the_base", [Q0, "F8_E4M3 in the base", "dequantise"], tensor(Q0, NARROW, "base")),
    Bad("fp8_is_not_cast_either", ["F8_E4M3 in the target"], tensor(Q0, NARROW),
        ["--dtype", "bf16"]),
    Bad("int8", [Q0, "I8 in the target", "BF16, F16, F32"], tensor(Q0, zeros("I8", 32, 32))),
    Bad("int64", [Q0, "I64"], tensor(Q0, zeros("I64", 32, 32))),
    Bad("rename_merges_two_names", ["--rename turns two tensors of the base", "narrower"],
        args=["--rename", r"\.\d+\.=."]),
    Bad("rename_without_equals", ["--rename 'abc': expected REGEX=REPL"],
        args=["--rename", "abc"]),
    Bad("rename_is_no_expression", ["--rename '('", "not a valid regular expression"],
        args=["--rename", "(=x"]),
    Bad("rename_names_no_such_group", ["--rename", "not a valid replacement"],
        args=["--rename", r"a=\7"]),
)  # fmt: skip
def test_a_pair_that_does_not_fit(scene: Scene, bad: Bad) -> None:
    bad.spoil(scene)
    assert_refused(scene, bad.says, bad.args)


@pytest.mark.parametrize(
    ("side", "old", "new"),
    [
        ("base", r"^model\.", "model.language_model."),  # transformers#38489
        ("target", r"^model\.", "language_model.model."),  # transformers#45358
        ("base", r"^model\.", ""),  # saved without the head
    ],
)
def test_a_changed_prefix_is_suggested_and_the_suggestion_works(
    scene: Scene, side: str, old: str, new: str
) -> None:
    expected = Scene.make(scene.root / "unchanged").run()
    rename(old, new, side)(scene)
    message = assert_refused(scene, ["14 tensors", "one prefix differs", "pairs all of them"])
    suggested = re.findall(r"--rename '([^']+)'", message)
    assert len(suggested) == 1
    found = scene.run("--rename", suggested[0])
    same = ("region_elements", "selected_elements", "threshold", "ties")
    assert [found[key] for key in same] == [expected[key] for key in same]


@table(
    Bad("nan_in_the_target", ["3 weights of 1 tensor", f"{Q0}: 3", "--allow-nonfinite"],
        poison(Q0, NAN, 3, "target")),
    Bad("infinity_in_the_base", ["2 weights", f"{Q0}: 2"], poison(Q0, INFINITY, 2, "base")),
    Bad("everything_is_listed", ["6 weights of 2 tensors", f"{Q0}: 5", f"{Q1}: 1", "--exclude"],
        each(poison(Q0, NAN, 3, "target"), poison(Q0, INFINITY, 2, "base"),
             poison(Q1, INFINITY, 1, "target"))),
)  # fmt: skip
def test_weights_that_are_not_finite(scene: Scene, bad: Bad) -> None:
    bad.spoil(scene)
    assert_refused(scene, bad.says, bad.args)
    found = scene.run("--allow-nonfinite")
    assert found["nonfinite_weights"] == int(bad.says[0].split()[0])
    assert found["selected_elements"] == int(found["region_elements"] * 0.1)


def test_weights_that_are_not_finite_pass_through_outside_the_region(scene: Scene) -> None:
    poison("model.norm.weight", NAN, 3, "target")(scene)
    scene.run()
    name = "model.norm.weight"
    assert read_tensors(scene.output)[name] == read_tensors(scene.target)[name]


@table(
    Bad("zero", ["percent 0", "above 0", "at most 100"], args=["-k", "0"]),
    Bad("negative", ["percent -1"], args=["-k", "-1"]),
    Bad("over_a_hundred", ["percent 101", "at most 100"], args=["-k", "101"]),
    Bad("nan", ["percent nan"], args=["-k", "nan"]),
    Bad("infinite", ["percent inf"], args=["-k", "inf"]),
    Bad("one_of_several", ["percent 0"], args=["-k", "1,0,5"]),
    Bad("twice", ["percent 5", "twice"], args=["-k", "5", "-k", "1,5.0"]),
    Bad("no_worker", ["workers 0", "at least 1"], args=["--workers", "0"]),
    Bad("gpu", ["cuda", "use --device cpu"], args=["--device", "cuda"]),
    Bad("a_certain_gpu", ["cuda", "use --device cpu"], args=["--device", "cuda:99"]),
    Bad("no_device", ["device 'tpu'", "auto, cpu, mps"], args=["--device", "tpu"]),
    Bad("include_is_no_expression", ["--include '('", "not a valid regular expression"],
        args=["--include", "("]),
    Bad("exclude_is_no_expression", ["--exclude '[a-'", "not a valid regular expression"],
        args=["--exclude", "[a-"]),
    Bad("filters_leave_nothing",
        ["region 'mlp' with these --include/--exclude", "attention (2,048 elements)",
         "all (2,048 elements)"],
        args=["--region", "mlp", "--include", "q_proj"]),
    Bad("no_region_would", ["matches no tensor", "no region would"], args=["--exclude", ""]),
    Bad("region_matches_nothing",
        ["region 'embedding' matches no tensor of target", "transformer (18,432 elements)",
         "attention (6,144", "mlp (12,288", "all (18,592"],
        lambda scene: edit(
            scene.target, lambda n, t: {} if "embed" in n or "lm_head" in n else {n: t}),
        ["--region", "embedding"]),
    Bad("budget_is_no_size", ["size 'lots'", "512MiB"], args=["--max-memory", "lots"]),
    Bad("budget_of_an_unknown_unit", ["size '5XB'"], args=["--max-memory", "5XB"]),
    Bad("budget_is_zero", ["size '0'", "above zero"], args=["--max-memory", "0"]),
    Bad("budget_is_negative", ["size '-5MiB'"], args=["--max-memory=-5MiB"]),
)  # fmt: skip
def test_a_request_that_cannot_be_meant(scene: Scene, bad: Bad) -> None:
    bad.spoil(scene)
    assert_refused(scene, bad.says, bad.args)


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    "args",
    [
        ("-k", "abc"),
        ("-k", "1,,2"),
        ("-k", ""),
        ("--region", "head"),
        ("--strategy", "middle"),
        ("--dtype", "fp8"),
        ("--workers", "two"),
        ("--no-such-option",),
        ("surplus",),
    ],
    ids="_".join,
)
def test_wrong_usage_exits_with_2(scene: Scene, command: str, args: tuple[str, ...]) -> None:
    message = assert_refused(scene, ["Usage: ", args[0]], args, status=2, command=command)
    assert "--help" in message


@pytest.mark.parametrize("args", [("run",), ("plan", "--base", "base"), ("restore",)])
def test_a_missing_option_or_an_unknown_command_exits_with_2(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    done = run_cli(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"region": "head"}, "region 'head': choose one of transformer, attention"),
        ({"strategy": "middle"}, "strategy 'middle': choose one of top, bottom, random"),
        ({"dtype": "fp8"}, "dtype 'fp8': choose one of auto, bf16, fp16, fp32"),
    ],
)
def test_the_api_refuses_unknown_names_too(
    scene: Scene, options: dict[str, Any], says: str
) -> None:
    before = snapshot(scene.root)
    with pytest.raises(shardrestore.RequestError, match=re.escape(says)):
        shardrestore.restore(scene.base, scene.target, scene.output, percent=10, **options)
    assert snapshot(scene.root) == before


def test_a_share_of_nothing_is_refused_and_the_suggested_one_works(scene: Scene) -> None:
    message = assert_refused(
        scene, ["0.001 % of 18,432 elements is none", "choose at least"], ["-k", "0.001"]
    )
    suggested = re.findall(r"at least ([\d.e-]+) %", message)
    assert len(suggested) == 1
    assert scene.run("-k", suggested[0])["selected_elements"] >= 1


def test_a_budget_too_small_is_refused_with_both_numbers_and_the_suggested_one_works(
    scene: Scene,
) -> None:
    message = assert_refused(
        scene,
        ["at least", "MiB of memory", "--max-memory allows 64 MiB", "raise it to"],
        ["--max-memory", "64MiB"],
    )
    suggested = re.findall(r"raise it to (\d+MiB)", message)
    assert len(suggested) == 1
    assert scene.run("--max-memory", suggested[0])["workers"] == 1


# The output -----------------------------------------------------------------------------


def keepsake(scene: Scene) -> None:
    scene.output.mkdir()
    (scene.output / "keepsake.txt").write_text("mine")


def linked_base(scene: Scene) -> None:
    """Let the base be a folder of links into the output."""
    scene.base.rename(scene.output)
    scene.base.mkdir()
    for path in scene.output.iterdir():
        (scene.base / path.name).symlink_to(path)


@table(
    Bad("is_the_base", ["base: is the base", "another --output"], args=["--output", "base"]),
    Bad("is_the_target", ["target: is the target"], args=["--output", "target", "--overwrite"]),
    Bad("lies_inside_the_base", ["lies inside the base"], args=["--output", "base/new"]),
    Bad("lies_deep_inside_the_target", ["lies inside the target"],
        args=["--output", "target/a/b/c", "--overwrite"]),
    Bad("is_the_target_in_other_words", ["is the target"],
        args=["--output", "base/../target/.", "--overwrite"]),
    Bad("links_to_the_target", ["link: is the target"],
        lambda scene: (scene.root / "link").symlink_to("target"),
        ["--output", "link", "--overwrite"]),
    Bad("lies_inside_the_base_through_a_link", ["lies inside the base"],
        lambda scene: (scene.root / "link").symlink_to(scene.base),
        ["--output", "link/new"]),
    Bad("is_the_folder_behind_a_linked_target", ["is the target"],
        lambda scene: (scene.root / "link").symlink_to("target"),
        ["--target", "link", "--output", "target", "--overwrite"]),
    Bad("is_one_of_several_inside_the_base", ["lies inside the base"],
        args=["--output", "base", "-k", "1,5"]),
    Bad("holds_what_an_input_links_to", ["base"],
        linked_base, ["--overwrite", "--follow-links"]),
    Bad("is_a_file", ["out: exists and is no folder", "another --output"],
        lambda scene: scene.output.write_text("mine")),
    Bad("is_a_file_even_with_overwrite", ["out: exists and is no folder"],
        lambda scene: scene.output.write_text("mine"), ["--overwrite"]),
    Bad("is_a_dangling_link", ["out: exists and is no folder"],
        lambda scene: scene.output.symlink_to("nowhere")),
    Bad("lies_below_a_file", ["base/config.json", "--output"],
        args=["--output", "base/config.json/out"]),
    Bad("is_not_empty", ["out: not empty", "it holds keepsake.txt", "--overwrite"], keepsake),
    Bad("holds_a_hidden_file", ["not empty", ".git"],
        lambda scene: (scene.output / ".git").mkdir(parents=True)),
)  # fmt: skip
def test_an_output_that_cannot_be_one(scene: Scene, bad: Bad) -> None:
    bad.spoil(scene)
    assert_refused(scene, bad.says, bad.args)


def test_one_of_several_outputs_that_is_not_empty_stops_them_all(scene: Scene) -> None:
    folder = scene.output / "restore_transformer_top_5pct"
    folder.mkdir(parents=True)
    (folder / "keepsake.txt").write_text("mine")
    assert_refused(scene, ["5pct: not empty", "keepsake.txt"], ["-k", "1,5"])


def bound_by_permissions() -> list[str]:
    """Return a command that runs another without root's right to ignore permissions."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("running as root, and there is no setpriv to give up its privileges")
    capabilities = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]


@table(
    Bad("output_parent", ["locked/out: no permission to write into"],
        lambda scene: (scene.root / "locked").mkdir(), ["--output", "locked/out"]),
    Bad("output_itself", ["locked: no permission to write into"],
        lambda scene: (scene.root / "locked").mkdir(), ["--output", "locked"]),
    Bad("shard", [SHARD, "cannot be opened: Permission denied"],
        lambda scene: (scene.target / SHARD).rename(scene.root / "locked")
        and (scene.target / SHARD).symlink_to(scene.root / "locked"), ["--follow-links"]),
    Bad("input_folder", ["base", "Permission denied"],
        lambda scene: scene.base.rename(scene.root / "locked"), ["--base", "locked"]),
    Bad("side_file", ["target/notes.txt", "cannot be read: no permission"],
        each(put("../locked", b"secret"),
             lambda scene: (scene.target / "notes.txt").symlink_to(scene.root / "locked")),
        ["--follow-links"]),
)  # fmt: skip
def test_a_path_without_permission(scene: Scene, bad: Bad) -> None:
    prefix = bound_by_permissions()
    bad.spoil(scene)
    locked = scene.root / "locked"
    before = snapshot(scene.root)
    locked.chmod(0o555 if bad.claim.startswith("output") else 0)
    command = [*prefix, sys.executable, "-m", "shardrestore_cli.main", "run"]
    command += ["--base", "base", "--target", "target", "--output", "out", *bad.args]
    try:
        done = subprocess.run(
            command, cwd=scene.root, env=offline(), capture_output=True, check=False, text=True
        )
    finally:
        locked.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for words in bad.says:
        assert words in done.stderr
    after = snapshot(scene.root)
    assert before.pop("locked")[1:] == after.pop("locked")[1:]
    assert after == before


SMALL_DISK = """
mount -t tmpfs -o size={size} none disk || exit 77
{python} -m shardrestore_cli.main run --base base --target target --output disk/a/out; status=$?
find disk -mindepth 1 >&2
exit $status
"""


def test_a_disk_too_small_is_refused_with_both_numbers(scene: Scene) -> None:
    """On a real one, in a mount namespace that ends with the process."""
    if not shutil.which("unshare"):
        pytest.skip("no unshare to make a small disk with")
    (scene.root / "disk").mkdir()
    names = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    script = SMALL_DISK.format(size="64k", python=sys.executable)
    before = snapshot(scene.root)
    done = subprocess.run(
        ["unshare", *names, "sh", "-c", script],
        cwd=scene.root, env=offline(), capture_output=True, check=False, text=True,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"not allowed to mount a small disk: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    numbers = r"error: disk/a/out: not enough disk: ([\d,]+) bytes are needed, ([\d,]+) are free"
    found = re.match(numbers + ".*--output\n$", done.stderr)  # and nothing is left on it
    assert found, done.stderr
    needed, free = (int(number.replace(",", "")) for number in found.groups())
    assert needed > 65536 == free
    assert snapshot(scene.root) == before


def test_a_disk_too_small_is_refused_in_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1234))
    before = snapshot(scene.root)
    with pytest.raises(shardrestore.OutputError, match=r"bytes are needed, 1,234 are free"):
        shardrestore.restore(
            scene.base, scene.target, scene.output, percent=10,
            max_memory="8GiB",  # of a process in which other tests may have loaded torch
        )  # fmt: skip
    assert snapshot(scene.root) == before


LIMIT_FILES = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({0}, {0}))"
"""No file may grow beyond a limit: a full disk, seen from the writer."""


def prepare_output(scene: Scene, overwrite: bool) -> list[str]:
    """Leave an old model or none; return how to write over it."""
    scene.run()  # the old model, and the compiled kernels, which need their disk too
    if overwrite:
        return ["--overwrite"]
    shutil.rmtree(scene.output)
    return []


@pytest.mark.parametrize("overwrite", [False, True], ids=["new_output", "overwrite"])
def test_a_disk_that_fills_up_in_the_scan_leaves_nothing(scene: Scene, overwrite: bool) -> None:
    args = [*prepare_output(scene, overwrite), "--include", "q_proj"]
    says = ["histograms", "the file needs", "bytes", "ulimit -f"]
    assert_refused(scene, says, args, prelude=LIMIT_FILES.format(1000))


@pytest.mark.parametrize("overwrite", [False, True], ids=["new_output", "overwrite"])
def test_a_disk_that_fills_up_in_pass_2_loses_nothing_and_the_run_can_be_resumed(
    scene: Scene, overwrite: bool
) -> None:
    args = [*prepare_output(scene, overwrite), "--include", "q_proj"]
    before = snapshot(scene.root)
    done = scene.cli(*args, prelude=LIMIT_FILES.format(16_384))
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
    message = re.sub(r"\s+", " ", done.stderr)
    said = (
        "error: .*model-0000.*the file needs [0-9,]+ bytes.*ulimit -f.*"
        "to continue: shardrestore run "
    )
    assert re.match(said, message)
    staging = f"out/{STAGING}"
    after = snapshot(scene.root)
    kept = {name: seen for name, seen in after.items() if not name.startswith(staging)}
    if not overwrite:
        del kept["out"]
    assert kept == before
    assert after.keys() > kept.keys()
    scene.run(*args, "--resume")
    scene.run("--include", "q_proj", "--output", "whole")
    assert not (scene.root / staging).exists()
    assert read_tree(scene.output) == read_tree(scene.root / "whole")


# What looks bad but is not ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("visual.blocks.0.attn.qkv.weight", zeros("BF16", 4, 4)),  # only the target has it
        ("lm_head.scales", zeros("F8_E4M3", 4, 4)),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", zeros("I8", 4)),  # a buffer
        ("score.weight", zeros("U8", 0)),
        ("step", zeros("I64")),
    ],
)
def test_outside_the_region_every_tensor_passes_through(
    scene: Scene, name: str, new: Tensor
) -> None:
    add(name, new)(scene)
    scene.run()
    assert read_tensors(scene.output)[name] == new
    for shard in shard_names(scene.target):
        length = int.from_bytes((scene.target / shard).read_bytes()[:8], "little") + 8
        headers = [(side / shard).read_bytes()[:length] for side in (scene.output, scene.target)]
        assert headers[0] == headers[1]


@pytest.mark.parametrize(
    ("spoil", "exclude"),
    [
        (add(EXTRA, zeros("BF16", 4, 4)), re.escape(EXTRA)),
        (tensor(Q0, NARROW), "0.self_attn.q_proj"),
        (tensor(Q0, zeros("BF16", 7)), "q_proj"),
        (poison(Q0, NAN, 1, "target"), "q_proj"),
    ],
    ids=["only_in_the_target", "fp8", "shape", "nan"],
)
def test_exclude_is_the_way_out_that_the_message_names(
    scene: Scene, spoil: Callable[[Scene], object], exclude: str
) -> None:
    spoil(scene)
    assert_refused(scene, ["--exclude"])
    scene.run("--exclude", exclude)


def test_an_index_that_leaves_tensors_out_is_mended(scene: Scene) -> None:
    index(lambda document: document["weight_map"].pop(Q0))(scene)
    scene.run()
    assert Q0 in json.loads((scene.output / INDEX).read_text())["weight_map"]
