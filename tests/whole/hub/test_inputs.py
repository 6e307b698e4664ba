"""Checkpoints on the Hub: named, looked at, downloaded or streamed, and the same as on disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import shardrestore
from shardrestore import CheckpointError, HubError, OutputError, RequestError
from shardrestore.hub import readahead
from shardrestore.inputs.reference import open_checkpoint
from shardrestore.machine.progress import SilentObserver
from shardrestore.synthetic import LlamaShape, write_pair
from tests.support.checkpoints import read_tree
from tests.support.examples import examples
from tests.support.hub import Fault, Hub, Repository
from tests.support.hub.blobs import Blob
from tests.support.hub.client import HubClient, turned_client
from tests.support.hub.messages import Response
from tests.support.runs import BUDGET, Run, runs, scratch

SHAPE = LlamaShape(
    num_hidden_layers=2,
    hidden_size=64,
    intermediate_size=128,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=96,
)
STREAMS = (None, "base", "target", "both")


class Notes(SilentObserver):
    def __init__(self) -> None:
        self.stages: dict[str, int] = {}
        self.remarks: list[str] = []
        self._stage = ""

    def note(self, remark: str) -> None:
        self.remarks.append(remark)

    def begin(self, stage: str, total_bytes: int) -> None:
        self.stages[stage] = -total_bytes
        self._stage = stage

    def advance(self, nbytes: int) -> None:
        self.stages[self._stage] += nbytes


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A sharded pair on disk; the target has side files, and weights that nobody needs."""
    folder = tmp_path / "pair"
    write_pair(folder, SHAPE, shard_bytes=60_000)
    target = folder / "target"
    (target / "tokenizer.json").write_text("{}")
    (target / "code").mkdir()
    (target / "code" / "model.py").write_text("pass\n")
    (target / "pytorch_model.bin").write_bytes(bytes(5000))
    (target / "optimizer.pt").write_bytes(bytes(5000))
    (target / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (folder / "base" / "tokenizer.json").write_text("of no use")
    return folder


@pytest.fixture
def sft(hub: Hub, hub_client: HubClient, pair: Path) -> Repository:
    """The pair on the Hub, as acme/base and acme/sft."""
    hub.create("acme/base", pair / "base")
    return hub.create("acme/sft", pair / "target")


def restore(tmp_path: Path, name: str = "out", **options: Any) -> Path:
    inputs = [options.pop("base", "acme/base"), options.pop("target", "acme/sft")]
    options = {"percent": 10, "max_memory": BUDGET} | options
    shardrestore.restore(*inputs, tmp_path / name, **options)
    return tmp_path / name


def weights(folder: Path) -> dict[str, bytes]:
    """Return everything in a model folder but the record and the card, which name the inputs."""
    tree = read_tree(folder)
    return {name: data for name, data in tree.items() if name not in OWN}


OWN = ("shardrestore.json", "README.md", "report.html")


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.usefixtures("sft")
def test_what_is_made_of_repositories_is_what_is_made_of_folders(
    tmp_path: Path, pair: Path, stream: str | None
) -> None:
    local = restore(tmp_path, "local", base=pair / "base", target=pair / "target")
    found = restore(tmp_path, stream=stream)
    assert weights(found) == weights(local)
    assert {"tokenizer.json", "code/model.py"} <= set(read_tree(found))


@given(runs())
@examples(10)
def test_streaming_downloading_and_reading_locally_agree(run: Run) -> None:
    with scratch() as folder, Hub() as hub:
        run.write(folder)
        hub.create("acme/base", folder / "base")
        hub.create("acme/target", folder / "target")
        run.restore(folder, "local")
        trees = []
        for stream in ("both", None):
            with turned_client(hub, folder / f"home-{stream}"):
                output = folder / f"hub-{stream}"
                run.restore_from("acme/base", "acme/target", output, stream=stream)
            trees.append(read_tree(folder / f"hub-{stream}"))
        streamed, downloaded = trees
        for own in OWN:
            assert streamed.pop(own, None) == downloaded.pop(own, None) or own == "report.html"
        assert streamed == downloaded == weights(folder / "local")


@pytest.mark.parametrize(
    "reference",
    ["acme/sft@main", "acme/sft@v1", "acme/sft@{commit}", "hf://acme/sft", "hf://acme/sft@v1",
     "hf://models/acme/sft", "acme/sft@refs/pr/1", "hf://acme/sft@refs/pr/1", "{url}/acme/sft"],
)  # fmt: skip
def test_every_way_to_name_a_repository_leads_to_its_commit(
    tmp_path: Path, hub: Hub, sft: Repository, reference: str
) -> None:
    commit = sft.sha()
    sft.tag("v1")
    sft.pull_request(1)
    named = reference.format(commit=commit, url=hub.url)
    record = json.loads((restore(tmp_path, target=named) / "shardrestore.json").read_bytes())
    assert record["target"]["commit"] == commit
    assert record["target"]["path"] == f"hf://acme/sft@{commit}"
    assert record["target"]["repository"] == "acme/sft"
    assert shardrestore.verify(tmp_path / "out", max_memory=BUDGET).ok


def test_all_bytes_are_of_the_commit_that_was_resolved_first(
    tmp_path: Path, pair: Path, hub: Hub, sft: Repository
) -> None:
    class Pusher(Notes):
        def begin(self, stage: str, total_bytes: int) -> None:
            super().begin(stage, total_bytes)
            if stage == "scan":
                sft.commit({"model-00001-of-00005.safetensors": b"other weights"})

    local = restore(tmp_path, "local", base=pair / "base", target=pair / "target")
    found = restore(tmp_path, stream="both", observer=Pusher())
    assert weights(found) == weights(local)


@pytest.mark.usefixtures("sft")
def test_a_plan_moves_headers_and_documents_alone(hub: Hub, tmp_path: Path) -> None:
    plan = shardrestore.plan("acme/base", "acme/sft", tmp_path / "out", max_memory=BUDGET)
    weight_bytes = plan.base_bytes + plan.target_bytes
    assert plan.download_bytes > weight_bytes  # and the target's side files
    assert not hub.requests(r"\.bin|\.pt$|tokenizer|model\.py", method="GET")
    ranged = hub.requests(r"resolve/.*\.safetensors$", method="GET")
    assert {request.status for request in ranged} == {206}
    streamed = shardrestore.plan("acme/base", "acme/sft", stream="both", max_memory=BUDGET)
    assert streamed.download_bytes == plan.download_bytes - weight_bytes


@pytest.mark.usefixtures("sft")
def test_nothing_is_downloaded_that_is_not_needed(hub: Hub, tmp_path: Path) -> None:
    notes = Notes()
    restore(tmp_path, observer=notes)
    assert notes.stages["download"] == 0, "all that was announced has arrived, and no more"
    assert not hub.requests(r"\.bin$|\.pt$|gitattributes")
    assert not hub.requests(r"acme/base/.*tokenizer", method="GET")


@pytest.mark.usefixtures("sft")
def test_streaming_leaves_no_weight_in_the_cache(tmp_path: Path, hub_client: HubClient) -> None:
    restore(tmp_path, stream="both")
    assert not list(hub_client.cache.rglob("*.safetensors"))


@pytest.mark.usefixtures("sft")
def test_cached_files_are_used_in_place_and_never_written(
    hub: Hub, tmp_path: Path, hub_client: HubClient
) -> None:
    restore(tmp_path, "first")
    before = {path: path.stat().st_mtime_ns for path in hub_client.cache.rglob("*")}
    hub.forget()
    restore(tmp_path, "second", stream="both")
    assert not hub.requests(r"\.safetensors", method="GET")
    now = {path: path.stat().st_mtime_ns for path in hub_client.cache.rglob("*") if path in before}
    changed = [path for path, time in now.items() if time != before[path] and path.is_file()]
    assert [path for path in changed if "refs" not in path.parts] == []


@pytest.mark.usefixtures("sft")
def test_offline_the_cache_serves(tmp_path: Path, hub_client: HubClient, hub: Hub) -> None:
    first = restore(tmp_path, "first")
    hub_client.go_offline()
    notes = Notes()
    assert weights(restore(tmp_path, "second", observer=notes)) == weights(first)
    assert [remark for remark in notes.remarks if "read from the cache" in remark]
    records = [
        json.loads((tmp_path / n / "shardrestore.json").read_bytes()) for n in ("first", "second")
    ]
    assert records[0]["target"] == records[1]["target"]


@pytest.mark.usefixtures("sft")
def test_a_hub_that_is_down_is_replaced_by_the_cache(
    tmp_path: Path, hub: Hub, hub_client: HubClient
) -> None:
    first = restore(tmp_path, "first")
    hub.stop()
    assert weights(restore(tmp_path, "second")) == weights(first)


@pytest.mark.usefixtures("sft")
def test_a_shard_that_is_not_cached_is_named_when_offline(
    tmp_path: Path, hub_client: HubClient
) -> None:
    shardrestore.plan("acme/base", "acme/sft", max_memory=BUDGET)
    hub_client.go_offline()
    with pytest.raises(HubError, match=r"model-0000.*: not in the cache.*HF_HUB_OFFLINE"):
        restore(tmp_path)


@pytest.mark.usefixtures("sft")
def test_a_side_file_that_is_not_cached_is_not_left_out_in_silence(
    tmp_path: Path, hub_client: HubClient
) -> None:
    restore(tmp_path, "first")
    next(hub_client.cache.rglob("models--acme--sft/**/tokenizer.json")).unlink()
    hub_client.go_offline()
    with pytest.raises(HubError, match=r"tokenizer\.json: not in the cache"):
        restore(tmp_path, "second")


@pytest.mark.usefixtures("sft")
def test_a_local_folder_wins_and_says_so_where_the_repository_was_used(
    tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unused, used = Notes(), Notes()
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pair / "base", tmp_path / "acme" / "other")
    restore(tmp_path, "first", base="acme/other", observer=unused)
    assert not [remark for remark in unused.remarks if "local folder" in remark]
    restore(tmp_path, "second")
    shutil.copytree(pair / "base", tmp_path / "acme" / "base")
    found = restore(tmp_path, observer=used)
    assert [r for r in used.remarks if "acme/base: the local folder, not the Hub's" in r]
    record = json.loads((found / "shardrestore.json").read_bytes())
    assert record["base"]["path"] == str(tmp_path / "acme" / "base")
    assert record["target"]["repository"] == "acme/sft"


def test_a_path_object_is_never_a_repository(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        restore(tmp_path, base=Path("acme/base"))


def test_profiles_sweeps_and_several_targets_work_from_the_hub(
    tmp_path: Path, pair: Path, sft: Repository
) -> None:
    profile = tmp_path / "p.safetensors"
    shardrestore.scan("acme/base", "acme/sft", profile, stream="both", max_memory=BUDGET)
    local = restore(tmp_path, "local", base=pair / "base", target=pair / "target", profile=profile)
    assert weights(restore(tmp_path, profile=profile, stream="both")) == weights(local)
    sft.tag("v1")
    outcomes = shardrestore.sweep_targets(
        "acme/base", ["acme/sft", "acme/sft@v1"], tmp_path / "many", percents=[10],
        max_memory=BUDGET, stream="target",
    )  # fmt: skip
    assert [outcome.error for outcome in outcomes] == [None, None]
    for name in ("sft", "sft@v1"):
        made = tmp_path / "many" / name / "restore_transformer_top_10pct"
        assert weights(made) == weights(local)


REFUSALS: dict[str, tuple[Callable[[Hub], object], dict[str, str], type[Exception], str]] = {
    "unknown repository": (lambda hub: None, {"base": "acme/nothing"}, HubError,
                           "acme/nothing: no such folder, and no such repo.*auth login.*private"),
    "unknown revision": (lambda hub: None, {"target": "acme/sft@v9"}, HubError,
                         "acme/sft@v9: no such revision"),
    "unknown commit": (lambda hub: None, {"target": "acme/sft@" + "0" * 40}, HubError,
                       "no such revision"),
    "private": (lambda hub: hub.create("acme/secret", {"a": b""}, private=True),
                {"base": "acme/secret"}, HubError, "hf auth login., if it is private"),
    "gated": (lambda hub: hub.create("acme/gated", {"model.safetensors": bytes(99)}, gated=True),
              {"base": "acme/gated"}, HubError,
              "gated: request access at http.*/acme/gated, then log in with `hf auth login`"),
    "no safetensors": (lambda hub: hub.create("acme/old", {"pytorch_model.bin": b"x"}),
                       {"base": "acme/old"}, CheckpointError, "acme/old: holds pytorch_model.bin"),
    "an adapter": (lambda hub: hub.create("acme/lora", {"adapter_model.safetensors": b"x"}),
                   {"base": "acme/lora"}, CheckpointError, "adapter"),
    "data set": (lambda hub: None, {"base": "hf://datasets/acme/base"}, RequestError, "dataset"),
    "ignores ranges": (lambda hub: hub.fail(Fault(path="safetensors", ignores_range=True)), {},
                       HubError, "status 200 instead of 206.*ignores ranges"),
    "wrong range": (lambda hub: hub.fail(Fault(path="safetensors", shift_bytes=8)), {}, HubError,
                    "Content-Range 'bytes 8-.*' instead of 'bytes 0-"),
    "no address": (lambda hub: None, {"base": "http://[acme/base"}, RequestError,
                   "not an address on the Hub"),
    "wrong total": (lambda hub: hub.fail(Fault(path="safetensors", total_bytes=7)), {}, HubError,
                    "Content-Range"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("stream", [None, "both"])
@pytest.mark.usefixtures("sft")
def test_what_cannot_be_had_is_told_before_anything_is_written(
    tmp_path: Path, hub: Hub, name: str, stream: str | None
) -> None:
    prepare, references, kind, message = REFUSALS[name]
    prepare(hub)
    with pytest.raises(kind, match=message) as raised:
        restore(tmp_path, stream=stream, **references)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("sft")
def test_a_token_that_the_hub_does_not_know_is_told_even_of_a_public_repository(
    tmp_path: Path, hub_client: HubClient
) -> None:
    hub_client.log_in("hf_stale")
    with pytest.raises(HubError, match=r"does not know your token \(401\): correct HF_TOKEN"):
        restore(tmp_path)


@pytest.mark.usefixtures("sft")
def test_a_disk_too_small_for_the_download_is_told_first(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = shardrestore.plan("acme/base", "acme/sft", tmp_path / "out", max_memory=BUDGET)
    free = plan.disk_needed_bytes + plan.download_bytes - 1
    monkeypatch.setattr("shardrestore.runs.outputs.free_bytes", lambda place: free)
    hub.forget()
    with pytest.raises(OutputError, match=r"not enough disk[\s\S]*--stream"):
        restore(tmp_path)
    assert not hub.requests("tokenizer", method="GET")
    restore(tmp_path, stream="both")


def test_inputs_that_fill_the_cache_s_disk_together_are_told_first(
    sft: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = shardrestore.plan("acme/base", "acme/sft", tmp_path / "out", max_memory=BUDGET)

    def is_cache(place: Path) -> bool:
        return "huggingface" in place.parts

    monkeypatch.setattr("shardrestore.runs.outputs._find_disk", is_cache)
    monkeypatch.setattr(
        "shardrestore.runs.outputs.free_bytes",
        lambda place: plan.download_bytes - 1 if is_cache(place) else 1 << 40,
    )
    with pytest.raises(OutputError, match=f"not enough disk to download: {plan.download_bytes:,}"):
        restore(tmp_path)


def test_of_a_shard_s_beginning_only_the_header_is_kept(sft: Repository) -> None:
    with open_checkpoint("acme/sft", "target") as target:
        for shard in target.shards:
            assert len(shard.source._head) == shard.header.data_start  # type: ignore[attr-defined]


def test_cached_files_that_nobody_reads_are_not_open(sft: Repository, tmp_path: Path) -> None:
    sft.commit({f"evaluation/{number}.json": b"{}" for number in range(40)})
    restore(tmp_path)
    before = len(os.listdir("/dev/fd"))
    with open_checkpoint("acme/sft", "target") as target:
        assert all(file.on_disk for file in target.side_files.copied)
        assert len(os.listdir("/dev/fd")) - before < 40


def test_a_cached_shard_is_the_same_to_a_resumed_run_when_offline(
    sft: Repository, tmp_path: Path, hub_client: HubClient
) -> None:
    def identities() -> list[dict[str, Any]]:
        with open_checkpoint("acme/sft", "target") as target:
            return [shard.source.identity() for shard in target.shards]

    online = identities()
    restore(tmp_path)
    hub_client.go_offline()
    assert identities() == online


UNUSABLE = {
    "a log-in page": b"<html>Welcome to the hotel</html>",
    "nothing": b"null",
    "a list": b"[]",
    "a model without a commit": b'{"id": "acme/base"}',
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.usefixtures("sft")
def test_what_answers_as_no_hub_does_is_one_message(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    page = Response(body=Blob(UNUSABLE[name]))
    monkeypatch.setattr(hub.server, "_handle", lambda request: page)
    with pytest.raises(HubError, match=r"answers what no Hub does.*HF_ENDPOINT") as raised:
        restore(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_token_that_no_request_can_carry_is_not_quoted(
    sft: Repository, tmp_path: Path, hub_client: HubClient
) -> None:
    hub_client.log_in("hf_secretÄ")
    with pytest.raises(HubError, match="the token, has a character") as raised:
        restore(tmp_path)
    assert "hf_secret" not in str(raised.value)


def test_a_password_in_the_endpoint_is_not_quoted(
    sft: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    endpoint = hub.url.replace("http://", "http://alice:hf_secret@")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    with pytest.raises(HubError, match=r"no such repository on http://127\.") as raised:
        restore(tmp_path, base="acme/nothing")
    assert "hf_secret" not in str(raised.value)


def test_names_that_leave_the_folder_are_refused(hub: Hub, sft: Repository, tmp_path: Path) -> None:
    sft.commit({"../../evil.txt": b"x"})
    with pytest.raises(HubError, match="lists a file named"):
        restore(tmp_path)


@pytest.mark.parametrize("redirects", [False, True])
@pytest.mark.parametrize("stream", [None, "both"])
def test_the_token_goes_to_the_hub_alone(
    tmp_path: Path, hub: Hub, hub_client: HubClient, pair: Path, redirects: bool, stream: str | None
) -> None:
    hub.redirects = redirects
    hub.tokens["hf_secret_of_alice"] = "alice"
    hub.create("alice/base", pair / "base", private=True)
    hub.create("alice/sft", pair / "target", private=True)
    hub_client.log_in("hf_secret_of_alice")
    out = restore(tmp_path, base="alice/base", target="alice/sft", stream=stream)
    elsewhere = hub.requests(server="storage")
    assert bool(elsewhere) == redirects
    assert [r for r in elsewhere if "authorization" in r.headers] == []
    assert not any(b"hf_secret" in data for data in read_tree(out).values())


@pytest.mark.parametrize("stream", [None, "both"])
@pytest.mark.usefixtures("sft")
def test_a_token_does_not_follow_to_another_host(
    tmp_path: Path, hub: Hub, hub_client: HubClient, stream: str | None
) -> None:
    hub.tokens["hf_secret_of_alice"] = "alice"
    hub_client.log_in("hf_secret_of_alice")
    with Hub() as evil:
        hub.fail(Fault(path=r"resolve/.*safetensors", redirect=evil.url))
        with pytest.raises(HubError) as raised:
            restore(tmp_path, stream=stream)
        assert [r for r in evil.log if "authorization" in r.headers] == []
    assert "hf_secret" not in str(raised.value)


def test_reading_ahead_holds_what_the_budget_counts() -> None:
    from shardrestore.plan import memory

    assert memory.READ_AHEAD_BLOCKS == readahead.DEPTH * readahead.PART_BLOCKS
