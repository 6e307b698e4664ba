"""Ranged reads: what a network or a mirror may do to them, and what is believed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore import HubError
from shardrestore.hub import ranges, readahead
from shardrestore.hub.ranges import Place, RangeReader
from shardrestore.hub.readahead import Connections, ReadAhead
from shardrestore.hub.repository import Repository
from shardrestore.inputs.snapshot import Snapshot, open_snapshot
from tests.support.hub import Fault, Hub
from tests.support.hub.client import HubClient

DATA = np.random.default_rng(0).bytes(300_000)
NAME = "model.safetensors"


def never() -> None:
    """Nobody asks to stop."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "WAITS_SECONDS", (0.001,) * 5)


@pytest.fixture
def place(hub: Hub, hub_client: HubClient) -> Place:
    commit = hub.create("acme/model", {NAME: DATA}).sha()
    return place_at(commit)


def place_at(commit: str) -> Place:
    snapshot = open_snapshot(Repository(id="acme/model", revision=commit))
    assert isinstance(snapshot, Snapshot)
    try:
        return snapshot._places[NAME]
    finally:
        snapshot.close()


def read(place: Place, offset: int = 1000, nbytes: int = 200_000) -> bytes:
    buffer = bytearray(nbytes)
    reader = RangeReader(place)
    try:
        reader.read_into(offset, memoryview(buffer))
    finally:
        reader.close()
    return bytes(buffer)


TRANSIENT = {
    "429": Fault(path=NAME, method="GET", status=429, times=2),
    "429 with Retry-After": Fault(
        path=NAME, method="GET", status=429, headers={"Retry-After": "0"}, times=2
    ),
    "500": Fault(path=NAME, method="GET", status=500, times=2),
    "503": Fault(path=NAME, method="GET", status=503, times=5),
    "503 to the first question": Fault(path=NAME, method="HEAD", status=503, times=2),
    "reset": Fault(path=NAME, method="GET", reset=True, times=3),
    "reset at the first question": Fault(path=NAME, method="HEAD", reset=True, times=2),
    "cut": Fault(path=NAME, method="GET", cut_after_bytes=70_000, times=2),
    "cut at once": Fault(path=NAME, method="GET", cut_after_bytes=0, times=2),
}


@pytest.mark.parametrize("redirects", [False, True])
@pytest.mark.parametrize("name", TRANSIENT)
def test_what_passes_is_tried_again(hub: Hub, place: Place, name: str, redirects: bool) -> None:
    hub.redirects = redirects
    armed = hub.fail(TRANSIENT[name])
    assert read(place) == DATA[1000:201_000]
    assert armed.hits == TRANSIENT[name].times


def test_a_body_cut_short_goes_on_where_it_stopped(hub: Hub, place: Place) -> None:
    hub.forget()
    hub.fail(Fault(path=NAME, method="GET", cut_after_bytes=50_000))
    assert read(place) == DATA[1000:201_000], "each try has brought some bytes: none is the last"
    asked = [request.headers["range"] for request in hub.requests(NAME, method="GET")]
    assert asked[:2] == ["bytes=1000-200999", "bytes=51000-200999"]


LASTING = {
    "503": (Fault(path=NAME, method="GET", status=503), "503, 6 times in a row: try again later"),
    "reset": (Fault(path=NAME, method="GET", reset=True), "6 times in a row"),
    "429": (Fault(path=NAME, method="GET", status=429), "429, 6 times"),
    "ignores the range": (Fault(path=NAME, ignores_range=True), "status 200 instead of 206"),
    "another range": (Fault(path=NAME, shift_bytes=1), "Content-Range 'bytes 1001-201000/300000'"),
    "another size": (Fault(path=NAME, total_bytes=300_001), "Content-Range"),
    "fewer bytes": (Fault(path=NAME, missing_bytes=1), "199999 bytes instead of 200000"),
    "deleted": (
        Fault(path=NAME, status=404, error_code="EntryNotFound"),
        "no such file in that commit: was it moved or deleted?",
    ),
    "gone": (Fault(path=NAME, status=404, error_code="RepoNotFound"), "no such repository"),
    "gated": (Fault(path=NAME, status=403, error_code="GatedRepo"), "gated: request access"),
    "forbidden": (Fault(path=NAME, status=403), "the Hub refuses .403"),
    "teapot": (Fault(path=NAME, status=418), "the Hub answers 418"),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_does_not_pass_is_one_message(hub: Hub, place: Place, name: str) -> None:
    fault, message = LASTING[name]
    hub.fail(fault)
    with pytest.raises(HubError, match=message) as raised:
        read(place)
    text = str(raised.value)
    assert text.startswith(f"acme/model@{place.commit[:12]}: {NAME}: ")
    assert "\n" not in text
    assert "http" not in text.replace(f"{hub.url}/acme/model", "").replace(hub.url, "")


def test_a_server_that_says_when_is_asked_then(
    hub: Hub, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", lambda self, timeout=None: waited.append(timeout))
    hub.fail(Fault(path=NAME, method="GET", status=429, headers={"Retry-After": "7"}, times=1))
    read(place)
    assert 7.0 in waited


def test_an_expired_address_is_asked_for_again(hub: Hub, place: Place) -> None:
    hub.redirects = True
    reader = RangeReader(place)
    buffer = bytearray(100)
    reader.read_into(0, memoryview(buffer))
    hub.expire_links()
    reader.read_into(100, memoryview(buffer))
    assert bytes(buffer) == DATA[100:200]
    assert len(hub.requests(NAME, method="HEAD")) == 2
    reader.close()


def test_the_hub_is_asked_once_where_a_file_is(hub: Hub, place: Place) -> None:
    hub.redirects = True
    hub.forget()
    reader, buffer = RangeReader(place), bytearray(100)
    for offset in range(0, 1000, 100):
        reader.read_into(offset, memoryview(buffer))
    assert len(hub.requests(NAME, server="hub")) == 1
    reader.close()


def test_another_file_under_the_same_name_is_refused(hub: Hub, place: Place) -> None:
    other = Place(
        repository=place.repository, commit=place.commit, name=NAME, nbytes=300_000, etag="0" * 64
    )
    with pytest.raises(HubError, match="ETag"):
        read(other)


def test_closing_wakes_whoever_waits(hub: Hub, place: Place) -> None:
    hub.fail(Fault(path=NAME, method="GET", stall_seconds=30))
    reader, failures = RangeReader(place), []

    def wait() -> None:
        try:
            reader.read_into(0, memoryview(bytearray(200_000)))
        except HubError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    deadline = time.monotonic() + 10
    while not reader._sockets and time.monotonic() < deadline:
        time.sleep(0.01)
    reader.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(failure) for failure in failures] == [ranges.Closed]


def test_whoever_queues_for_an_address_asks_nobody_after_closing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = threading.Semaphore(0), threading.Event()
    questions: list[str] = []

    def fail_slowly(url: str) -> None:
        questions.append(url)
        asked.release()
        go_on.wait(10)
        raise TimeoutError

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", fail_slowly)
    reader = RangeReader(place)

    def ask() -> None:
        with pytest.raises(HubError):
            reader.read_into(0, memoryview(bytearray(8)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    asked.acquire(timeout=10)
    reader.close()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(questions) == 1


def test_an_address_that_moved_is_followed_without_the_token(
    hub: Hub, hub_client: HubClient, place: Place
) -> None:
    hub.tokens["hf_alice"] = "alice"
    hub_client.log_in("hf_alice")
    with Hub() as mirror, Hub() as store:
        store.create("acme/model", {NAME: DATA})
        mirror.fail(Fault(path=NAME, redirect=store.url))
        hub.fail(Fault(path=NAME, redirect=mirror.url))
        moved = Place(
            repository=place.repository,
            commit="main",
            name=NAME,
            nbytes=place.nbytes,
            etag=place.etag,
        )
        assert read(moved) == DATA[1000:201_000]
        assert store.bytes_sent(NAME) == 200_000
        assert not [r for r in mirror.log + store.log if r.token]


# Reading ahead ---------------------------------------------------------------------------


@pytest.fixture
def connections() -> Iterator[Connections]:
    pool = Connections()
    yield pool
    pool.close()


@given(st.data())
def test_reading_ahead_gives_the_bytes_of_the_file(data: st.DataObject) -> None:
    """Whatever runs are announced, and however much of them is read, in whatever blocks."""

    class Memory:
        def read_into(self, offset: int, buffer: memoryview) -> None:
            buffer[:] = DATA[offset : offset + len(buffer)]

    pool = Connections()
    ahead = ReadAhead(pool, Memory())  # type: ignore[arg-type]
    try:
        for _ in range(data.draw(st.integers(1, 4))):
            offset, block = data.draw(st.integers(0, 1000)), data.draw(st.integers(1, 64))
            nbytes = data.draw(st.integers(1, 2000))
            ahead.expect(offset, nbytes, block, never)
            position = offset
            for _ in range(data.draw(st.integers(0, 20))):
                length = min(data.draw(st.integers(1, 2 * block)), offset + nbytes - position)
                run = ahead.find(position, length)
                if not length or run is None:
                    break
                buffer = bytearray(length)
                run.read_into(memoryview(buffer))
                assert bytes(buffer) == DATA[position : position + length]
                position += length
    finally:
        pool.close()


def test_reading_ahead_holds_few_parts_and_uses_buffers_again(connections: Connections) -> None:
    asked: list[int] = []

    class Counting:
        def read_into(self, offset: int, buffer: memoryview) -> None:
            asked.append(offset)

    ahead = ReadAhead(connections, Counting())  # type: ignore[arg-type]
    ahead.expect(0, 100 * 8, 2, never)
    time.sleep(0.05)
    assert len(asked) == readahead.DEPTH
    run = ahead.find(0, 2)
    assert run is not None
    for _ in range(400):
        run.read_into(memoryview(bytearray(2)))
    assert sorted(asked) == list(range(0, 800, 8))
    assert len(connections._spare) <= readahead.DEPTH + 1


def test_a_worker_that_waits_hears_that_it_is_to_stop(hub: Hub, place: Place) -> None:
    hub.fail(Fault(path=NAME, method="GET", stall_seconds=30))
    connections, reader = Connections(), RangeReader(place)
    ahead = ReadAhead(connections, reader)

    def stop() -> None:
        raise KeyError("stop")

    ahead.expect(0, 200_000, 50_000, stop)
    run = ahead.find(0, 50_000)
    assert run is not None
    with pytest.raises(KeyError, match="stop"):
        run.read_into(memoryview(bytearray(50_000)))
    reader.close()
    connections.close()


def test_bytes_that_arrive_as_the_wait_for_them_ends_are_taken() -> None:
    class JustInTime(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            if not self.done():
                self.set_result(None)
                raise TimeoutError
            return super().result(timeout)

    future = JustInTime()
    part = readahead.Part(0, memoryview(b""), future, never)
    part.wait(lambda: None if future.done() else future.set_result(None))


@pytest.mark.parametrize("redirects", [False, True])
def test_only_our_own_requests_carry_the_token(
    hub: Hub, hub_client: HubClient, redirects: bool
) -> None:
    assert ranges._headers_for("https://elsewhere.example/x?token=1").get("authorization") is None
    hub.tokens["hf_alice"] = "alice"
    hub_client.log_in("hf_alice")
    assert ranges._headers_for(f"{hub.url}/x")["authorization"] == "Bearer hf_alice"
    assert "authorization" not in ranges._headers_for(f"{hub.storage.url}/x")
    other_scheme = hub.url.replace("http://", "https://")
    assert "authorization" not in ranges._headers_for(other_scheme)
