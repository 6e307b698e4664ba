"""Each file of a checkpoint is a shard, copied, or left out for a reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.checkpoint.links import find_homes
from shardrestore.checkpoint.selection import (
    FILE_BYTES,
    FilePolicy,
    SideFiles,
    select_side_files,
)
from shardrestore.checkpoint.sidefile import LocalSideFile, find_files
from shardrestore.checkpoint.state import FileState
from shardrestore.errors import CheckpointError, MemoryBudgetError, RequestError
from tests.support.examples import examples

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
TAKEN = (*SHARDS, "model.safetensors.index.json")


def listed(*names: str, nbytes: int = 10) -> list[LocalSideFile]:
    state = FileState(nbytes=nbytes, mtime_ns=0, inode=0)
    return [LocalSideFile(name=name, folder=Path("target"), state=state) for name in names]


def select(*names: str, taken: tuple[str, ...] = TAKEN, **policy: tuple[str, ...]) -> SideFiles:
    return select_side_files(listed(*names), taken, FilePolicy(**policy), "target")  # type: ignore[arg-type]


def copied(side_files: SideFiles) -> list[str]:
    return [file.name for file in side_files.copied]


NAMES = st.lists(
    st.sampled_from(
        [*SHARDS, "config.json", "a/b.bin", "onnx/x", "onnx/y", ".git/x", "x.gguf", "x.pt", "z~"]
    ),
    unique=True,
)


@examples(100)
@given(NAMES)
def test_no_file_is_lost_and_none_is_counted_twice(names: list[str]) -> None:
    found = select(*names)
    beside = [name for name in names if name not in TAKEN]
    assert len(found.copied) + sum(part.files for part in found.left_out) == len(beside)
    assert found.nbytes + sum(part.nbytes for part in found.left_out) == 10 * len(beside)
    assert {*copied(found)} <= {*beside}


def test_a_folder_that_is_left_out_is_one_part_with_the_bytes_of_its_files() -> None:
    (part,) = select("onnx/a", "onnx/deep/b", "config.json").left_out
    assert (part.name, part.files, part.nbytes) == ("onnx/", 2, 20)


def test_keep_copies_what_the_rules_leave_out() -> None:
    found = select("onnx/a.onnx", "onnx/b.json", "x.gguf", keep=("onnx/*.onnx", "*.gguf"))
    assert copied(found) == ["onnx/a.onnx", "x.gguf"]
    assert [part.name for part in found.left_out] == ["onnx/"]


def test_a_star_matches_slashes() -> None:
    assert copied(select("onnx/deep/a", keep=("onnx/*",))) == ["onnx/deep/a"]


def test_keep_may_also_name_what_is_copied_anyway_or_cannot_be() -> None:
    assert copied(select("x.gguf", "a.txt", ".git/x", *SHARDS, keep=("*",))) == ["a.txt", "x.gguf"]


def test_drop_leaves_out_what_the_rules_copy() -> None:
    found = select("a.txt", "adapter_model.bin", drop=("adapter_*",))
    assert copied(found) == ["a.txt"]
    assert [(part.name, part.reason) for part in found.left_out] == [
        ("adapter_model.bin", "named by --drop")
    ]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"keep": ("*.xyz",)}, "--keep '[*].xyz': matches none of the files of target"),
        ({"drop": ("a.txt", "*.xyz")}, "--drop '[*].xyz': matches none"),
        ({"drop": ("*.safetensors",)}, "is a part of the model's weights"),
        ({"drop": ("*.index.json",)}, "is a part of the model's weights"),
        ({"drop": ("*",)}, "part of the model's weights|nothing can load"),
        ({"drop": ("config.*",)}, "without config.json nothing can load the model"),
        ({"keep": (".git/*",)}, "hidden: name files more narrowly"),
        ({"keep": ("shardrestore.json",)}, "a report of an earlier restoration"),
        ({"keep": ("x.*",), "drop": ("*.gguf",)}, "--drop '[*].gguf': --keep 'x.[*]' names x.gguf"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(
    policy: dict[str, tuple[str, ...]], says: str
) -> None:
    names = ("a.txt", "config.json", ".git/x", "shardrestore.json", "x.gguf", *TAKEN)
    with pytest.raises(RequestError, match=says):
        select(*names, **policy)


def test_an_index_beside_a_single_file_is_left_out_with_its_shards() -> None:
    found = select("model.safetensors", *TAKEN, taken=("model.safetensors",))
    assert found.copied == ()
    assert {part.name for part in found.left_out} == {*TAKEN}


def test_weights_beside_the_shards_draw_a_note() -> None:
    assert select("a.txt").notes == ()
    (note,) = select("2_Dense/model.safetensors", "speakers.pt").notes
    assert note.kind == "not-restored"
    assert "2_Dense/model.safetensors, speakers.pt, 20 bytes" in note.text


def test_an_adapter_beside_the_model_draws_a_note() -> None:
    kinds = [note.kind for note in select("adapter_config.json", "adapter_model.bin").notes]
    assert kinds == ["not-restored", "adapter"]
    assert "adapter" not in [note.kind for note in select("adapter_model.bin").notes]
    dropped = select("adapter_config.json", "adapter_model.bin", drop=("adapter_*",))
    assert dropped.notes == ()


def test_more_files_than_memory_may_hold_are_refused() -> None:
    files = listed(*(f"{number}.txt" for number in range(11)))
    select_side_files(files, (), FilePolicy(), "target", max_memory_bytes=11 * FILE_BYTES)
    with pytest.raises(MemoryBudgetError, match=r"more than 10 files.*--max-memory.*--drop"):
        select_side_files(files, (), FilePolicy(), "target", max_memory_bytes=10 * FILE_BYTES)


# Links -----------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.txt").write_text("x")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    (tmp_path / "target-2").mkdir()
    (tmp_path / "target-2" / "y").write_text("of another folder whose name begins alike")
    return folder


def find(folder: Path, *, follow: bool = False, drop: tuple[str, ...] = ()) -> SideFiles:
    files = find_files(folder, find_homes(folder, follow=follow))
    policy = FilePolicy(drop=drop, follow_links=follow)
    found = select_side_files(files, (), policy, str(folder))
    found.refuse_links(str(folder))
    return found


@pytest.mark.parametrize("links_to", ["sub/x.txt", "./sub/../sub/x.txt", "/absolute"])
def test_a_link_inside_the_folder_is_followed(target: Path, links_to: str) -> None:
    where = target / "sub" / "x.txt" if links_to == "/absolute" else Path(links_to)
    (target / "link.txt").symlink_to(where)
    assert copied(find(target)) == ["link.txt", "sub/x.txt"]


@pytest.mark.parametrize(
    "links_to", ["../private/key", "/etc/passwd", "../target-2/y", "../private", "sub/../..", "/"]
)
def test_a_link_out_of_the_folder_is_refused_by_name_with_the_next_step(
    target: Path, links_to: str
) -> None:
    (target / "notes").symlink_to(links_to)
    with pytest.raises(CheckpointError, match=r"\n  notes\n.*--drop.*--follow-links"):
        find(target)
    assert copied(find(target, drop=("notes",))) == ["sub/x.txt"]


def test_links_that_lead_on_are_judged_by_their_end(target: Path) -> None:
    (target / "first").symlink_to("second")
    (target / "second").symlink_to("../private/key")
    with pytest.raises(CheckpointError, match=r"2 files are links.*\n  first\n  second\n"):
        find(target)


def test_links_are_followed_for_who_wants_them(target: Path) -> None:
    (target / "notes").symlink_to("../private/key")
    (target / "folder").symlink_to("../private")
    assert copied(find(target, follow=True)) == ["folder/key", "notes", "sub/x.txt"]


def test_a_folder_is_entered_through_a_link_but_never_in_itself(target: Path) -> None:
    (target / "again").symlink_to("sub")
    (target / "sub" / "round").symlink_to("..")
    found = find(target)
    assert {"again/x.txt", "sub/x.txt"} <= {*copied(found)}
    assert all(name.count("/") < 4 for name in copied(found))


def test_links_of_a_snapshot_lead_into_the_blobs_of_its_repository(tmp_path: Path) -> None:
    ours, others = (tmp_path / f"models--acme--{name}" for name in ("sft", "other"))
    for repository in (ours, others):
        (repository / "blobs").mkdir(parents=True)
        (repository / "blobs" / "0123").write_text("x")
    snapshot = ours / "snapshots" / "abc"
    (snapshot / "sub").mkdir(parents=True)
    (snapshot / "a.txt").symlink_to("../../blobs/0123")
    (snapshot / "sub" / "b.txt").symlink_to("../../../blobs/0123")
    assert copied(find(snapshot)) == ["a.txt", "sub/b.txt"]
    assert copied(find(snapshot / "sub")) == ["b.txt"]
    (snapshot / "c.txt").symlink_to("../../../models--acme--other/blobs/0123")
    with pytest.raises(CheckpointError, match=r"\n  c.txt\n"):
        find(snapshot)


def dangle(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [os.mkfifo, dangle, lambda path: path.symlink_to(path.name)])
def test_what_is_no_regular_file_is_left_out(target: Path, make: Callable[[Path], object]) -> None:
    make(target / "odd")
    (part,) = find(target).left_out
    assert (part.name, part.nbytes, part.reason) == ("odd", 0, "not a regular file")


def test_folders_that_are_left_out_may_be_deep_or_closed(target: Path) -> None:
    deep = target.joinpath("wandb", *["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")
    assert copied(find(target)) == ["sub/x.txt"]
    target.joinpath("other", *["d"] * 40).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"more than 32 deep.*move 'other' elsewhere"):
        find(target)
