"""What is read from the Hub is compared with the hashes that its commits list."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import shardrestore
from shardrestore import HubError
from shardrestore.hub import content
from shardrestore.machine.progress import SilentObserver
from shardrestore.synthetic import LlamaShape, write_pair
from tests.support.checkpoints import read_tree
from tests.support.hub import Hub
from tests.support.hub.blobs import Blob
from tests.support.hub.client import HubClient
from tests.support.hub.messages import Request, Response
from tests.support.modules import build, state, stored_of

SHAPE = LlamaShape(
    num_hidden_layers=1,
    hidden_size=64,
    intermediate_size=128,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=96,
)
SHARD = "model-00001-of-00002.safetensors"


class Notes(SilentObserver):
    def __init__(self) -> None:
        self.remarks: list[str] = []

    def note(self, remark: str) -> None:
        self.remarks.append(remark)


@pytest.fixture(autouse=True)
def pair(tmp_path: Path, hub: Hub, hub_client: HubClient) -> Path:
    write_pair(tmp_path / "pair", SHAPE, shard_bytes=60_000)
    (tmp_path / "pair" / "target" / "tokenizer.json").write_text('{"a": 1}')
    for name, folder in (("base", "base"), ("sft", "target")):
        hub.create(f"acme/{name}", tmp_path / "pair" / folder)
    return tmp_path / "pair"


def restore(tmp_path: Path, name: str = "out", **options: Any) -> Path:
    shardrestore.restore("acme/base", "acme/sft", tmp_path / name, percent=10, **options)
    return tmp_path / name


def find_copy(client: HubClient, repository: str, name: str) -> Path:
    """Return the blob that the cache has of a file."""
    folder = client.cache / f"models--acme--{repository}" / "snapshots"
    (found,) = folder.glob(f"*/{name}")
    return found.resolve()


def spoil(path: Path) -> None:
    """Change a byte, and neither size nor place."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that were asked for."""
    seen: list[str] = []
    hash_content = content.hash_content

    def listen(read: Any, nbytes: int, etag: str, advance: Callable[[int], None]) -> str:
        seen.append(etag)
        return hash_content(read, nbytes, etag, advance)

    monkeypatch.setattr("shardrestore.hub.file.hash_content", listen)
    return seen


@pytest.mark.parametrize("repository", ["base", "sft"])
@pytest.mark.parametrize("action", ["restore", "scan"])
def test_a_damaged_copy_of_weights_ends_whatever_reads_it(
    tmp_path: Path, hub_client: HubClient, repository: str, action: str
) -> None:
    restore(tmp_path)
    copy = find_copy(hub_client, repository, SHARD)
    spoil(copy)
    again = tmp_path / "again"
    act: Any = shardrestore.restore if action == "restore" else shardrestore.scan
    expected = rf"{SHARD}: its copy in the cache, .* has SHA-256 \w+, the commit lists {copy.name}"
    with pytest.raises(HubError, match=expected):
        act("acme/base", "acme/sft", again)
    assert not again.exists()


def test_a_damaged_base_leaves_a_module_as_it_was(
    tmp_path: Path, pair: Path, hub_client: HubClient
) -> None:
    restore(tmp_path)
    spoil(find_copy(hub_client, "base", SHARD))
    tensors: dict[str, torch.Tensor] = {}
    for path in (pair / "target").glob("*.safetensors"):
        tensors |= load_file(path)
    module = build({name: stored_of(tensor) for name, tensor in tensors.items()})
    before = state(module)
    with pytest.raises(HubError, match="has SHA-256"):
        shardrestore.restore_module(module, "acme/base", stream=None, region="all")
    assert state(module) == before


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors.index.json"])
def test_a_damaged_copy_of_any_other_file_is_found_by_its_git_id(
    tmp_path: Path, hub_client: HubClient, name: str
) -> None:
    restore(tmp_path)
    copy = find_copy(hub_client, "sft", name)
    copy.write_text(copy.read_text().replace("1", "2").replace("a", "b"))
    with pytest.raises(HubError, match=rf"{re.escape(name)}: .* has git id"):
        restore(tmp_path, "again")
    assert not (tmp_path / "again").exists()


def test_nothing_that_a_wrong_copy_said_is_gone_on_with(
    tmp_path: Path, hub_client: HubClient
) -> None:
    whole = read_tree(restore(tmp_path))
    copy = find_copy(hub_client, "base", SHARD)
    spoil(copy)
    with pytest.raises(HubError):
        restore(tmp_path, "again")
    copy.unlink()
    again = read_tree(restore(tmp_path, "again", resume=True))
    own = ("report.html", "README.md")
    assert {n: d for n, d in again.items() if n not in own} == {
        n: d for n, d in whole.items() if n not in own
    }


def test_what_a_server_sends_instead_of_what_it_lists_is_found(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size, so that nothing else shows it."""
    handle = hub.server._handle
    true = (tmp_path / "pair" / "target" / SHARD).read_bytes()

    def lie(request: Request) -> Response:
        response = handle(request)
        if request.path.endswith(SHARD) and "sft" in request.path and request.method == "GET":
            response.body = Blob(true[:-1] + bytes([true[-1] ^ 1]))
        return response

    monkeypatch.setattr(hub.server, "_handle", lie)
    out = restore(tmp_path, stream="both")
    with pytest.raises(HubError, match=f"what is served has SHA-256 .*{sha256(true).hexdigest()}"):
        shardrestore.verify(out, stream="both", inputs=True)
    with pytest.raises(HubError, match=f"its copy in the cache, .*{sha256(true).hexdigest()}"):
        restore(tmp_path, "downloaded")


def test_a_file_is_hashed_once_until_it_changes(
    tmp_path: Path, hub_client: HubClient, hashed: list[str]
) -> None:
    restore(tmp_path)
    first = len(hashed)
    assert first == 4 + 1 + 4  # shards, the tokenizer, indexes and configurations
    restore(tmp_path, "again")
    assert len(hashed) == first
    os.utime(find_copy(hub_client, "base", SHARD))
    restore(tmp_path, "and again")
    assert len(hashed) == first + 1


def test_a_cache_that_cannot_be_written_is_hashed_each_time(
    tmp_path: Path, hub_client: HubClient, hashed: list[str]
) -> None:
    restore(tmp_path)
    first = len(hashed)
    for name in ("base", "sft"):
        marks = hub_client.cache / f"models--acme--{name}" / ".shardrestore"
        for mark in marks.iterdir():
            mark.unlink()
        marks.rmdir()
        marks.write_text("in the way")
    restore(tmp_path, "again")
    assert len(hashed) >= 2 * first


def test_offline_the_names_of_blobs_are_what_they_are_compared_with(
    tmp_path: Path, hub_client: HubClient
) -> None:
    restore(tmp_path)
    for trees in hub_client.cache.glob("*/trees/*"):
        trees.unlink()  # so that nobody knows what the commit lists
    hub_client.go_offline()
    restore(tmp_path, "offline")
    spoil(find_copy(hub_client, "base", SHARD))
    with pytest.raises(HubError, match="has SHA-256"):
        restore(tmp_path, "again")


def test_that_streamed_weights_are_not_compared_is_said(tmp_path: Path) -> None:
    notes = Notes()
    out = restore(tmp_path, stream="base", observer=notes)
    (remark,) = (text for text in notes.remarks if "SHA-256" in text)
    assert remark.startswith("base acme/base: weights are read from the Hub as they are needed")
    report = shardrestore.verify(out, stream="both", inputs=True)
    sizes = [p.stat().st_size for p in (tmp_path / "pair").glob("*/*.safetensors")]
    assert report.ok
    assert report.hashed_input_bytes == sum(sizes)
    assert shardrestore.verify(out).hashed_input_bytes is None


def test_local_inputs_have_no_hash_to_be_compared_with(tmp_path: Path, pair: Path) -> None:
    shardrestore.restore(pair / "base", pair / "target", tmp_path / "out", percent=10)
    assert shardrestore.verify(tmp_path / "out", inputs=True).hashed_input_bytes == 0
