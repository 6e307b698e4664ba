"""Finished models on their way to the Hub: whole or not at all, and without a secret."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import shardrestore
from shardrestore.names import UPLOADED_FILE
from tests.support.hub import Fault, Hub
from tests.support.hub.client import HubClient
from tests.support.process.command import run_cli, start_cli
from tests.support.scene import INDEX, SINGLE, Scene, shard_names, snapshot

TOKEN = "hf_secretOfAlice"
BUDGET = "16GiB"
ID = "alice/restored"


class Log:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[tuple[str, int]] = []
        self.done_bytes = 0
        self.ended = 0

    def note(self, remark: str) -> None:
        self.notes.append(remark)

    def begin(self, stage: str, total_bytes: int) -> None:
        self.stages.append((stage, total_bytes))

    def advance(self, nbytes: int) -> None:
        assert nbytes > 0
        self.done_bytes += nbytes

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def alice(hub: Hub, hub_client: HubClient) -> HubClient:
    """Alice, logged in; Bob has an account, too."""
    hub.tokens = {TOKEN: "alice", "hf_bob": "bob"}
    hub_client.log_in(TOKEN)
    return hub_client


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.make(tmp_path / "scene")


def restore(scene: Scene, **options: Any) -> Path:
    options = {"percent": 10, "max_memory": BUDGET, **options}
    shardrestore.restore(scene.base, scene.target, scene.output, **options)
    return scene.output


@pytest.fixture
def model(scene: Scene) -> Path:
    return restore(scene, checksum=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pushed_files(hub: Hub, revision: str = "main", id: str = ID) -> dict[str, bytes]:
    files = hub.repositories[id].files(revision)
    files.pop(".gitattributes", None)
    return files


def sent_shards(hub: Hub) -> int:
    return len(hub.requests(server="storage", method="PUT"))


# --- What is pushed ---


def test_a_model_arrives_whole_in_one_commit_of_a_private_repository(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    before = snapshot(model)
    pushed = shardrestore.push(model, ID)
    repository = hub.repositories[ID]
    assert repository.private
    assert [commit.message for commit in repository.commits.values()] == [
        "initial commit",
        "Upload out with shardrestore",
    ]
    assert pushed.commit == repository.sha()
    assert pushed.url == f"{hub.url}/{ID}/commit/{pushed.commit}"
    found, local = pushed_files(hub), read_files(model)
    assert found.keys() == local.keys()
    changed = {name for name in local if found[name] != local[name]}
    assert changed == {"shardrestore.json", "SHA256SUMS"}
    assert snapshot(model) == before
    assert (pushed.files, pushed.deleted_bytes) == (len(local), 0)


def test_no_folder_of_this_machine_is_pushed_and_checksums_fit(
    hub: Hub, alice: HubClient, model: Path, tmp_path: Path
) -> None:
    shardrestore.push(model, ID)
    found = pushed_files(hub)
    for name, content in found.items():
        assert os.fsencode(tmp_path) not in content, name
    record = json.loads(found["shardrestore.json"])
    own = json.loads((model / "shardrestore.json").read_bytes())
    assert [record[role].pop("path") for role in ("base", "target")] == ["base", "target"]
    assert [own[role].pop("path") for role in ("base", "target")] != ["base", "target"]
    assert record == own
    for line in found["SHA256SUMS"].decode().splitlines():
        checksum, _, name = line.partition("  ")
        assert checksum == sha256(found[name]).hexdigest(), name


def test_what_was_pushed_can_be_verified_where_it_is_downloaded(
    hub: Hub, alice: HubClient, scene: Scene, model: Path, tmp_path: Path
) -> None:
    from huggingface_hub import snapshot_download

    shardrestore.push(model, ID)
    folder = snapshot_download(ID, local_dir=tmp_path / "downloaded")
    found = shardrestore.verify(folder, base=scene.base, target=scene.target, max_memory=BUDGET)
    assert found.ok, found.problems


def test_reports_of_others_go_along_and_hidden_files_do_not(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    (model / "report.html").write_text("<html>")
    (model / ".env").write_text("SECRET=1")
    (model / ".git").mkdir()
    (model / ".git" / "config").write_text("secret")
    shardrestore.push(model, ID)
    assert pushed_files(hub)["report.html"] == b"<html>"
    assert not any(name.startswith(".") for name in pushed_files(hub))


def test_progress_counts_every_byte_once(hub: Hub, alice: HubClient, model: Path) -> None:
    log = Log()
    pushed = shardrestore.push(model, ID, observer=log)
    assert log.stages == [("push", pushed.pushed_bytes)]
    assert (log.done_bytes, log.ended) == (pushed.pushed_bytes, 1)


def test_a_repeated_push_sends_no_weight_and_makes_no_commit(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    first = shardrestore.push(model, ID)
    assert sent_shards(hub) >= len(shard_names(model))
    hub.forget()
    assert shardrestore.push(model, ID) == first
    assert sent_shards(hub) == 0
    assert len(hub.repositories[ID].commits) == 2


def test_weights_of_the_model_before_leave_with_the_same_commit(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    old = {SINGLE: b"old", "model-00001-of-00009.safetensors": b"old", "adapter.safetensors": b"a"}
    hub.create(ID, {**old, "notes.md": b"kept"})
    shardrestore.push(model, ID)
    assert pushed_files(hub).keys() - read_files(model).keys() == {
        "adapter.safetensors",
        "notes.md",
    }


def test_from_hub_to_hub_the_card_names_both_and_the_command_pins_them(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    from huggingface_hub import ModelCard

    (scene.target / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    commits = {
        side: hub.create(f"alice/{side}", scene.root / side, private=True).sha()
        for side in ("base", "target")
    }
    shardrestore.restore("alice/base", "alice/target", scene.output, percent=10, max_memory=BUDGET)
    shardrestore.push(scene.output, ID)
    card = ModelCard.load(ID)
    assert card.data.base_model == ["alice/target", "alice/base"]
    assert card.data.license == "mit"
    for side, commit in commits.items():
        assert f"--{side} alice/{side}@{commit}" in card.text
    found = pushed_files(hub)
    assert found == read_files(scene.output)  # there is no path to hide
    assert found["README.target.md"] == (scene.target / "README.md").read_bytes()


# --- Where to ---


def test_a_repository_that_ignores_weights_is_refused_before_the_commit(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    shardrestore.push(model, ID)
    repository = hub.repositories[ID]
    repository.commit({".gitignore": b"*.safetensors\n"})
    for path in model.glob("*.safetensors"):  # other weights than those that are there
        path.write_bytes(path.read_bytes()[:-2] + b"\1\1")
    head = repository.sha()
    with pytest.raises(shardrestore.HubError, match=r"\.gitignore leaves out model-.* and 2 more"):
        shardrestore.push(model, ID)
    assert repository.sha() == head


def test_a_branch_is_created_from_main_and_main_stays(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    main = hub.create(ID, {"notes.md": b"main"}).sha()
    for _ in range(2):
        pushed = shardrestore.push(model, ID, revision="k10")
        assert pushed.revision == "k10"
    assert hub.repositories[ID].branches["main"] == main
    assert pushed_files(hub, "k10").keys() == {*read_files(model), "notes.md"}


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("public", [False, True])
def test_an_existing_repository_stays_as_visible_as_it_is(
    hub: Hub, alice: HubClient, model: Path, private: bool, public: bool
) -> None:
    hub.create(ID, {}, private=private)
    log = Log()
    shardrestore.push(model, ID, public=public, observer=log)
    assert hub.repositories[ID].private == private
    kind = "private" if private else "public"
    told = [f"{ID} exists and is {kind}: that is left as it is"]
    assert log.notes == (told if private == public else [])


def test_a_repository_is_public_if_asked_for(hub: Hub, alice: HubClient, model: Path) -> None:
    shardrestore.push(model, ID, public=True)
    assert not hub.repositories[ID].private


def test_organisations_and_foreign_repositories_are_open_to_those_who_may_write(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    hub.allow("alice", "acme", write=True)
    hub.create("bob/shared", {})
    hub.allow("alice", "bob/shared", write=True)
    for id in ("acme/new", "bob/shared", f"hf://{ID}", f"{hub.url}/alice/other"):
        shardrestore.check_push(id)
        shardrestore.push(model, id)
    assert {"acme/new", "bob/shared", ID, "alice/other"} <= hub.repositories.keys()


# --- What is refused, before anything is sent or created ---


def refused(repository: str, *says: str, **options: Any) -> None:
    """Check that a push is refused beforehand, in one line that says all that."""
    with pytest.raises(shardrestore.ShardRestoreError) as caught:
        shardrestore.check_push(repository, **options)
    for text in says:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("repository", "says"),
    [
        ("restored", "expected ORG/NAME"),
        ("alice/a/b", "expected ORG/NAME"),
        ("", "expected ORG/NAME"),
        ("./restored", "expected ORG/NAME"),
        ("alice/re stored", "expected ORG/NAME"),
        ("alice/restored@v1", "--revision v1"),
        ("alice/a--b", "without '--' and '..'"),
        ("alice/" + "a" * 97, "at most 96"),
        ("hf://datasets/alice/restored", "a dataset on the Hub, not a model"),
        ("hf://alice/restored/model.safetensors", "inside alice/restored"),
    ],
)
def test_a_malformed_name_is_refused_without_asking(
    hub: Hub, alice: HubClient, repository: str, says: str
) -> None:
    refused(repository, says)
    assert hub.log == []


def test_who_may_not_write_is_told_so(hub: Hub, alice: HubClient) -> None:
    hub.create("acme/base", {})
    hub.create("acme/secret", {}, private=True)
    refused("acme/base", "you may not write there (403)", "`hf auth login`")
    refused("acme/secret", "no such repository", "acme is neither you")
    refused("acme/new", "acme is neither you nor an organisation", "choose one of alice")
    refused("bob/new", "bob is neither you")
    hub.readers_only.add("alice")
    refused(ID, "your token may only read")
    assert ID not in hub.repositories


def test_without_a_good_token_nothing_is_pushed(hub: Hub, alice: HubClient) -> None:
    alice.log_in("hf_stale")
    refused(ID, "does not know your token (401)", "`hf auth login`")
    alice.log_out()
    hub.forget()
    refused(ID, "no token", "`hf auth login`")
    alice.log_in(TOKEN)
    alice.go_offline()
    refused(ID, "HF_HUB_OFFLINE", "unset it")
    assert hub.log == []


def test_a_check_creates_nothing(hub: Hub, alice: HubClient) -> None:
    shardrestore.check_push(ID, revision="k10")
    assert hub.repositories == {}


def leave_out(name: str) -> Callable[[Path], object]:
    return lambda model: (model / name).unlink()


def cut_short(model: Path) -> None:
    shard = model / shard_names(model)[0]
    shard.write_bytes(shard.read_bytes()[:-1])


def leave_journal(model: Path) -> None:
    (model / ".shardrestore-partial").mkdir()
    (model / ".shardrestore-partial" / ".journal.jsonl").write_text("{}\n")


def name_outside(model: Path) -> None:
    record = json.loads((model / "shardrestore.json").read_text())
    record["target"]["shards"][0]["name"] = "../base/config.json"
    (model / "shardrestore.json").write_text(json.dumps(record))


def link_folder(model: Path) -> None:
    (model / "elsewhere").symlink_to(model.parent / "target")
    record = json.loads((model / "shardrestore.json").read_text())
    shard = record["target"]["shards"][0]
    shard["name"] = f"elsewhere/{shard['name']}"
    (model / "shardrestore.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (leave_out("shardrestore.json"), "shardrestore.json: missing"),
        (leave_out("model-00002-of-00003.safetensors"), "00002-of-00003.safetensors: missing"),
        (leave_out(INDEX), f"{INDEX}: missing"),
        (cut_short, "bytes"),
        (leave_journal, "unfinished run: repeat its command with --resume"),
        (name_outside, "outside the folder"),
        (link_folder, "reached through a link"),
    ],
)
def test_what_is_no_finished_model_is_refused(
    hub: Hub, alice: HubClient, model: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(model)
    before = snapshot(model.parent)
    with pytest.raises(shardrestore.CheckpointError, match=says):
        shardrestore.push(model, ID, delete_after_upload=True)
    assert snapshot(model.parent) == before
    assert hub.repositories == {}


def test_a_folder_of_several_models_is_refused_by_their_names(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    shardrestore.sweep(scene.base, scene.target, scene.output, percents=[1, 3], max_memory=BUDGET)
    with pytest.raises(shardrestore.CheckpointError) as caught:
        shardrestore.push(scene.output, ID)
    for name in ("restore_transformer_top_1pct", "restore_transformer_top_3pct"):
        assert name in str(caught.value)
        shardrestore.push(scene.output / name, ID, revision=name)


def test_a_model_that_is_being_written_is_not_pushed(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    from shardrestore.output.lock import locked

    with locked(model), pytest.raises(shardrestore.OutputError, match="another run is writing"):
        shardrestore.push(model, ID)


# --- Interrupted, and repeated ---

FAULTS = {
    "slow_down": (Fault(path="objects/batch", status=429), "slow down (429)"),
    "storage_fails": (Fault(path=".", method="PUT", server="storage", status=503), "answers 503"),
    "storage_resets": (Fault(path=".", method="PUT", server="storage", reset=True), "connection"),
    "preupload_fails": (Fault(path="/preupload/", status=500), "answers 500"),
    "commit_fails": (Fault(path="/commit/", status=500), "answers 500"),
    "commit_resets": (Fault(path="/commit/", reset=True), "connection"),
    "commit_is_refused": (Fault(path="/commit/", status=403), "may not write there (403)"),
    "no_room": (Fault(path="objects/batch", status=413), "no room"),
    "overtaken": (Fault(path="/commit/", status=412), "somebody else has changed it"),
    "third_shard": (
        Fault(path=".", method="PUT", server="storage", after=2, status=400),
        "refuses (400)",
    ),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("delete", [False, True])
def test_a_push_that_fails_leaves_all_as_it_was_and_can_be_repeated(
    hub: Hub, alice: HubClient, model: Path, name: str, delete: bool
) -> None:
    fault, says = FAULTS[name]
    main = hub.create(ID, {"notes.md": b"old"}).sha()
    before, local = snapshot(model), read_files(model)
    hub.fail(fault)
    with pytest.raises(shardrestore.HubError) as caught:
        shardrestore.push(model, ID, delete_after_upload=delete)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert TOKEN not in message
    assert "Signature" not in message
    assert hub.repositories[ID].sha() == main
    assert snapshot(model) == before
    hub.heal()
    arrived = len(hub.repositories[ID].objects)
    hub.forget()
    shardrestore.push(model, ID, delete_after_upload=delete)
    assert pushed_files(hub).keys() == {*local, "notes.md"}
    assert sent_shards(hub) + arrived == len(hub.repositories[ID].objects)


@pytest.mark.usefixtures("impatient")
def test_short_disturbances_are_sat_out(hub: Hub, alice: HubClient, model: Path) -> None:
    hub.fail(Fault(path="objects/batch", status=503, times=1))
    hub.fail(Fault(path=".", method="PUT", server="storage", status=500, times=1))
    hub.fail(Fault(path=".", method="PUT", server="storage", reset=True, times=1))
    log = Log()
    pushed = shardrestore.push(model, ID, observer=log)
    assert log.done_bytes == pushed.pushed_bytes
    assert pushed_files(hub).keys() == read_files(model).keys()


def test_a_commit_whose_answer_is_lost_is_found_by_the_next_push(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    hub.fail(Fault(path="/commit/", lost=True, times=1))
    with pytest.raises(shardrestore.HubError):
        shardrestore.push(model, ID, delete_after_upload=True)
    assert len(shard_names(model)) == 3
    pushed = shardrestore.push(model, ID, delete_after_upload=True)
    assert len(hub.repositories[ID].commits) == 2
    assert pushed.commit == hub.repositories[ID].sha()
    assert shard_names(model) == []


def test_metadata_that_the_hub_refuses_are_told_in_its_words(
    hub: Hub, alice: HubClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    def refuse(self: HfApi, content: str, **_: object) -> None:
        raise ValueError('Invalid metadata in README.md.\n- "license" must be one of …')

    monkeypatch.setattr(HfApi, "_validate_yaml", refuse)
    with pytest.raises(shardrestore.HubError) as caught:
        shardrestore.push(model, ID)
    assert 'README.md. - "license" must be one of …' in str(caught.value)


# --- Deleting what has been uploaded ---


def test_weights_are_deleted_once_the_commit_holds_them_and_a_note_says_where(
    hub: Hub, alice: HubClient, scene: Scene, model: Path
) -> None:
    local = read_files(model)
    pushed = shardrestore.push(model, ID, delete_after_upload=True)
    shards = {name for name in local if name.endswith(".safetensors")}
    assert read_files(model).keys() == (local.keys() - shards) | {UPLOADED_FILE}
    assert pushed.deleted_bytes == sum(len(local[name]) for name in shards)
    found = pushed_files(hub)
    assert {name: found[name] for name in shards} == {name: local[name] for name in shards}
    with pytest.raises(shardrestore.CheckpointError) as caught:
        shardrestore.verify(model, max_memory=BUDGET)
    assert f"on the Hub, in {ID} at commit {pushed.commit}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert shardrestore.show(model).tensors  # the reports are all there


def test_deleted_weights_can_be_downloaded_as_verify_says(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    from huggingface_hub import snapshot_download

    local = read_files(model)
    pushed = shardrestore.push(model, ID, delete_after_upload=True)
    snapshot_download(ID, revision=pushed.commit, local_dir=model, allow_patterns=["*.safetensors"])
    assert local.items() <= read_files(model).items()
    assert shardrestore.verify(model, max_memory=BUDGET).ok


@pytest.mark.parametrize("wrong", ["missing", "sha256", "size"])
def test_a_commit_that_is_not_what_was_sent_is_an_error_and_nothing_is_deleted(
    hub: Hub, alice: HubClient, model: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    listed = HfApi.list_repo_tree

    def distort(self: HfApi, *arguments: Any, **options: Any) -> Iterator[object]:
        for entry in listed(self, *arguments, **options):
            if isinstance(entry, RepoFile) and entry.path.startswith("model-00002"):
                if wrong == "missing":
                    continue
                if wrong == "size":
                    entry.size -= 1
                else:
                    assert entry.lfs
                    entry.lfs = dataclasses.replace(entry.lfs, sha256="0" * 64)
            yield entry

    before = snapshot(model)
    monkeypatch.setattr(HfApi, "list_repo_tree", distort)
    for delete in (False, True):
        with pytest.raises(shardrestore.HubError, match="is not what was sent: model-00002"):
            shardrestore.push(model, ID, delete_after_upload=delete)
    assert snapshot(model) == before


def test_a_deletion_that_was_interrupted_is_finished_by_the_same_command(
    hub: Hub, alice: HubClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink, calls = Path.unlink, []
    sizes = {name: (model / name).stat().st_size for name in shard_names(model)}

    def interrupted(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".safetensors":
            calls.append(path)
            if len(calls) == 2:
                raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shardrestore.push(model, ID, delete_after_upload=True)
    assert len(shard_names(model)) == 2
    for repository, delete in ((ID, False), ("alice/other", True)):
        with pytest.raises(shardrestore.CheckpointError, match=f"on the Hub, in {ID} at commit"):
            shardrestore.push(model, repository, delete_after_upload=delete)
    commit = hub.repositories[ID].sha()
    pushed = shardrestore.push(model, ID, delete_after_upload=True)
    assert pushed.commit == commit
    assert 0 < pushed.deleted_bytes < sum(sizes.values())
    assert shard_names(model) == []
    assert shardrestore.push(model, ID, delete_after_upload=True).deleted_bytes == 0


def test_what_was_pushed_before_is_told_so_with_its_figures(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    hub.create(ID, {"notes.md": b"theirs"})
    first = shardrestore.push(model, ID, delete_after_upload=True)
    (model / "mine.txt").write_text("came later")
    again = shardrestore.push(model, ID, delete_after_upload=True)
    assert again == dataclasses.replace(first, deleted_bytes=0, pushed_before=True)
    assert not first.pushed_before


@pytest.mark.parametrize("repository", [ID, "alice/other"])
def test_weights_that_are_gone_are_claimed_to_be_on_no_other_branch(
    hub: Hub, alice: HubClient, model: Path, repository: str
) -> None:
    pushed = shardrestore.push(model, ID, delete_after_upload=True, revision="k10")
    before = snapshot(model)
    for revision in (None, "exp"):
        with pytest.raises(shardrestore.CheckpointError) as caught:
            shardrestore.push(model, repository, delete_after_upload=True, revision=revision)
        message = str(caught.value)
        assert f"on the Hub, in {ID} at commit {pushed.commit}" in message
        assert f"can be pushed to {repository}, branch {revision or 'main'}" in message
    assert hub.repositories.keys() == {ID}
    assert hub.repositories[ID].branches.keys() == {"main", "k10"}
    assert snapshot(model) == before


def test_a_note_that_tells_no_branch_is_read_and_no_branch_is_claimed(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    pushed = shardrestore.push(model, ID, delete_after_upload=True)
    note = json.loads((model / UPLOADED_FILE).read_text())
    assert note.pop("branch") == "main"
    (model / UPLOADED_FILE).write_text(json.dumps(note))
    says = f"on the Hub, in {ID} at commit {pushed.commit}"
    with pytest.raises(shardrestore.CheckpointError, match=says):
        shardrestore.verify(model, max_memory=BUDGET)
    with pytest.raises(shardrestore.CheckpointError, match=says):
        shardrestore.push(model, ID, delete_after_upload=True)


def test_a_file_that_is_not_what_was_uploaded_is_not_deleted_later(
    hub: Hub, alice: HubClient, model: Path
) -> None:
    shardrestore.push(model, ID, delete_after_upload=True)
    (model / "model-00001-of-00003.safetensors").write_bytes(
        bytes(json.loads((model / "shardrestore.json").read_text())["target"]["shards"][0]["bytes"])
    )
    with pytest.raises(shardrestore.CheckpointError, match="not the file that was uploaded"):
        shardrestore.push(model, ID, delete_after_upload=True)
    assert len(shard_names(model)) == 1


def test_a_run_that_has_been_pushed_and_deleted_counts_as_finished(
    hub: Hub, alice: HubClient, scene: Scene, model: Path
) -> None:
    shardrestore.push(model, ID, delete_after_upload=True)
    again = shardrestore.restore(
        scene.base, scene.target, model, percent=10, checksum=True, resume=True, max_memory=BUDGET
    )
    assert again.costs.times.restore_seconds == 0
    assert shard_names(model) == []


def test_the_note_leaves_with_the_model_it_is_of(
    hub: Hub, alice: HubClient, scene: Scene, model: Path
) -> None:
    shardrestore.push(model, ID, delete_after_upload=True)
    restore(scene, percent=20, overwrite=True)
    assert not (model / UPLOADED_FILE).exists()
    assert shardrestore.verify(model, max_memory=BUDGET).ok


def test_a_damaged_note_is_named(hub: Hub, alice: HubClient, model: Path) -> None:
    for text in ("", "[]", '{"format": 2}', '{"format": 1, "repository": "\\u001b[2J"}'):
        (model / UPLOADED_FILE).write_text(text)
        with pytest.raises(shardrestore.CheckpointError, match="damaged"):
            shardrestore.push(model, ID)


# --- The command line ---


def cli(hub: Hub, scene: Scene, *args: str, token: str | None = TOKEN) -> tuple[int, str, str]:
    environment = {**hub.environment(scene.root, token), "COLUMNS": "80"}
    done = run_cli(*args, cwd=scene.root, env=environment)
    assert TOKEN not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


RUN = ("run", "--base", "base", "--target", "target", "--output", "out", "--push-to", ID)


def test_run_pushes_what_it_has_written_and_no_token_is_left_anywhere(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    status, stdout, stderr = cli(hub, scene, *RUN, "--revision", "k10", "--public")
    assert (status, stderr) == (0, "")
    commit = hub.repositories[ID].sha("k10")
    assert f"{hub.url}/{ID}/commit/{commit}" in stdout
    assert not hub.repositories[ID].private
    for content in (*read_files(scene.output).values(), *pushed_files(hub, "k10").values()):
        assert TOKEN.encode() not in content
    shardrestore.check_push(ID)
    assert TOKEN not in repr(shardrestore.push(scene.output, ID))


def test_json_of_run_and_push_is_one_document(hub: Hub, alice: HubClient, scene: Scene) -> None:
    status, stdout, stderr = cli(hub, scene, *RUN, "--json", "--delete-after-upload")
    assert (status, stderr) == (0, "")
    document = json.loads(stdout)
    assert document["selected_elements"] == 1843
    pushed = document["pushed"]
    assert (pushed["repository"], pushed["revision"]) == (ID, "main")
    assert pushed["deleted_bytes"] > 0
    assert not pushed["pushed_before"]
    assert pushed["seconds"] > 0
    status, stdout, _ = cli(hub, scene, "push", "out", ID, "--delete-after-upload", "--json")
    assert status == 0
    again = json.loads(stdout)
    assert again["seconds"] > 0
    assert again == {
        **pushed, "deleted_bytes": 0, "pushed_before": True, "seconds": again["seconds"],
    }  # fmt: skip
    status, stdout, _ = cli(hub, scene, "push", "out", ID, "--delete-after-upload")
    assert (status, stdout.splitlines()[0]) == (0, f"out was already pushed to {ID}")
    assert re.search(rf"holds +{pushed['files']} files, [\d.]+ [kM]B", stdout)
    assert cli(hub, scene, "push", "out", ID, "--delete-after-upload", "--quiet")[:2] == (0, "")
    status, _, stderr = cli(hub, scene, "verify", "out")
    assert status == 1
    assert stderr.startswith(f"error: out: its weights are on the Hub, in {ID} at commit ")
    assert len(stderr.splitlines()) == 1


def test_a_run_that_could_not_be_pushed_is_refused_before_any_work(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    for args, token, says in (
        (["--push-to", "bob/new"], TOKEN, "bob is neither you"),
        ([], None, "no token"),
        (["-k", "1,3"], TOKEN, "this command writes 2 models, but a repository holds one"),
        (["--target", "base"], TOKEN, "this command writes 2 models"),
    ):
        status, stdout, stderr = cli(hub, scene, *RUN, *args, token=token)
        assert (status, stdout) == (1, "")
        assert stderr.startswith("error: ")
        assert says in stderr
    assert not scene.output.exists()
    assert hub.repositories == {}


@pytest.mark.parametrize("command", ["run", "plan"])
def test_options_of_a_push_without_one_are_wrong_usage(
    hub: Hub, scene: Scene, command: str
) -> None:
    for option in (["--public"], ["--revision", "x"], ["--delete-after-upload"]):
        status, _, stderr = cli(hub, scene, command, *RUN[1:-2], *option)
        assert status == 2
        words = " ".join(re.sub("[│╭╰─╮╯]", " ", stderr).split())
        assert "--public, --revision and --delete-after-upload need --push-to" in words


def test_a_plan_of_a_push_tells_its_disk_and_refuses_what_a_run_would(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    plan = ("plan", *RUN[1:])
    status, stdout, stderr = cli(hub, scene, *plan)
    assert (status, stderr) == (0, "")
    assert re.search(rf"upload +[\d.]+ [kM]B of weights to {ID}\n", stdout)
    status, stdout, stderr = cli(hub, scene, *plan, "--delete-after-upload")
    assert (status, stderr) == (0, "")
    assert re.search(rf"upload +.* to {ID}, each shard deleted before the next is written", stdout)
    needed = [
        json.loads(cli(hub, scene, *plan, *more, "--json")[1])["disk_needed_bytes"]
        for more in ([], ["--delete-after-upload"])
    ]
    sizes = [path.stat().st_size for path in scene.target.glob("*.safetensors")]
    assert needed[0] - needed[1] == sum(sizes) - max(sizes) > 0
    assert cli(hub, scene, *plan, token=None)[0] == 1
    assert cli(hub, scene, *plan, "-k", "1,3")[0] == 1
    assert hub.repositories == {}


def test_a_run_whose_push_fails_says_that_the_model_is_complete_and_how_to_push_it(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    hub.fail(Fault(path="/commit/", status=403))
    status, stdout, stderr = cli(hub, scene, *RUN, "--public", "--revision", "k10")
    assert status == 1
    assert "restored 1,843" in stdout
    first, *advice = stderr.splitlines()
    assert first.startswith(f"error: {ID}: you may not write there (403)")
    assert advice == [
        "the model is complete in out; to push it:",
        f"  shardrestore push out {ID} --public --revision k10",
    ]
    hub.heal()
    assert cli(hub, scene, *advice[1].split()[1:])[0] == 0
    assert pushed_files(hub, "k10").keys() == read_files(scene.output).keys()


def test_a_run_whose_weights_were_deleted_names_no_push_that_would_fail(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    restore(scene)
    shardrestore.push(scene.output, ID, delete_after_upload=True)
    status, stdout, stderr = cli(hub, scene, *RUN, "--resume")
    assert status == 1
    assert "restored 1,843" in stdout
    assert stderr.startswith(f"error: out: its weights are on the Hub, in {ID} at commit ")
    assert len(stderr.splitlines()) == 1
    assert "the model is complete" not in stderr


def test_a_trap_of_folders_ends_in_one_message(alice: HubClient, scene: Scene) -> None:
    restore(scene)
    place = scene.output
    for _ in range(40):
        place /= "a"
    place.mkdir(parents=True)
    with pytest.raises(shardrestore.CheckpointError, match=r"out: holds folders more than 32 deep"):
        shardrestore.push(scene.output, ID)


def test_an_interrupted_push_can_be_repeated(hub: Hub, alice: HubClient, scene: Scene) -> None:
    restore(scene)
    hub.fail(Fault(path=".", method="PUT", server="storage", after=1, delay_seconds=60))
    environment = hub.environment(scene.root, TOKEN)
    process = start_cli("push", "out", ID, cwd=scene.root, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (ID in hub.repositories and hub.repositories[ID].objects):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    arrived = next(iter(hub.repositories[ID].objects))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == ("interrupted: the same command will not send again what has been sent\n")
    assert pushed_files(hub) == {}
    hub.heal()
    hub.forget()
    shardrestore.push(scene.output, ID)
    assert hub.requests(arrived, method="PUT") == []
