"""Nothing that a model needs is dropped: what lies beside the shards, from a run to the card."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shardrestore
from shardrestore.errors import CheckpointError, OutputError, RequestError
from shardrestore_cli import plan as plan_command
from shardrestore_cli import summary
from tests.support.hub import Hub
from tests.support.hub.client import HubClient
from tests.support.runs import BUDGET, scratch
from tests.support.scene import INDEX, Scene, shard_names

NEEDED = {
    "modules.json": b"[]",
    "2_Dense/model.safetensors": b"weights of a module",
    "2_Dense/pytorch_model.bin": b"the same in its other format",
    "spk_dict.pt": b"speakers",
    "value_head.safetensors": b"a head",
    "model-mtp.safetensors": b"a shard that the index does not name",
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": b"an adapter",
    "campplus.onnx": b"a module in a format of its own",
}
USELESS = {
    "pytorch_model.bin": b"1",
    "onnx/model.onnx": b"22",
    "onnx/tokenizer.json": b"333",
    "optimizer.pt": b"4444",
    "checkpoint-500/model.safetensors": b"55555",
    "config.json.bak": b"666666",
    ".gitattributes": b"7777777",
}
PARTS = {"onnx/", "checkpoint-500/", "pytorch_model.bin", "optimizer.pt", "config.json.bak",
         ".gitattributes"}  # fmt: skip


def fill(folder: Path) -> None:
    for name, content in (NEEDED | USELESS).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(scope="module")
def made() -> Iterator[Scene]:
    """A target with everything beside its shards, and what was made of it."""
    with scratch() as root:
        scene = Scene.make(root)
        fill(scene.target)
        restore(scene, checksum=True)
        yield scene


def restore(scene: Scene, **options: Any) -> shardrestore.Restoration:
    output = options.pop("output", scene.output)
    options = {"max_memory": BUDGET, "report": False} | options
    return shardrestore.restore(scene.base, scene.target, output, percent=20, **options)


def listed(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths}


def test_everything_is_copied_except_what_is_known_to_be_of_no_use(made: Scene) -> None:
    for name, content in NEEDED.items():
        assert (made.output / name).read_bytes() == content
    assert not listed(made.output) & USELESS.keys()


def test_plan_run_and_record_say_the_same_of_every_file(made: Scene) -> None:
    planned = shardrestore.plan(made.base, made.target, max_memory=BUDGET)
    found = shardrestore.summarize(planned)["files"]
    record = json.loads((made.output / "shardrestore.json").read_bytes())
    result = restore(made, overwrite=True, checksum=True)
    assert found == record["files"] == shardrestore.summarize(result)["files"]
    assert {part["name"] for part in found["left_out"]["parts"]} == PARTS
    assert found["left_out"]["bytes"] == sum(map(len, USELESS.values()))
    assert found["left_out"]["files"] == len(USELESS)
    copied = {name: (made.target / name).stat().st_size for name in planned.side_files}
    assert found["copied"]["bytes"] == sum(copied.values())
    assert found["copied"]["files"] == len(copied)
    others = listed(made.target) - USELESS.keys() - {*shard_names(made.target)}
    assert {*copied} == others - {INDEX} | {"model-mtp.safetensors"}


def test_copied_weights_are_said_to_be_not_restored(made: Scene) -> None:
    planned = shardrestore.plan(made.base, made.target, max_memory=BUDGET)
    names = {file.name for file in planned.files.copied.not_restored}
    assert names == {name for name in NEEDED if not name.endswith(".json")}
    assert [note.kind for note in planned.notes] == ["not-restored", "adapter"]


def test_plan_and_summary_name_the_largest_of_what_is_left_out(made: Scene) -> None:
    (made.target / "onnx" / "model.onnx").write_bytes(bytes(3000))
    try:
        planned = shardrestore.plan(made.base, made.target, max_memory=BUDGET)
        result = restore(made, overwrite=True, checksum=True)
    finally:
        (made.target / "onnx" / "model.onnx").write_bytes(USELESS["onnx/model.onnx"])
    for text in (plan_command.describe(planned), summary.describe(result)):
        assert "leaves out" in text
        assert "onnx/, 3.0 kB: the same weights in another format" in text
        assert "and 3 more" in text


def test_the_card_lists_what_was_copied_unrestored_and_what_was_left_out(made: Scene) -> None:
    card = (made.output / "README.md").read_text()
    assert "- `2_Dense/model.safetensors`, 19 bytes\n" in card
    assert "- `checkpoint-500/`, 5 bytes: the state of a training\n" in card


def test_it_verifies(made: Scene) -> None:
    assert shardrestore.verify(made.output, max_memory=BUDGET).problems == ()


@pytest.mark.parametrize("stream", [None, "both"])
def test_the_hub_follows_the_same_rule(
    made: Scene, hub: Hub, hub_client: HubClient, tmp_path: Path, stream: str | None
) -> None:
    hub.create("acme/base", made.base)
    hub.create("acme/sft", made.target)
    result = shardrestore.restore(
        "acme/base", "acme/sft", tmp_path / "out", percent=20, max_memory=BUDGET, stream=stream,
        checksum=True, report=False,
    )  # fmt: skip
    assert listed(tmp_path / "out") == listed(made.output)
    assert result.files == restore(made, overwrite=True, checksum=True).files
    assert shardrestore.verify(tmp_path / "out", max_memory=BUDGET, stream=stream).ok


def test_a_push_takes_all_of_them(made: Scene, hub: Hub, hub_client: HubClient) -> None:
    hub.tokens = {"hf_alice": "alice"}
    hub_client.log_in("hf_alice")
    shardrestore.push(made.output, "alice/restored")
    assert {*NEEDED} < {*hub.repositories["alice/restored"].files()}


# What a user says of it --------------------------------------------------------------------


def test_keep_and_drop_overrule_and_are_recorded(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path)
    fill(scene.target)
    wishes: dict[str, Any] = {"keep": ["onnx/*"], "drop": ["adapter_*", "spk_dict.pt"]}
    result = restore(scene, **wishes)
    names = listed(scene.output)
    assert {"onnx/model.onnx", "onnx/tokenizer.json"} < names
    assert not {"adapter_config.json", "adapter_model.safetensors", "spk_dict.pt"} & names
    assert "adapter" not in [note.kind for note in result.notes]
    record = json.loads((scene.output / "shardrestore.json").read_bytes())
    assert {name: record["options"][name] for name in wishes} == wishes
    assert "--keep 'onnx/*'" in (scene.output / "README.md").read_text()
    assert shardrestore.verify(scene.output, max_memory=BUDGET).problems == ()


def test_wishes_that_cannot_be_met_stop_a_run_before_it_begins(scene: Scene) -> None:
    for wishes in ({"keep": ["*.gguf"]}, {"drop": ["config.json"]}, {"drop": ["*.safetensors"]}):
        with pytest.raises(RequestError, match=r"--(keep|drop)"):
            restore(scene, **wishes)
        with pytest.raises(RequestError, match=r"--(keep|drop)"):
            shardrestore.plan(scene.base, scene.target, **wishes)
    assert not scene.output.exists()


def test_other_wishes_are_another_run(scene: Scene) -> None:
    fill(scene.target)
    restore(scene)
    with pytest.raises(OutputError, match="not empty"):
        restore(scene, resume=True, drop=["spk_dict.pt"])
    assert restore(scene, resume=True).output == scene.output


def test_the_base_s_files_are_no_matter(scene: Scene) -> None:
    (scene.base / "onnx").mkdir()
    (scene.base / "spk_dict.pt").write_bytes(b"of the base")
    assert restore(scene).files.left_out.parts == ()
    with pytest.raises(RequestError, match=r"matches none of the files of .*target"):
        restore(scene, overwrite=True, drop=["spk_dict.pt"])


# Links -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.txt", "config.json", "weights"])
def test_a_link_to_a_private_file_is_refused_and_nothing_is_written(
    scene: Scene, name: str
) -> None:
    private = scene.root / "private"
    place = scene.target / (shard_names(scene.target)[1] if name == "weights" else name)
    if place.exists():
        place.rename(private)
    else:
        private.write_text("secret")
    place.symlink_to("../private")
    with pytest.raises(CheckpointError, match="--follow-links if you trust"):
        restore(scene)
    assert not scene.output.exists()
    restore(scene, follow_links=True)
    copy = scene.output / place.name
    assert not copy.is_symlink()
    if name != "weights":
        assert copy.read_bytes() == private.read_bytes()
    with (
        pytest.raises(CheckpointError, match="--follow-links") if name != "notes.txt" else scratch()
    ):
        shardrestore.verify(scene.output, max_memory=BUDGET)
    assert shardrestore.verify(scene.output, max_memory=BUDGET, follow_links=True).ok


def test_a_link_that_is_dropped_stops_nothing(scene: Scene) -> None:
    (scene.target / "notes.txt").symlink_to("/etc/hostname")
    assert restore(scene, drop=["notes.txt"]).output == scene.output
    assert not os.path.lexists(scene.output / "notes.txt")


def test_a_base_may_not_link_its_weights_to_elsewhere_either(scene: Scene) -> None:
    shard = scene.base / shard_names(scene.base)[0]
    shard.rename(scene.root / "blob")
    shard.symlink_to("../blob")
    with pytest.raises(CheckpointError, match=r"leads out of the checkpoint, to .*blob"):
        restore(scene)
    with pytest.raises(CheckpointError, match="leads out of the checkpoint"):
        shardrestore.scan(scene.base, scene.target, scene.root / "p.safetensors")
    shardrestore.scan(
        scene.base, scene.target, scene.root / "p.safetensors", follow_links=True, max_memory=BUDGET
    )


# What verify compares ---------------------------------------------------------------------


@pytest.fixture
def finished(scene: Scene) -> Scene:
    fill(scene.target)
    (scene.target / "README.md").write_text("# The target's own\n")
    restore(scene)
    return scene


def problems(scene: Scene, **options: Any) -> list[str]:
    return list(shardrestore.verify(scene.output, max_memory=BUDGET, **options).problems)


@pytest.mark.parametrize(
    "name", ["config.json", "2_Dense/model.safetensors", "tokenizer.model", "README.target.md"]
)
def test_a_copy_that_is_not_the_targets_is_named_with_its_first_byte(
    finished: Scene, name: str
) -> None:
    content = (finished.output / name).read_bytes()
    (finished.output / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (found,) = problems(finished)
    assert f"{finished.output / name}: not the target's" in found
    assert f"from byte {len(content) - 1} on" in found


def test_a_copy_that_is_missing_is_named(finished: Scene) -> None:
    (finished.output / "spk_dict.pt").unlink()
    (found,) = problems(finished)
    assert f"{finished.output / 'spk_dict.pt'}: missing" in found


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "modeling_evil.py", "2_Dense/extra.json", "onnx/model.onnx"]
)
def test_what_neither_the_target_nor_the_run_put_there_is_named(finished: Scene, name: str) -> None:
    path = finished.output / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    (finished.output / ".cache").mkdir()
    (finished.output / ".cache" / "x").write_bytes(b"nobody's")
    (found,) = problems(finished)
    assert f"{path}: put there by neither the target nor the restoration" in found


def test_the_configuration_of_a_cast_model_is_compared_with_what_it_must_say(
    scene: Scene,
) -> None:
    restore(scene, dtype="fp16")
    assert problems(scene) == []
    path = scene.output / "config.json"
    path.write_text(path.read_text().replace("float16", "float32"))
    (found,) = problems(scene)
    assert f"{path}: not the target's, with the format" in found


def test_a_model_in_a_folder_of_its_own_is_no_part_of_the_one_above(finished: Scene) -> None:
    restore(finished, output=finished.output / "sweep" / "restore_mlp_top_1pct", region="mlp")
    (finished.output / "sweep" / "restore_mlp_top_1pct" / "more.txt").write_text("x")
    assert problems(finished) == []


# What stays in an output ------------------------------------------------------------------


class Notes:
    """An observer that remembers remarks."""

    def __init__(self) -> None:
        self.remarks: list[str] = []

    def note(self, remark: str) -> None:
        self.remarks.append(remark)

    def begin(self, stage: str, total_bytes: int) -> None:
        pass

    def advance(self, nbytes: int) -> None:
        pass

    def end(self) -> None:
        pass


def test_files_of_a_former_model_that_stay_are_said(scene: Scene) -> None:
    notes = Notes()
    restore(scene, checksum=True, observer=notes)
    restore(scene, checksum=True, overwrite=True, observer=notes)
    assert notes.remarks == []
    fill(scene.output)
    restore(scene, overwrite=True, observer=notes)
    (remark,) = notes.remarks
    assert "2_Dense/model.safetensors, 2_Dense/pytorch_model.bin, adapter_config.json" in remark
    assert "no part of the new model" in remark


def test_a_link_out_of_a_finished_model_is_not_pushed(
    scene: Scene, hub: Hub, hub_client: HubClient
) -> None:
    hub.tokens = {"hf_alice": "alice"}
    hub_client.log_in("hf_alice")
    restore(scene)
    (scene.output / "notes.txt").symlink_to("../base/config.json")
    with pytest.raises(CheckpointError, match=r"notes\.txt: leads out of the model's folder"):
        shardrestore.push(scene.output, "alice/restored")
    assert not hub.repositories
    (scene.output / "notes.txt").unlink()
    (scene.output / "notes.txt").symlink_to("config.json")
    shardrestore.push(scene.output, "alice/restored")
    assert "notes.txt" in hub.repositories["alice/restored"].files()
