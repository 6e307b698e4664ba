"""Every kind of fault, seen from the other end of the connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError

from tests.support.hub import Fault, Hub, Repository
from tests.support.hub.client import HubClient

WEIGHTS = bytes(range(256)) * 1024
RANGE = {"Range": "bytes=1000-1999"}


@pytest.fixture
def base(hub: Hub) -> Repository:
    return hub.create("acme/base", {"config.json": b"{}", "model.safetensors": WEIGHTS})


@pytest.fixture
def client(hub: Hub, base: Repository) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"{hub.url}/acme/base/resolve/main/", trust_env=False) as client:
        yield client


def test_a_status_is_answered_with_its_headers_so_many_times(
    hub: Hub, client: httpx2.Client
) -> None:
    fault = hub.fail(
        Fault(path="model", status=503, headers={"Retry-After": "1"}, after=1, times=2)
    )
    answers = [client.get("model.safetensors") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
    assert answers[1].headers["retry-after"] == "1"
    assert fault.hits == 2
    assert [request.status for request in hub.log] == [200, 503, 503, 200]


def test_only_chosen_requests_are_struck(hub: Hub, client: httpx2.Client) -> None:
    hub.fail(Fault(path="model", method="GET", only_ranged=True, status=500))
    assert client.get("config.json", headers=RANGE | {"Range": "bytes=0-0"}).status_code == 206
    assert client.head("model.safetensors", headers=RANGE).status_code == 200
    assert client.get("model.safetensors").status_code == 200
    assert client.get("model.safetensors", headers=RANGE).status_code == 500
    hub.heal()
    assert client.get("model.safetensors", headers=RANGE).status_code == 206


def test_a_storage_fault_leaves_the_hub_alone(hub: Hub, client: httpx2.Client) -> None:
    hub.redirects = True
    hub.fail(Fault(path="model", server="storage", status=503))
    redirect = client.get("model.safetensors")
    assert redirect.status_code == 302
    assert httpx2.get(redirect.headers["location"], trust_env=False).status_code == 503


def test_a_reset_comes_before_the_head(hub: Hub, client: httpx2.Client) -> None:
    hub.fail(Fault(path="model", reset=True, times=1))
    with pytest.raises(httpx2.ReadError):
        client.get("model.safetensors")
    assert [request.status for request in hub.log] == [None]
    assert client.get("model.safetensors").content == WEIGHTS


def test_a_lost_answer_is_to_a_request_that_was_carried_out(hub: Hub, base: Repository) -> None:
    hub.everyone = "acme"
    hub.fail(Fault(path="/tag/", lost=True))
    with pytest.raises(httpx2.ReadError):
        httpx2.post(
            f"{hub.url}/api/models/acme/base/tag/main",
            json={"tag": "v1"},
            headers={"Authorization": "Bearer hf_any"},
            trust_env=False,
        )
    assert "v1" in base.tags


@pytest.mark.parametrize("sent_bytes", [0, 100])
def test_a_body_is_cut_short_of_what_its_head_promises(
    hub: Hub, client: httpx2.Client, sent_bytes: int
) -> None:
    hub.fail(Fault(path="model", cut_after_bytes=sent_bytes))
    received: list[bytes] = []
    with client.stream("GET", "model.safetensors") as response:
        assert response.headers["content-length"] == str(len(WEIGHTS))
        with pytest.raises(httpx2.RemoteProtocolError):
            received.extend(response.iter_raw())
    assert b"".join(received) == WEIGHTS[:sent_bytes]
    assert hub.bytes_sent("model") == sent_bytes


@pytest.mark.parametrize(
    "fault",
    [Fault(path="model", delay_seconds=60), Fault(path="model", stall_seconds=60)],
    ids=["before the head", "in the body"],
)
def test_a_hanging_answer_runs_into_the_timeout(
    hub: Hub, client: httpx2.Client, fault: Fault
) -> None:
    hub.fail(fault)
    with pytest.raises(httpx2.ReadTimeout):
        client.get("model.safetensors", timeout=0.2)


def test_a_slow_body_is_complete_all_the_same(hub: Hub, client: httpx2.Client) -> None:
    hub.fail(Fault(path="model", bytes_per_second=10 * len(WEIGHTS)))
    assert client.get("model.safetensors").content == WEIGHTS


def test_a_stalled_body_is_complete_all_the_same(hub: Hub, client: httpx2.Client) -> None:
    hub.fail(Fault(path="model", stall_seconds=0.01))
    assert client.get("model.safetensors").content == WEIGHTS


def test_a_range_is_ignored(hub: Hub, client: httpx2.Client) -> None:
    hub.fail(Fault(path="model", ignores_range=True))
    response = client.get("model.safetensors", headers=RANGE)
    assert (response.status_code, response.content) == (200, WEIGHTS)
    assert "content-range" not in response.headers
    assert hub.requests("model")[0].headers["range"] == RANGE["Range"]  # it was asked for


@pytest.mark.parametrize(
    ("fault", "content_range", "body_bytes"),
    [
        (Fault(path="model", shift_bytes=8), "bytes 1008-2007/262144", 1000),
        (Fault(path="model", total_bytes=99), "bytes 1000-1999/99", 1000),
        (Fault(path="model", missing_bytes=1), "bytes 1000-1999/262144", 999),
    ],
    ids=["shifted", "of another size", "longer than the body"],
)
def test_a_content_range_is_wrong(
    hub: Hub, client: httpx2.Client, fault: Fault, content_range: str, body_bytes: int
) -> None:
    hub.fail(fault)
    response = client.get("model.safetensors", headers=RANGE)
    assert (response.status_code, response.headers["content-range"]) == (206, content_range)
    assert response.content == WEIGHTS[1000:2000][:body_bytes]
    assert response.headers["content-length"] == str(body_bytes)


def test_a_redirect_leads_to_another_hub_without_the_token(hub: Hub, client: httpx2.Client) -> None:
    hub.tokens = {"hf_alice": "alice"}
    with Hub() as evil:
        hub.fail(Fault(path="model", redirect=evil.url))
        headers = {"Authorization": "Bearer hf_alice"}
        client.get("model.safetensors", headers=headers, follow_redirects=True)
        assert [request.token for request in hub.log] == ["hf_alice"]
        assert [request.token for request in evil.log] == [None]


def test_the_client_takes_error_codes_of_faults_for_the_hubs(
    hub: Hub, base: Repository, hub_client: HubClient
) -> None:
    hub.fail(Fault(path="config", status=403, error_code="GatedRepo", times=1))
    hub.fail(Fault(path="config", status=404, error_code="EntryNotFound"))
    for error in (GatedRepoError, EntryNotFoundError):
        with pytest.raises(error):
            HfApi().get_hf_file_metadata(url=f"{hub.url}/acme/base/resolve/main/config.json")


def test_a_stopped_hub_leaves_nothing_behind(base: Repository) -> None:
    before = threading.active_count()
    with Hub() as other, httpx2.Client(trust_env=False) as client:
        other.create("acme/other", {"model.safetensors": WEIGHTS})
        other.fail(Fault(path="model", stall_seconds=60))
        url, folder = f"{other.url}/acme/other/resolve/main/model.safetensors", other.folder
        with client.stream("GET", url):
            other.stop()  # in the middle of a body
    assert threading.active_count() == before
    assert not folder.exists()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url, trust_env=False)


def test_a_hub_can_be_away_for_a_while(hub: Hub, base: Repository, client: httpx2.Client) -> None:
    hub.stop()
    with pytest.raises(httpx2.ConnectError):
        client.get("model.safetensors")
    hub.start()
    assert client.get("model.safetensors").content == WEIGHTS
