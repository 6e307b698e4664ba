"""Models that go to the Hub shard by shard: the disk of one, and nothing lost on the way."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import shardrestore
from shardrestore.names import UPLOADED_FILE
from shardrestore.output.staging import Staging
from shardrestore.synthetic import write_pair
from tests.support.checkpoints import read_tree
from tests.support.hub import Fault, Hub
from tests.support.hub.blobs import Blob
from tests.support.hub.client import HubClient
from tests.support.hub.repository import Repository
from tests.support.many_shards import ID, PAGE, make_scene, pushed_files
from tests.support.process.command import run_cli, start_cli
from tests.support.scene import INDEX, STAGING, TINY, Scene, shard_names, snapshot

TOKEN = "hf_secretOfAlice"
BUDGET = "16GiB"


@dataclass
class Watch:
    """An observer that looks at the disk whenever something has been done."""

    output: Path
    notes: list[str] = field(default_factory=list)
    stages: list[tuple[str, int]] = field(default_factory=list)
    done_bytes: list[int] = field(default_factory=list)
    most_shards: int = 0
    most_bytes: int = 0

    def note(self, remark: str) -> None:
        self.notes.append(remark)

    def begin(self, stage: str, total_bytes: int) -> None:
        self.stages.append((stage, total_bytes))
        self.done_bytes.append(0)

    def advance(self, nbytes: int) -> None:
        self.done_bytes[-1] += nbytes
        sizes = [path.stat().st_size for path in self.output.rglob("*model*.safetensors")]
        self.most_shards = max(self.most_shards, len(sizes))
        self.most_bytes = max(self.most_bytes, sum(sizes))

    def end(self) -> None: ...


@pytest.fixture
def alice(hub: Hub, hub_client: HubClient) -> HubClient:
    hub.tokens = {TOKEN: "alice"}
    hub_client.log_in(TOKEN)
    return hub_client


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path / "scene")


def restore_to_hub(
    scene: Scene, repository: str = ID, **options: Any
) -> tuple[shardrestore.Restoration, shardrestore.Pushed]:
    options = {"percent": 10, "max_memory": BUDGET, "checksum": True, **options}
    return shardrestore.restore_to_hub(
        scene.base, scene.target, scene.output, repository, **options
    )


def put_shards(hub: Hub) -> int:
    return len(hub.requests(server="storage", method="PUT"))


def read_note(scene: Scene) -> dict[str, Any]:
    note = json.loads((scene.output / UPLOADED_FILE).read_text())
    assert isinstance(note, dict)
    return note


def sizes(folder: Path) -> list[int]:
    return [(folder / name).stat().st_size for name in shard_names(folder)]


# --- What it leaves ---

WAYS: dict[str, dict[str, Any]] = {
    "usual": {"checksum": False},
    "checksum": {},
    "bare": {"report": False, "checksum": False},
    "cast": {"dtype": "fp32"},
    "random": {"strategy": "random"},
}


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_as_a_run_and_a_push_do_here_and_on_the_hub(
    hub: Hub, alice: HubClient, scene: Scene, tmp_path: Path, way: str
) -> None:
    options = {"percent": 10, "max_memory": BUDGET, "checksum": True, **WAYS[way]}
    other = tmp_path / "two" / "out"
    first = shardrestore.restore(scene.base, scene.target, other, **options)
    weight_bytes = sum(sizes(other))
    expected = shardrestore.push(other, "alice/two", delete_after_upload=True)
    result, pushed = restore_to_hub(scene, "alice/one", **options)
    assert result.selected_elements == first.selected_elements
    assert result.tensors == first.tensors
    assert pushed.deleted_bytes == expected.deleted_bytes == weight_bytes
    assert (pushed.files, pushed.revision) == (expected.files, expected.revision)
    assert abs(pushed.pushed_bytes - expected.pushed_bytes) < 1000  # the page
    found, wanted = read_tree(scene.output), read_tree(other)
    notes = [json.loads(tree.pop(UPLOADED_FILE)) for tree in (found, wanted)]
    assert found == wanted
    assert notes[0].pop("files") == notes[1].pop("files")
    assert notes[0]["commit"] == pushed.commit == hub.repositories["alice/one"].sha()
    assert pushed_files(hub, "alice/one") == pushed_files(hub, "alice/two")
    assert (PAGE in hub.repositories["alice/one"].files()) == options.get("report", True)
    assert [commit.message for commit in hub.repositories["alice/one"].commits.values()] == [
        commit.message for commit in hub.repositories["alice/two"].commits.values()
    ]


def sizes_of(tree: dict[str, bytes]) -> list[int]:
    return [len(data) for name, data in tree.items() if name.endswith(".safetensors")]


def test_the_disk_never_holds_more_than_one_shard(hub: Hub, alice: HubClient, scene: Scene) -> None:
    watch = Watch(scene.output)
    restore_to_hub(scene, workers=4, observer=watch)
    assert len(shard_names(scene.target)) >= 4
    assert watch.most_shards == 1
    assert 0 < watch.most_bytes <= max(sizes(scene.target))
    assert shard_names(scene.output) == []


def test_progress_tells_of_bytes_that_are_read_and_of_those_that_are_sent(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    watch = Watch(scene.output)
    _, pushed = restore_to_hub(scene, observer=watch)
    assert [stage for stage, _ in watch.stages] == ["scan", "restore_and_push", "push"]
    assert watch.done_bytes == [total for _, total in watch.stages]
    assert watch.stages[2][1] == pushed.pushed_bytes - pushed.deleted_bytes


def test_a_downloaded_model_is_verified_and_its_checksums_fit(
    hub: Hub, alice: HubClient, scene: Scene, tmp_path: Path
) -> None:
    from huggingface_hub import snapshot_download

    restore_to_hub(scene)
    folder = Path(snapshot_download(ID, local_dir=tmp_path / "downloaded"))
    found = shardrestore.verify(folder, base=scene.base, target=scene.target, max_memory=BUDGET)
    assert found.ok, found.problems
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        checksum, _, name = line.partition("  ")
        assert checksum == sha256((folder / name).read_bytes()).hexdigest(), name


def test_a_model_that_was_there_is_replaced_and_other_files_stay_here_and_there(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    hub.create(ID, {"model.safetensors": b"old", "notes.md": b"theirs"})
    shardrestore.restore(scene.base, scene.target, scene.output, percent=70, max_memory=BUDGET)
    (scene.output / "mine.txt").write_bytes(b"mine")
    (scene.output / "model.safetensors").write_bytes(b"old weights, in no index")
    restore_to_hub(scene, overwrite=True)
    assert shard_names(scene.output) == []
    found = pushed_files(hub)
    assert (found["mine.txt"], found["notes.md"]) == (b"mine", b"theirs")
    assert "model.safetensors" not in found
    assert json.loads(found["shardrestore.json"])["options"]["percent"] == 10
    assert sorted(file["name"] for file in read_note(scene)["files"]) == shard_names(scene.target)


def test_a_single_file_without_an_index_goes_the_same_way(
    hub: Hub, alice: HubClient, tmp_path: Path
) -> None:
    write_pair(tmp_path / "scene", TINY, shard_bytes=1 << 20)
    scene = Scene(tmp_path / "scene")
    assert not (scene.target / INDEX).exists()
    restore_to_hub(scene)
    assert [file["name"] for file in read_note(scene)["files"]] == ["model.safetensors"]
    assert "model.safetensors" in pushed_files(hub)
    assert restore_to_hub(scene, resume=True)[0].costs.times.restore_seconds == 0


def test_both_inputs_may_be_streamed_from_the_hub(hub: Hub, alice: HubClient, scene: Scene) -> None:
    for side in ("base", "target"):
        hub.create(f"alice/{side}", scene.root / side, private=True)
    shardrestore.restore_to_hub(
        "alice/base", "alice/target", scene.output, ID, stream="both", max_memory=BUDGET
    )
    other = shardrestore.restore(
        scene.base, scene.target, scene.root / "other", percent=10, max_memory=BUDGET
    )
    found = pushed_files(hub)
    for name in shard_names(other.output):
        assert found[name] == (other.output / name).read_bytes()


def test_a_branch_is_made_for_it_and_main_stays(hub: Hub, alice: HubClient, scene: Scene) -> None:
    main = hub.create(ID, {"notes.md": b"main"}).sha()
    _, pushed = restore_to_hub(scene, revision="k/10")
    assert pushed.revision == "k/10"
    assert hub.repositories[ID].branches["main"] == main
    assert pushed_files(hub, revision="k/10").keys() >= {*shard_names(scene.target), "notes.md"}


def test_shards_go_by_plain_lfs_also_where_xet_is_at_hand(
    hub: Hub, alice: HubClient, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_xet: list[str] = []

    def upload(*, additions: list[Any], **_: object) -> None:
        for addition in additions:
            by_xet.append(addition.path_in_repo)
            with addition.as_file() as file:
                hub.repositories[ID].objects[addition.upload_info.sha256.hex()] = Blob(file.read())

    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: True)
    monkeypatch.setattr("huggingface_hub._commit_api._upload_xet_files", upload)
    restore_to_hub(scene)
    assert put_shards(hub) == len(shard_names(scene.target))
    assert by_xet == ["tokenizer.model"]


def test_the_disk_is_asked_for_one_shard_alone(
    hub: Hub, alice: HubClient, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = shardrestore.plan(
        scene.base, scene.target, scene.output, delete_after_upload=True, max_memory=BUDGET
    )
    need = plan.disk_needed_bytes
    whole = shardrestore.plan(scene.base, scene.target, max_memory=BUDGET).disk_needed_bytes
    assert need == whole - sum(sizes(scene.target)) + max(sizes(scene.target))
    monkeypatch.setattr("shardrestore.runs.outputs.free_bytes", lambda _: need - 1)
    with pytest.raises(shardrestore.OutputError, match=f"{need:,} bytes are needed") as caught:
        restore_to_hub(scene)
    assert f"{need - 1:,} are free" in str(caught.value)
    assert hub.repositories == {}
    short = shardrestore.plan(
        scene.base, scene.target, scene.output, delete_after_upload=True, max_memory=BUDGET
    )
    assert short.output_problem == str(caught.value)
    monkeypatch.setattr("shardrestore.runs.outputs.free_bytes", lambda _: need)
    restore_to_hub(scene)


def test_nothing_is_created_before_inputs_and_request_are_found_to_be_good(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    with pytest.raises(shardrestore.RequestError, match="restore writes one"):
        restore_to_hub(scene, region=["mlp", "attention"])
    with pytest.raises(shardrestore.HubError, match="bob is neither you"):
        restore_to_hub(scene, "bob/new")
    (scene.target / shard_names(scene.target)[0]).write_bytes(b"")
    with pytest.raises(shardrestore.CheckpointError):
        restore_to_hub(scene)
    assert hub.repositories == {}
    assert not scene.output.exists()


# --- Interrupted, and resumed ---


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


@dataclass
class Trip:
    """What an uninterrupted run ends with, and an interrupted one of the same scene."""

    hub: Hub
    scene: Scene
    whole: dict[str, bytes]
    pushed: dict[str, bytes]

    def check_unfinished(self) -> None:
        """The branch is as it was; everything that is not on the Hub is here."""
        assert self.repository.sha() == next(iter(self.repository.commits))
        assert [name for name in read_tree(self.scene.output) if not is_hidden(name)] == []
        assert len(list(self.scene.output.rglob("model*.safetensors"))) <= 1

    def check_finished(self) -> None:
        """As if there had been no interruption: one commit, the same files here and there."""
        assert read_tree(self.scene.output) == self.whole
        assert pushed_files(self.hub) == self.pushed
        assert len(self.repository.commits) == 2

    @property
    def repository(self) -> Repository:
        return self.hub.repositories[ID]


def is_hidden(name: str) -> bool:
    return name.startswith(STAGING)


@pytest.fixture
def trip(hub: Hub, alice: HubClient, scene: Scene) -> Trip:
    """Rehearse, and forget: the next commit of the same files gets the same name."""
    restore_to_hub(scene)
    trip = Trip(hub, scene, read_tree(scene.output), pushed_files(hub))
    for path in sorted(scene.output.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    hub.repositories.clear()
    hub.forget()
    return trip


def fail(scene: Scene, **options: Any) -> str:
    """Have a run fail in one resumable message."""
    with pytest.raises(shardrestore.ShardRestoreError) as caught:
        restore_to_hub(scene, **options)
    message = str(caught.value)
    assert caught.value.resumable
    assert "\n" not in message
    assert TOKEN not in message
    assert "Signature" not in message
    assert "push again" not in message
    return message


PUT = {"path": ".", "method": "PUT", "server": "storage"}
FAULTS = {
    "first_shard": (Fault(**PUT, status=400), 0, "refuses (400)"),
    "third_shard": (Fault(**PUT, after=2, status=503), 2, "answers 503"),
    "no_room": (Fault(path="objects/batch", after=4, status=413), 2, "no room"),
    "verify_fails": (Fault(path="objects/verify", after=1, status=404), 1, "(404)"),
    "network_away": (Fault(path="objects/batch", after=2, reset=True), 1, "connection"),
    "commit_fails": (Fault(path="/commit/", status=500), 5, "answers 500"),
    "overtaken": (Fault(path="/commit/", status=412), 5, "somebody else has changed it"),
    "not_confirmed": (Fault(path="/tree/", status=403), 5, "may not write there (403)"),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", FAULTS)
def test_whatever_fails_is_kept_and_gone_on_with(trip: Trip, name: str) -> None:
    fault, sent, says = FAULTS[name]
    trip.hub.fail(fault)
    assert says in fail(trip.scene)
    if name != "not_confirmed":
        trip.check_unfinished()
    trip.hub.heal()
    watch = Watch(trip.scene.output)
    trip.hub.forget()
    restore_to_hub(trip.scene, resume=True, observer=watch)
    assert "scan" not in [stage for stage, _ in watch.stages]
    assert watch.most_shards <= 1
    kept = len(trip.repository.objects) - put_shards(trip.hub)
    assert kept >= sent
    trip.check_finished()


def test_a_shard_that_is_complete_but_not_sent_is_sent_and_not_made_again(trip: Trip) -> None:
    trip.hub.fail(Fault(**PUT, after=1, status=400))
    fail(trip.scene)
    (left,) = trip.scene.output.rglob("model*.safetensors")
    assert left.parent.name == STAGING
    trip.hub.heal()
    watch = Watch(trip.scene.output)
    restore_to_hub(trip.scene, resume=True, observer=watch)
    assert watch.stages[0] == ("push", len(trip.pushed[left.name]))
    assert trip.hub.requests(sha256_of(trip, left.name), method="PUT", server="storage")[1:]
    trip.check_finished()


def test_shards_that_were_sent_are_not_made_again(trip: Trip) -> None:
    trip.hub.fail(Fault(**PUT, after=3, status=400))
    fail(trip.scene)
    trip.hub.heal()
    watch = Watch(trip.scene.output)
    restore_to_hub(trip.scene, resume=True, observer=watch)
    *_, last = sizes(trip.scene.target)
    assert 0 < dict(watch.stages)["restore_and_push"] <= 3 * last  # read of both, and sent
    trip.check_finished()


def test_a_shard_that_was_sent_and_not_deleted_is_deleted_before_the_next_is_begun(
    trip: Trip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(staging: Staging, name: str) -> None:
        raise shardrestore.OutputError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "drop", refuse)
        fail(trip.scene)
    assert len(trip.repository.objects) == 1
    assert len(list(trip.scene.output.rglob("model*.safetensors"))) == 1
    watch = Watch(trip.scene.output)
    restore_to_hub(trip.scene, resume=True, observer=watch)
    assert watch.most_shards == 1
    trip.check_finished()


def sha256_of(trip: Trip, name: str) -> str:
    note = json.loads(trip.whole[UPLOADED_FILE])
    return str({file["name"]: file["sha256"] for file in note["files"]}[name])


@pytest.mark.parametrize("after", ["some shards", "the last shard", "a commit that failed"])
def test_objects_that_the_hub_has_dropped_are_made_and_sent_again(trip: Trip, after: str) -> None:
    faults = {
        "some shards": Fault(**PUT, after=3, status=400),
        "the last shard": Fault(path="/validate-yaml", status=500),
        "a commit that failed": Fault(path="/commit/", status=403),
    }
    trip.hub.fail(faults[after])
    fail(trip.scene)
    trip.hub.heal()
    dropped = shard_names(trip.scene.target)[1]
    del trip.repository.objects[sha256_of(trip, dropped)]
    trip.hub.forget()
    watch = Watch(trip.scene.output)
    restore_to_hub(trip.scene, resume=True, observer=watch)
    assert any(
        note.startswith(f"{ID} no longer has {dropped}: made and sent again")
        for note in watch.notes
    )
    assert trip.hub.requests(sha256_of(trip, dropped), method="PUT")
    assert watch.most_shards == 1
    trip.check_finished()


def test_what_the_hub_has_lost_is_in_the_journal_and_asked_for_no_more(trip: Trip) -> None:
    trip.hub.fail(Fault(path="/commit/", status=403))
    fail(trip.scene)
    dropped = shard_names(trip.scene.target)[1]
    del trip.repository.objects[sha256_of(trip, dropped)]
    trip.hub.heal()
    trip.hub.fail(Fault(**PUT, status=400))
    fail(trip.scene, resume=True)
    assert [line["lost"] for line in read_journal(trip) if "lost" in line] == [[dropped]]
    assert [] not in [line.get("publish") for line in read_journal(trip)]
    trip.hub.heal()
    trip.hub.forget()
    watch = Watch(trip.scene.output)
    restore_to_hub(trip.scene, resume=True, observer=watch)
    asked = [request.json()["objects"] for request in trip.hub.requests("objects/batch")]
    assert sha256_of(trip, dropped) not in [one["oid"] for one in asked[0]]
    assert not any("no longer has" in note for note in watch.notes)
    trip.check_finished()


def read_journal(trip: Trip) -> list[dict[str, Any]]:
    (path,) = trip.scene.output.rglob(".journal.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("commit", None),
        ("commit", {}),
        ("commit", {"sha": "0" * 40}),
        ("commit", ["alice/restored"]),
        ("publish", 5),
        ("publish", []),
        ("publish", [[["a"]]]),
        ("publish", [[["a", 5]]]),
        ("uploaded", {"name": 5}),
        ("uploaded", {"name": "none.of.ours", "bytes": 1, "sha256": ""}),
        ("lost", 5),
    ],
)
def test_a_line_of_the_journal_that_cannot_be_meant_is_damaged(
    trip: Trip, monkeypatch: pytest.MonkeyPatch, key: str, value: object
) -> None:
    def refuse(staging: Staging, moves: object) -> None:
        raise shardrestore.OutputError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "publish", refuse)
        fail(trip.scene)
    (path,) = trip.scene.output.rglob(".journal.jsonl")
    with path.open("a") as file:
        file.write(json.dumps({key: value}) + "\n")
    before = snapshot(trip.scene.output)
    with pytest.raises(shardrestore.OutputError, match=r"jsonl: damaged: start anew with --over"):
        restore_to_hub(trip.scene, resume=True)
    assert snapshot(trip.scene.output) == before


def test_a_repository_that_was_deleted_meanwhile_is_filled_anew(trip: Trip) -> None:
    trip.hub.fail(Fault(path="/commit/", status=403))
    fail(trip.scene)
    trip.hub.heal()
    trip.hub.repositories.clear()
    restore_to_hub(trip.scene, resume=True)
    trip.check_finished()


def test_all_that_was_sent_is_asked_for_in_one_request(trip: Trip) -> None:
    trip.hub.fail(Fault(**PUT, after=4, status=400))
    fail(trip.scene)
    trip.hub.heal()
    trip.hub.forget()
    restore_to_hub(trip.scene, resume=True)
    asked = [request.json()["objects"] for request in trip.hub.requests("objects/batch")]
    assert [len(objects) for objects in asked][:2] == [4, 1]


@pytest.mark.parametrize("wrong", ["missing", "size"])
def test_nothing_is_deleted_that_the_hub_does_not_confirm(
    trip: Trip, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    from huggingface_hub import lfs

    ask = lfs.post_lfs_batch_info

    def distort(infos: list[Any], **options: Any) -> Any:
        answers, errors, transfer = ask(infos, **options)
        for answer in answers:
            if wrong == "size":
                answer["size"] -= 1
            else:
                answer["actions"] = {"upload": {"href": "http://127.0.0.1"}}
        return answers, errors, transfer

    with monkeypatch.context() as patch:
        patch.setattr(lfs, "post_lfs_batch_info", distort)
        message = fail(trip.scene)
    assert re.search(r"model-00001.*the Hub does not confirm that it holds [\d,]+ bytes", message)
    (left,) = trip.scene.output.rglob("model*.safetensors")
    assert left.read_bytes() == trip.pushed[left.name]
    trip.check_unfinished()
    restore_to_hub(trip.scene, resume=True)
    trip.check_finished()


def test_a_commit_whose_answer_is_lost_is_found_and_not_made_twice(trip: Trip) -> None:
    trip.hub.fail(Fault(path="/commit/", lost=True, times=1))
    fail(trip.scene)
    restore_to_hub(trip.scene, resume=True)
    trip.check_finished()


def test_a_commit_of_somebody_else_during_the_trip_does_not_stop_it(trip: Trip) -> None:
    class Meanwhile(Watch):
        def begin(self, stage: str, total_bytes: int) -> None:
            super().begin(stage, total_bytes)
            if stage == "restore_and_push":
                trip.repository.commit({"notes.md": b"theirs"})

    restore_to_hub(trip.scene, observer=Meanwhile(trip.scene.output))
    assert pushed_files(trip.hub) == {**trip.pushed, "notes.md": b"theirs"}


def test_after_somebody_elses_commit_a_new_one_follows_on_it(trip: Trip) -> None:
    trip.hub.fail(Fault(path="/commit/", status=412))
    fail(trip.scene)
    trip.hub.heal()
    trip.repository.commit({"notes.md": b"theirs"})
    _, pushed = restore_to_hub(trip.scene, resume=True)
    assert pushed.commit == trip.repository.sha()
    assert pushed_files(trip.hub) == {**trip.pushed, "notes.md": b"theirs"}


def test_a_rename_that_fails_after_the_commit_is_made_up_for_without_another_one(
    trip: Trip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(staging: Staging, moves: object) -> None:
        raise shardrestore.OutputError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "publish", refuse)
        fail(trip.scene)
    trip.hub.forget()
    _, pushed = restore_to_hub(trip.scene, resume=True)
    assert pushed.deleted_bytes == sum(sizes_of(trip.pushed))
    assert trip.hub.requests("/commit/") == []
    trip.check_finished()


def test_what_is_finished_is_pushed_no_second_time(trip: Trip) -> None:
    _, first = restore_to_hub(trip.scene)
    before = snapshot(trip.scene.output)
    trip.hub.forget()
    result, pushed = restore_to_hub(trip.scene, resume=True)
    assert (result.costs.times.restore_seconds, pushed.deleted_bytes) == (0, 0)
    assert pushed == dataclasses.replace(first, deleted_bytes=0, pushed_before=True)
    assert trip.hub.requests("/commit/|objects/batch") == []
    assert snapshot(trip.scene.output) == before
    trip.check_finished()


def test_what_is_finished_is_claimed_to_be_on_no_other_branch(trip: Trip) -> None:
    restore_to_hub(trip.scene)
    with pytest.raises(shardrestore.CheckpointError, match=f"on the Hub, in {ID}.*branch exp"):
        restore_to_hub(trip.scene, resume=True, revision="exp")
    assert trip.repository.branches.keys() == {"main"}
    trip.check_finished()


def test_a_finished_model_whose_weights_are_here_is_pushed_as_it_is(
    hub: Hub, alice: HubClient, scene: Scene
) -> None:
    options = {"percent": 10, "max_memory": BUDGET, "checksum": True}
    shardrestore.restore(scene.base, scene.target, scene.output, **options)
    result, pushed = restore_to_hub(scene, resume=True)
    assert result.costs.times.restore_seconds == 0
    assert pushed.deleted_bytes == sum(sizes(scene.target))
    assert shard_names(scene.output) == []


def test_an_older_model_of_the_same_kind_is_not_taken_for_the_one_on_its_way(trip: Trip) -> None:
    restore_to_hub(trip.scene, "alice/older")
    trip.hub.fail(Fault(path="/commit/", status=403))
    fail(trip.scene, overwrite=True)
    trip.hub.heal()
    _, pushed = restore_to_hub(trip.scene, resume=True, overwrite=True)
    assert pushed.repository == ID
    assert read_note(trip.scene)["repository"] == ID
    trip.check_finished()


def refuse(scene: Scene, call: Callable[[], object], *says: str) -> None:
    before = snapshot(scene.output)
    with pytest.raises(shardrestore.OutputError) as caught:
        call()
    for text in ("unfinished run of other inputs or options", *says):
        assert text in str(caught.value)
    assert snapshot(scene.output) == before


def test_another_destination_or_way_is_refused_by_its_name(trip: Trip) -> None:
    trip.hub.fail(Fault(**PUT, after=1, status=400))
    fail(trip.scene)
    trip.hub.heal()
    scene = trip.scene
    other = f'repository was "{ID}", it is "alice/other"'
    refuse(
        scene,
        lambda: restore_to_hub(scene, "alice/other", resume=True),
        "delete_after_upload",
        other,
    )
    branch = 'branch was "main", it is "k10"'
    refuse(scene, lambda: restore_to_hub(scene, revision="k10", resume=True), branch)
    options = {"percent": 10, "max_memory": BUDGET, "checksum": True, "resume": True}
    refuse(
        scene,
        lambda: shardrestore.restore(scene.base, scene.target, scene.output, **options),
        "delete_after_upload is gone",
    )
    assert "alice/other" not in trip.hub.repositories
    with pytest.raises(shardrestore.CheckpointError, match="repeat its command with --resume"):
        shardrestore.push(scene.output, ID)
    restore_to_hub(scene, resume=True)
    trip.check_finished()


def test_an_ordinary_run_is_not_gone_on_with_as_one_to_the_hub(
    hub: Hub, alice: HubClient, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_names(staging: Staging, moves: object) -> None:
        raise shardrestore.OutputError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "publish", refuse_names)
        with pytest.raises(shardrestore.OutputError):
            shardrestore.restore(
                scene.base, scene.target, scene.output, checksum=True, max_memory=BUDGET
            )
    refuse(scene, lambda: restore_to_hub(scene, resume=True), "delete_after_upload is new")


# --- The command line ---

RUN = ("run", "--base", "base", "--target", "target", "--output", "out", "--push-to", ID)


@pytest.fixture
def cli(hub: Hub, alice: HubClient, scene: Scene) -> Iterator[Callable[..., tuple[int, str, str]]]:
    def run(*args: str) -> tuple[int, str, str]:
        environment = {**hub.environment(scene.root, TOKEN), "COLUMNS": "80"}
        done = run_cli(*args, cwd=scene.root, env=environment)
        assert TOKEN not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def test_run_sends_each_shard_and_reports_both_parts(
    hub: Hub, scene: Scene, cli: Callable[..., tuple[int, str, str]]
) -> None:
    status, stdout, stderr = cli(*RUN, "--delete-after-upload", "--checksum")
    assert (status, stderr) == (0, "")
    assert "restored 1,843 of 18,432" in stdout
    assert f"pushed out to {ID}" in stdout
    assert f"/{ID}/commit/{hub.repositories[ID].sha()}" in stdout
    assert re.search(r"deleted +[\d.]+ kB of weights in the folder", stdout)
    for content in (*read_tree(scene.output).values(), *pushed_files(hub).values()):
        assert TOKEN.encode() not in content
    assert cli(*RUN, "--delete-after-upload", "--checksum", "--resume", "--quiet") == (0, "", "")


def test_a_run_to_the_hub_that_fails_says_how_to_go_on_and_names_no_push(
    hub: Hub, scene: Scene, cli: Callable[..., tuple[int, str, str]]
) -> None:
    hub.fail(Fault(**PUT, after=2, status=403))
    status, stdout, stderr = cli(*RUN, "--delete-after-upload", "--json")
    assert (status, stdout) == (1, "")
    first, *advice = stderr.splitlines()
    assert first.startswith(f"error: {ID}: model-00003-of-")
    assert "you may not write there (403)" in first
    assert "shardrestore push" not in stderr
    assert advice[0] == "finished work is kept; to continue:"
    command = shlex.split(advice[1])
    assert command == ["shardrestore", *RUN, "--delete-after-upload", "--json", "--resume"]
    hub.heal()
    status, stdout, stderr = cli(*command[1:])
    assert (status, stderr) == (0, "")
    document = json.loads(stdout)
    assert document["peak_rss_bytes"] <= document["projected_bytes"]
    pushed = document["pushed"]
    assert pushed["deleted_bytes"] == sum(sizes(scene.target))
    assert set(pushed) == {
        *("output", "repository", "revision", "commit", "url"),
        *("files", "pushed_bytes", "deleted_bytes", "pushed_before", "seconds"),
    }


def test_ctrl_c_stops_an_upload_at_once_and_says_how_to_go_on(
    hub: Hub, scene: Scene, cli: Callable[..., tuple[int, str, str]]
) -> None:
    hub.fail(Fault(**PUT, after=1, delay_seconds=60))
    process = start_cli(
        *RUN,
        "--delete-after-upload",
        cwd=scene.root,
        env=hub.environment(scene.root, TOKEN),
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while put_shards(hub) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.startswith("interrupted\nfinished work is kept; to continue:\n  shardrestore run")
    assert "shardrestore push" not in stderr
    arrived = list(hub.repositories[ID].objects)
    assert len(arrived) == 2  # the answer to the second was only late
    hub.heal()
    hub.forget()
    assert cli(*RUN, "--delete-after-upload", "--resume", "--quiet") == (0, "", "")
    assert not any(hub.requests(oid, method="PUT", server="storage") for oid in arrived)
