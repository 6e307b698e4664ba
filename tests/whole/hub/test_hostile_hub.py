"""A Hub that means harm: nothing is sent where it should not go, and nothing fills up or hangs.

The client guards its own session while something of ours is asked; see `shardrestore.hub.guard`.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import shardrestore
from shardrestore import HubError, RequestError, ShardRestoreError
from shardrestore.hub import limits
from shardrestore.hub.endpoint import show_endpoint, show_host, without_password
from shardrestore.hub.repository import parse_repository
from shardrestore.machine.progress import SilentObserver
from shardrestore.synthetic import LlamaShape, write_pair
from tests.support.hub import Fault, Hub
from tests.support.hub.client import PUSHES, HubClient
from tests.support.hub.messages import Request, Response, answer

SHAPE = LlamaShape(
    num_hidden_layers=1,
    hidden_size=64,
    intermediate_size=128,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=96,
)
TOKEN = "hf_secretOfAlice"
API = r"^/api/models/"
TREE = r"/tree/"
WEIGHTS = r"resolve/.*safetensors$"
STREAMS = [None, "both"]


@pytest.fixture(autouse=True)
def pair(tmp_path: Path, hub: Hub, hub_client: HubClient) -> Path:
    """A pair on disk and on the Hub, where Alice is logged in."""
    write_pair(tmp_path / "pair", SHAPE, shard_bytes=60_000)
    for name, folder in (("base", "base"), ("sft", "target")):
        hub.create(f"acme/{name}", tmp_path / "pair" / folder)
    hub.tokens[TOKEN] = "alice"
    hub_client.log_in(TOKEN)
    return tmp_path / "pair"


@pytest.fixture
def evil() -> Iterator[Hub]:
    """Another host, which should not hear of anything."""
    with Hub() as other:
        yield other


def restore(tmp_path: Path, stream: str | None = None) -> None:
    options: Any = {"percent": 10, "max_memory": "16GiB", "stream": stream}
    shardrestore.restore("acme/base", "acme/sft", tmp_path / "out", **options)


def refuse(tmp_path: Path, pattern: str, stream: str | None = None) -> str:
    """Return the one message of a run that must end in one."""
    with pytest.raises(HubError, match=pattern) as raised:
        restore(tmp_path, stream)
    text = str(raised.value)
    assert "\n" not in text
    assert TOKEN not in text
    return text


# What goes where


def test_pages_of_a_list_are_asked_of_the_hub_alone(tmp_path: Path, hub: Hub, evil: Hub) -> None:
    hub.fail(Fault(path=TREE, adds={"Link": f'<{evil.url}/more>; rel="next"'}))
    text = refuse(tmp_path, "the list of files goes on at")
    assert evil.url in text
    assert hub.url in text
    assert evil.log == []


def test_a_session_made_anew_after_a_failure_is_guarded_too(
    tmp_path: Path, hub: Hub, evil: Hub
) -> None:
    """huggingface_hub makes one when it cannot connect, which a redirection brings about."""
    closed = Hub().start()
    closed.stop()
    hub.fail(Fault(path=API, redirect=closed.url, times=1))
    hub.fail(Fault(path=TREE, adds={"Link": f'<{evil.url}/more>; rel="next"'}))
    refuse(tmp_path, "cannot be reached")
    huggingface_hub.close_session()
    refuse(tmp_path, "the list of files goes on at")
    assert evil.log == []


@PUSHES
def test_the_token_is_not_sent_to_an_address_that_the_hub_names(
    tmp_path: Path, pair: Path, hub: Hub, evil: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = hub.server._handle

    def divert(request: Request) -> Response:
        response = handle(request)
        if not request.path.endswith("/objects/batch"):
            return response
        return answer(
            json.loads(
                response.body.read()
                .replace(b"/info/lfs/objects/verify", b"/x")
                .replace(f"{hub.url}/alice/out.git/x".encode(), f"{evil.url}/verify".encode())
            )
        )

    monkeypatch.setattr(hub.server, "_handle", divert)
    shardrestore.restore(pair / "base", pair / "target", tmp_path / "out", percent=10)
    with pytest.raises(HubError, match="asks for the token to be sent to") as raised:
        shardrestore.push(tmp_path / "out", "alice/out")
    assert evil.url in str(raised.value)
    assert evil.log == []


@pytest.mark.parametrize("address", ["file:///etc", "ftp://127.0.0.1", "data:text/plain,"])
@pytest.mark.parametrize("path", [API, WEIGHTS])
@pytest.mark.parametrize("stream", STREAMS)
def test_what_is_no_web_address_is_refused_at_once(
    tmp_path: Path, hub: Hub, address: str, path: str, stream: str | None
) -> None:
    hub.fail(Fault(path=path, redirect=address))
    started = time.monotonic()
    refuse(tmp_path, "sends on to .*, which is no web address", stream)
    assert time.monotonic() - started < 5


def test_a_password_in_an_address_is_not_quoted(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = hub.url.replace("http://", "http://alice:hf_pass@")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    assert show_endpoint() == without_password(endpoint) == hub.url
    assert show_host(f"{endpoint}/acme?signature") == hub.url
    for address in (f"{endpoint}/acme/base/a/b/c", f"{endpoint}/datasets/acme/base", endpoint):
        with pytest.raises(RequestError) as raised:
            parse_repository(address)
        assert "hf_pass" not in str(raised.value)


# What does not end


def test_a_list_without_end_is_bounded(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_BYTES", 1 << 20)
    hub.fail(
        Fault(
            path=TREE,
            adds={"Link": f'<{hub.url}/api/models/acme/base/tree/x>; rel="next"'},
            body=json.dumps([{"type": "directory", "path": "a", "oid": "0"}]).encode(),
        )
    )
    refuse(tmp_path, "does not stop answering: at most 1,048,576 bytes of memory")
    assert len(hub.requests(TREE)) < 2000


@pytest.mark.parametrize("path", [API, TREE, r"config\.json"])
@pytest.mark.parametrize("piece", [b"[0,", b" "])
def test_an_answer_without_end_is_bounded(
    tmp_path: Path, hub: Hub, path: str, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DOCUMENT_BYTES", 8 << 20)
    hub.fail(Fault(path=path, method="GET", endless=piece))
    refuse(tmp_path, "does not stop answering")
    assert sum(request.sent_bytes for request in hub.requests(path)) < 32 << 20


def test_a_list_that_takes_too_long_is_given_up(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardrestore.hub.listing.LISTING_SECONDS", 0.5)
    link = {"Link": f'<{hub.url}/api/models/acme/base/tree/x>; rel="next"'}
    hub.fail(Fault(path=TREE, adds=link, body=b"[]", delay_seconds=0.05))
    refuse(tmp_path, "does not stop answering: 0 seconds|does not stop answering: 1 seconds")


def test_a_body_that_trickles_is_given_up(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardrestore.hub.bounded.PATIENCE_SECONDS", 0.3)
    hub.fail(Fault(path=WEIGHTS, method="GET", bytes_per_second=200))
    for stream in STREAMS:
        refuse(tmp_path, r"sent \d+ bytes in 0 seconds, expected at least 1,000 a second", stream)


def test_a_compressed_answer_is_refused_before_it_is_unpacked(tmp_path: Path, hub: Hub) -> None:
    bomb = gzip.compress(bytes(100 << 20))
    hub.fail(Fault(path=API, body=bomb, adds={"Content-Encoding": "gzip"}))
    refuse(tmp_path, "answers compressed")


def test_a_download_without_end_is_bounded_by_the_size_that_was_listed(
    tmp_path: Path, hub: Hub, hub_client: HubClient
) -> None:
    headers = 4  # of two shards each, read by ranges first
    hub.fail(Fault(path=WEIGHTS, method="GET", after=headers, endless=b"x" * 1000))
    refuse(tmp_path, "does not stop answering: at most .* bytes for this file")
    kept = sum(path.stat().st_size for path in hub_client.cache.rglob("*") if path.is_file())
    assert kept < 16 << 20


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("path", [API, WEIGHTS])
@pytest.mark.parametrize(
    "patience",
    [{"Retry-After": "86400"}, {"ratelimit": '"api";r=0;t=86400'}],
    ids=["Retry-After", "ratelimit"],
)
def test_to_wait_for_a_day_is_refused(
    tmp_path: Path, hub: Hub, stream: str | None, path: str, patience: dict[str, str]
) -> None:
    hub.fail(Fault(path=path, status=429, headers=patience))
    started = time.monotonic()
    refuse(tmp_path, r"asks to wait 86,400 seconds, longer than the 300 that are waited", stream)
    assert time.monotonic() - started < 5


def test_a_pause_that_a_server_asks_for_is_said(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Notes(SilentObserver):
        def note(self, remark: str) -> None:
            remarks.append(remark)

    remarks: list[str] = []
    monkeypatch.setattr("shardrestore.hub.guard.NOTED_WAIT_SECONDS", 1)
    headers = 4  # of two shards each, read by ranges first
    patience = {"Retry-After": "1"}
    hub.fail(
        Fault(path=WEIGHTS, method="GET", after=headers, times=1, status=429, headers=patience)
    )
    shardrestore.restore("acme/base", "acme/sft", tmp_path / "out", percent=10, observer=Notes())
    assert f"{hub.url} answers 429 and asks to wait 1 seconds" in remarks


# What makes no sense

ENTRY = {"type": "file", "path": "a", "size": 1, "oid": "0"}
NONSENSE = {
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "half a surrogate": b'[{"type":"file","path":"\\ud800","size":1,"oid":"0"}]',
    "numbers": b"[1, 2]",
    "a path of another kind": json.dumps([ENTRY | {"path": 5}]).encode(),
    "a size of another kind": json.dumps([ENTRY | {"size": "1"}]).encode(),
    "a size below zero": json.dumps([ENTRY | {"size": -1}]).encode(),
    "a hash of another kind": json.dumps([ENTRY | {"oid": 7}]).encode(),
    "an object of another kind": json.dumps([ENTRY | {"lfs": [1]}]).encode(),
    "no path": json.dumps([{"type": "file"}]).encode(),
    "a commit that is a path": json.dumps({"id": "acme/base", "sha": "../../../evil"}).encode(),
    "a commit of another kind": json.dumps({"id": "acme/base", "sha": 7}).encode(),
    "a page that is none": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("path", [API, TREE])
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_in_place_of_a_list_is_one_message(
    tmp_path: Path, hub: Hub, path: str, name: str
) -> None:
    hub.fail(Fault(path=path, method="GET", body=NONSENSE[name]))
    refuse(tmp_path, ".")


@PUSHES
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_while_a_model_is_pushed_is_one_message(
    tmp_path: Path, pair: Path, hub: Hub, name: str
) -> None:
    shardrestore.restore(pair / "base", pair / "target", tmp_path / "out", percent=10)
    for path in (
        "/whoami",
        "/api/models/alice/out$",
        "/preupload/",
        "/objects/batch",
        "/commit/",
        TREE,
        "/api/repos/create",
    ):
        hub.repositories.pop("alice/out", None)
        hub.heal()
        hub.fail(Fault(path=path, body=NONSENSE[name]))
        with suppress(HubError):  # or it does not matter
            shardrestore.push(tmp_path / "out", "alice/out")


def test_others_use_the_same_session_as_before(hub: Hub, tmp_path: Path) -> None:
    session = huggingface_hub.get_session()
    restore(tmp_path)
    assert huggingface_hub.get_session() is session
    hub.fail(Fault(path="/mine", body=gzip.compress(b"{}"), adds={"Content-Encoding": "gzip"}))
    assert session.get(f"{hub.url}/mine").json() == {}


HEADERS = {
    "no size": {"X-Linked-Size": "many"},
    "a huge size": {"X-Linked-Size": "9" * 5000},
    "no ETag": {"X-Linked-Etag": "", "ETag": ""},
    "another commit": {"X-Repo-Commit": "../../evil"},
    "a link that is none": {"Link": "<<<>>>; rel=next; ,,,"},
    "a page at no address": {"Link": '<http://[>; rel="next"'},
    "a pause that is none": {"Retry-After": "soon", "ratelimit": "r=;t=-1"},
    "an encoding of its own": {"Content-Encoding": "zstd, br, gzip"},
}
PLACES = ["http://[::1", "//", "", "http://127.0.0.1:99999/", "http:", "\\\\host\\share", "?"]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_make_no_sense_end_in_one_message_or_do_not_matter(
    tmp_path: Path, hub: Hub, name: str, stream: str | None
) -> None:
    for number, path in enumerate((API, TREE, WEIGHTS, "resolve/")):
        hub.heal()
        hub.fail(Fault(path=path, adds=HEADERS[name]))
        options: Any = {"percent": 10, "max_memory": "16GiB", "stream": stream}
        with suppress(ShardRestoreError):
            shardrestore.restore("acme/base", "acme/sft", tmp_path / f"out-{number}", **options)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("place", PLACES)
def test_redirections_to_nowhere_end_in_one_message(
    tmp_path: Path, hub: Hub, place: str, stream: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardrestore.hub.ranges.WAITS_SECONDS", (0.0,) * 5)
    for path in (API, WEIGHTS):
        hub.heal()
        hub.fail(Fault(path=path, status=302, headers={"Location": place}))
        refuse(tmp_path, ".", stream)
