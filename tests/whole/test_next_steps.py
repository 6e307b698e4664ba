"""Every next step that is printed leads to a run, or to the next message that is true.

A row says what a user names, what is said of it, and what a user then does; commands in a message
are carried out as they stand.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import shardrestore
from tests.support.hub import Hub
from tests.support.hub.client import HubClient
from tests.support.scene import (
    INDEX,
    SINGLE,
    Scene,
    Tensor,
    edit,
    read_tensors,
    shard_names,
    write_shard,
    zeros,
)

Options = dict[str, Any]
"""Keywords of ``restore``."""
Make = Callable[[Path, Path], object]
"""Turns the folder that is named, the second, into what it is; the first holds a good model."""
Follow = Callable[[str], str]
"""Does what a message says; returns what is named then."""


@dataclass(frozen=True)
class Row:
    """A situation, and the way out of it."""

    claim: str
    make: Make
    says: str
    follow: Follow
    then: str = ""
    """What is said after that; nothing if it is a run."""


def table(*rows: Row) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.claim for row in rows])


# What is there ---------------------------------------------------------------------------


def whole(model: Path, folder: Path) -> None:
    """Put the model into a folder."""
    shutil.copytree(model, folder, dirs_exist_ok=True)


def single(name: str, folder: str = "") -> Make:
    """Put the model into one file."""

    def make(model: Path, given: Path) -> None:
        place = given / folder
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(model / "config.json", place)
        write_shard(place / name, read_tensors(model))

    return make


def files(*names: str, content: bytes = b"") -> Make:
    def make(model: Path, given: Path) -> None:
        for name in names:
            (given / name).parent.mkdir(parents=True, exist_ok=True)
            (given / name).write_bytes(content)

    return make


def within(*folders: str) -> Make:
    """Put the whole model into folders below."""
    return lambda model, given: [whole(model, given / folder) for folder in folders]


def all_of(*makes: Make) -> Make:
    return lambda model, given: [make(model, given) for make in makes]


def without(*names: str) -> Make:
    def make(model: Path, given: Path) -> None:
        whole(model, given)
        for name in names:
            (given / name).unlink()

    return make


def renamed_shards(index: str, suffix: str) -> Make:
    """Give shards and index the names of a variant."""

    def make(model: Path, given: Path) -> None:
        whole(model, given)
        text = (given / INDEX).read_text()
        for name in shard_names(model):
            new = name.replace(".safetensors", f"{suffix}.safetensors")
            (given / name).rename(given / new)
            text = text.replace(name, new)
        (given / INDEX).unlink()
        (given / index).write_text(text)

    return make


def pickled(name: str, *, config: bool = False) -> Make:
    def make(model: Path, given: Path) -> None:
        given.mkdir(exist_ok=True)
        tensors = {}
        for shard in shard_names(model):
            tensors |= load_file(model / shard)
        torch.save(tensors, given / name)
        if config:
            shutil.copy(model / "config.json", given)

    return make


def of_other_count(model: Path, given: Path) -> None:
    """Let the index speak of thirty shards, where three others are."""
    whole(model, given)
    text = (given / INDEX).read_text().replace("-of-00003", "-of-00030")
    (given / INDEX).write_text(text)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n"


def pointer(name: str) -> Make:
    return all_of(whole, files(name, content=POINTER))


def named_in_config(value: str) -> Make:
    def make(model: Path, given: Path) -> None:
        whole(model, given)
        config = json.loads((given / "config.json").read_text())
        (given / "config.json").write_text(json.dumps(config | {"transformers_weights": value}))

    return make


# What a user does ------------------------------------------------------------------------


def named(message: str) -> str:
    """Name what the message names, after carrying out what it says first."""
    carry_out(message)
    return re.findall(r"name (?:it: |one of them: |)'?([\w./@-]+)'?$", message)[-1]


def carry_out(message: str) -> str:
    """Carry out the commands in a message."""
    for command in re.findall(r"`([^`]*)`", message):
        if command.startswith("hf "):
            command = f"{sys.executable} -m huggingface_hub.cli.{command}"
        subprocess.run(command, shell=True, check=True, capture_output=True)
    return "given"


def convert(message: str) -> str:
    """Run the line of Python, and copy the rest along."""
    line = re.search(r"(python -c '.*') and copy", message)[1]
    command = line.replace("python", shutil.which(sys.executable) or sys.executable, 1)
    subprocess.run(command, shell=True, check=True, capture_output=True)
    return "given-safetensors"


def repair(*needed: str) -> Follow:
    """Put the good model in place of what is wrong, as the words that must be there ask."""

    def follow(message: str) -> str:
        for words in needed:
            assert words in message, message
        shutil.rmtree("given", ignore_errors=True)
        shutil.copytree("model", "given")
        return "given"

    return follow


FOLDERS = (
    Row("a_cache_of_the_hub", within("models--acme--sft/snapshots/0123abc"),
        "a folder of the Hub's cache", named),
    Row("the_home_of_the_hub", within("hub/models--acme--sft/snapshots/0123abc"),
        "a folder of the Hub's cache", named),
    Row("a_repository_in_the_cache",
        all_of(within("snapshots/0123abc"), files("refs/main", "blobs/aaaa")),
        "a folder of the Hub's cache; models lie in snapshots/0123abc", named),
    Row("an_adapter_alone", files("adapter_config.json", "adapter_model.safetensors"),
        "holds an adapter .adapter_config.json, adapter_model.safetensors., not",
        repair("merge_and_unload", "name the merged model")),
    Row("an_adapter_that_the_trainer_wrote",
        files("training_args.bin", "adapter_config.json", "adapter_model.safetensors",
              "checkpoint-5/adapter_model.safetensors", "checkpoint-5/optimizer.pt"),
        "holds an adapter .adapter_config.json, adapter_model.safetensors., not",
        repair("merge_and_unload")),
    Row("adapters_in_folders", files("training_args.bin", "checkpoint-5/adapter_model.safetensors"),
        "holds an adapter in checkpoint-5, not a model", repair("merge_and_unload")),
    Row("shards_that_are_not_all_there", without(INDEX, "model-00002-of-00003.safetensors"),
        "holds 2 of 3 shards and no index; there is no number 2",
        repair("download what is missing")),
    Row("shards_of_two_models",
        all_of(without(INDEX), files("other-1-of-2.safetensors", "other-2-of-2.safetensors")),
        "several sets of shards", repair("move the others elsewhere")),
    Row("a_training_with_its_checkpoints",
        all_of(files("training_args.bin"), within("checkpoint-90", "checkpoint-1000")),
        "a training's folder.*checkpoint-90, checkpoint-1000: name one of them: .*-1000$", named),
    Row("a_model_below", all_of(files("README.md"), within("llm", "checkpoint-10")),
        "holds no model, but others do, below it, in llm: name it: given/llm$", named),
    Row("a_pipeline_of_diffusers",
        all_of(files("model_index.json", "v1-5.safetensors"), single(SINGLE, "text_encoder"),
               single("diffusion_pytorch_model.safetensors", "unet")),
        "a pipeline of diffusers.*text_encoder", named),
    Row("a_pipeline_without_a_usual_name",
        all_of(files("model_index.json"), single("diffusion_pytorch_model.safetensors", "unet")),
        "a pipeline of diffusers.*given/unet$", named, "holds only diffusion_pytorch_model"),
    Row("a_model_of_diffusers", single("diffusion_pytorch_model.safetensors"),
        "holds only diffusion_pytorch_model.safetensors", carry_out),
    Row("a_variant", single("model.fp16.safetensors"), "holds only model.fp16", carry_out),
    Row("a_variant_in_shards", renamed_shards("model.safetensors.index.fp16.json", ".fp16"),
        "holds only model.safetensors.index.fp16.json", carry_out),
    Row("weights_of_another_name", single("weights.safetensors"), "only weights", carry_out),
    Row("weights_of_another_name_that_the_trainer_wrote",
        all_of(single("weights.safetensors"), files("training_args.bin")), "only weights",
        carry_out),
    Row("a_distributed_training", files("global_step5/mp_rank_00_model_states.pt", "latest"),
        "state of a distributed training", repair("zero_to_fp32.py", "name what that makes")),
    Row("fsdp_shards", files("pytorch_model_fsdp_0/__0_0.distcp"),
        "state of a distributed training", repair("merge-weights")),
    Row("a_pickle_of_transformers", pickled("pytorch_model.bin", config=True),
        "holds pytorch_model.bin but no safetensors", convert),
    Row("a_pickle", pickled("consolidated.00.pth"), "holds consolidated.00.pth", convert),
    Row("a_pickle_that_the_trainer_wrote",
        all_of(pickled("pytorch_model.bin"), files("training_args.bin", "optimizer.pt")),
        "holds pytorch_model.bin but", convert),
    Row("another_format", files("model-Q4_K_M.gguf"), "model-Q4_K_M.gguf, in a format",
        repair("the safetensors that it was made from")),
    Row("the_state_of_a_training", files("training_args.bin", "optimizer.pt", "rng_state_0.pth"),
        r"what a training keeps to go on \(optimizer.pt, rng_state_0.pth, training_args.bin\)",
        repair("the folder that the model was saved to")),
    Row("nothing", files("README.md"), "no safetensors file, only README.md",
        repair("download it again")),
    Row("a_pointer_for_weights", pointer(SINGLE), f"given/{SINGLE}: a git-lfs pointer",
        repair("`git lfs pull`")),
    Row("a_pointer_for_a_shard", pointer("model-00001-of-00003.safetensors"),
        "00001-of-00003.safetensors: a git-lfs pointer", repair("`git lfs pull`")),
    Row("a_pointer_for_an_index", pointer(INDEX), f"given/{INDEX}: a git-lfs pointer",
        repair("`git lfs pull`")),
    Row("a_pointer_for_a_configuration", pointer("config.json"),
        "given/config.json: a git-lfs pointer", repair("`git lfs pull`")),
    Row("a_pointer_for_a_side_file", pointer("tokenizer.model"),
        "given/tokenizer.model: a git-lfs pointer", repair("`git lfs pull`")),
    Row("a_configuration_that_names_no_weights", named_in_config("weights.bin"),
        "given/config.json: transformers_weights is 'weights.bin'", repair("remove that line")),
    Row("a_configuration_that_names_a_missing_file", named_in_config("weights.safetensors"),
        "given/config.json: transformers_weights names weights.safetensors, which is missing",
        repair("download it again")),
    Row("a_missing_shard", without("model-00002-of-00003.safetensors"),
        "names the shard model-00002-of-00003.safetensors, which is missing",
        repair("download it again")),
    Row("an_index_of_other_shards", of_other_count,
        "3 of its 3 shards are missing: 3 shards of another count are here, all of them",
        lambda message: (Path("given", INDEX).unlink(), "given")[1]),
    Row("a_mistyped_path", lambda model, given: model.parent.joinpath("givne").mkdir(),
        "target given: no such folder .is it givne", repair("is it")),
)  # fmt: skip


def open_and_restore(target: str) -> None:
    shutil.rmtree("out", ignore_errors=True)
    shardrestore.restore("base", target, "out", percent=10, max_memory="16GiB")


@table(*FOLDERS)
def test_a_folder_that_is_no_model(scene: Scene, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(scene.root)
    scene.target.rename("model")
    row.make(Path("model"), Path("given"))
    with pytest.raises(shardrestore.ShardRestoreError) as refused:
        open_and_restore("given")
    assert re.search(row.says, str(refused.value)), refused.value
    assert "\n" not in str(refused.value)
    follow(row, str(refused.value))


def follow(row: Row, message: str) -> None:
    advised = row.follow(message)
    if row.then:
        with pytest.raises(shardrestore.ShardRestoreError, match=row.then):
            open_and_restore(advised)
    else:
        open_and_restore(advised)


REPOSITORIES: Sequence[Row] = (
    Row("a_model_below", all_of(files("README.md"), within("llm")), "below it, in llm", named),
    Row("checkpoints", within("checkpoint-9", "checkpoint-10"), "training's folder.*-10$", named),
    Row("a_configuration_that_names_a_missing_file", named_in_config("weights.safetensors"),
        "config.json: transformers_weights names weights.safetensors, which is missing",
        repair("choose another revision")),
    Row("a_configuration_that_names_a_missing_index",
        named_in_config("weights.safetensors.index.json"),
        "config.json: transformers_weights names weights.safetensors.index.json, which is missing",
        repair("choose another revision")),
    Row("a_variant", single("model.fp16.safetensors"), "holds only model.fp16",
        lambda message: carry_out(message) and "given"),
    Row("a_pickle", pickled("consolidated.00.pth"), "holds consolidated.00.pth",
        lambda message: carry_out(message) and convert(message)),
)  # fmt: skip


@pytest.mark.parametrize("revision", ["", "@v1"])
@table(*REPOSITORIES)
def test_a_repository_that_is_no_model(
    scene: Scene,
    hub: Hub,
    hub_client: HubClient,
    monkeypatch: pytest.MonkeyPatch,
    row: Row,
    revision: str,
) -> None:
    monkeypatch.chdir(scene.root)
    scene.target.rename("model")
    row.make(Path("model"), Path("files"))
    hub.create("acme/given", scene.root / "files").tag("v1")
    with pytest.raises(shardrestore.ShardRestoreError) as refused:
        open_and_restore(f"acme/given{revision}")
    assert re.search(row.says, str(refused.value)), refused.value
    follow(row, str(refused.value))


# Requests --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A request that is refused, and the one that its message leads to."""

    claim: str
    spoil: Callable[[Scene], object]
    options: Options
    says: str
    advised: Callable[[re.Match[str]], Options]
    """What is asked for then, besides the options, by what the message says."""
    then: str = ""


def change(
    pattern: str, new: Callable[[str, Tensor], dict[str, Tensor]], side: str = "base"
) -> Any:
    """Change the tensors whose names contain a pattern."""
    return lambda scene: edit(
        scene.root / side, lambda n, old: new(n, old) if re.search(pattern, n) else {n: old}
    )


def nothing(scene: Scene) -> None:
    """Leave the pair as it is."""


def leave_in_output(name: str) -> Callable[[Scene], object]:
    def spoil(scene: Scene) -> None:
        scene.output.mkdir()
        (scene.output / name).write_text("mine")

    return spoil


def poison(name: str, old: Tensor) -> dict[str, Tensor]:
    return {name: (old[0], old[1], b"\xff\x7f" + old[2][2:])}


def exclude(*names: str) -> Callable[[re.Match[str]], Options]:
    return lambda message: {"exclude": list(names)}


Q = r"layers\.1\.self_attn\.q_proj"
REQUESTS = (
    Request("a_tensor_only_the_target_has", change(Q, lambda n, old: {}), {},
            "only the target has it\\nnext step: leave .* out with --exclude",
            exclude(Q)),
    Request("another_shape", change(Q, lambda n, old: {n: zeros("BF16", 4, 4)}), {},
            "next step: leave tensors of another shape out with --exclude", exclude(Q)),
    Request("codes", change(Q, lambda n, old: {n: zeros("I8", 32, 32)}), {},
            "or leave those tensors out with --exclude", exclude(Q)),
    Request("another_prefix", change("^model", lambda n, old: {f"x.{n}": old}), {},
            "--rename '(.*)' pairs all of them", lambda m: {"rename": [m[1]]}),
    Request("two_mismatches",
            change(Q + "|down", lambda n, old: {} if "down" in n else {n: zeros("BF16", 4, 4)}), {},
            "without a partner out with --exclude(?s:.*)another shape out", exclude(Q, "down")),
    Request("two_mismatches_of_which_one_is_left_out",
            change(Q + "|down", lambda n, old: {} if "down" in n else {n: zeros("BF16", 4, 4)}), {},
            "another shape out", exclude(Q), "down_proj.*only the target has it"),
    Request("a_region_without_tensors",
            change("self_attn", lambda n, old: {}, "target"), {"region": "attention"},
            r"these would: (\w+)", lambda m: {"region": m[1]}),
    Request("too_small_a_share", nothing, {"percent": 0.001}, r"choose at least ([\d.]+) %",
            lambda m: {"percent": float(m[1])}),
    Request("weights_that_are_not_finite", change(Q, poison), {}, "allow-nonfinite",
            lambda m: {"allow_nonfinite": True}),
    Request("an_output_that_is_not_empty", leave_in_output("notes.txt"), {},
            "choose another --output, or pass --overwrite", lambda m: {"overwrite": True}),
    Request("a_file_for_a_folder", nothing, {"base": "base/config.json"},
            r"a file, not a folder: name (\S+)$", lambda m: {"base": m[1]}),
    Request("a_pattern_to_keep_that_matches_nothing", nothing, {"keep": ["*.nothing"]},
            "matches none of the files", lambda m: {"keep": []}),
)  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS, ids=[one.claim for one in REQUESTS])
def test_a_request_that_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, request_: Request
) -> None:
    monkeypatch.chdir(scene.root)
    request_.spoil(scene)
    options = {"base": "base", "target": "target", "percent": 10, "max_memory": "16GiB"}
    options |= request_.options

    def carry_out_request(**more: Any) -> None:
        asked = {**options, **more}
        shardrestore.restore(asked.pop("base"), asked.pop("target"), "out", **asked)

    with pytest.raises(shardrestore.ShardRestoreError) as refused:
        carry_out_request()
    found = re.search(request_.says, str(refused.value))
    assert found, refused.value
    if request_.then:
        with pytest.raises(shardrestore.ShardRestoreError, match=request_.then):
            carry_out_request(**request_.advised(found))
    else:
        carry_out_request(**request_.advised(found))
