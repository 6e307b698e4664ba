"""The real client against the loopback Hub: what it can do there, and what it is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import httpx2
import numpy as np
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    get_hf_file_metadata,
    get_safetensors_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from safetensors.numpy import save

from tests.support.hub import Hub, Repository
from tests.support.hub.client import PUSHES, HubClient

WEIGHTS = save({"w": np.arange(6000, dtype=np.float32), "b": np.zeros(3, np.float32)})
CONFIG = b'{"model_type": "llama"}'

pytestmark = pytest.mark.usefixtures("hub_client")


@pytest.fixture
def base(hub: Hub) -> Repository:
    return hub.create("acme/base", {"config.json": CONFIG, "model.safetensors": WEIGHTS})


@pytest.fixture
def people(hub: Hub, hub_client: HubClient) -> HubClient:
    """Alice and Bob, neither of them logged in."""
    hub.tokens = {"hf_alice": "alice", "hf_bob": "bob"}
    return hub_client


# --- Reading ---


def test_a_snapshot_holds_the_files_that_the_patterns_allow(base: Repository) -> None:
    folder = Path(snapshot_download("acme/base", allow_patterns=["*.json"]))
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert folder.name == base.sha()


@pytest.mark.parametrize("redirects", [False, True])
def test_downloaded_files_are_the_served_ones(
    hub: Hub, base: Repository, redirects: bool, tmp_path: Path
) -> None:
    large = tmp_path / "large.safetensors"
    large.write_bytes(np.random.default_rng(0).bytes(5_000_001))
    base.commit({"shards/large.safetensors": large})
    hub.redirects = redirects
    folder = Path(snapshot_download("acme/base"))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "shards/large.safetensors").read_bytes() == large.read_bytes()
    assert hub.bytes_sent("large") == large.stat().st_size
    (sent,) = hub.requests("large", method="GET")
    assert sent.server == ("storage" if redirects else "hub")


def test_headers_are_read_by_range(hub: Hub, base: Repository) -> None:
    found = get_safetensors_metadata("acme/base").files_metadata["model.safetensors"]
    assert found.tensors["w"].shape == [6000]
    (ranged,) = hub.requests("model.safetensors", method="GET")
    assert (ranged.status, ranged.headers["range"]) == (206, "bytes=0-100000")


def test_a_file_system_reads_at_an_offset(base: Repository) -> None:
    with HfFileSystem().open("acme/base/model.safetensors", block_size=1000) as file:
        file.seek(4321)
        assert file.read(100) == WEIGHTS[4321:4421]


def test_a_file_system_lists_folders(base: Repository) -> None:
    base.commit({"a/b/c.txt": b"c", "a/d.txt": b"d"})
    files = HfFileSystem()
    assert files.ls("acme/base/a", detail=False) == ["acme/base/a/b", "acme/base/a/d.txt"]
    assert files.find("acme/base/a") == ["acme/base/a/b/c.txt", "acme/base/a/d.txt"]


def test_a_tree_comes_in_pages(hub: Hub, base: Repository) -> None:
    base.commit({f"{number}.txt": b"" for number in range(5)})
    hub.page_size = 2
    assert len(list(HfApi().list_repo_tree("acme/base", recursive=True))) == 7
    assert len(hub.requests("/tree/")) == 4


def test_paths_are_described_one_by_one(base: Repository) -> None:
    names = ["model.safetensors", "config.json", "none"]
    weights, config = HfApi().get_paths_info("acme/base", names)
    assert isinstance(weights, RepoFile)
    assert isinstance(config, RepoFile)
    assert weights.lfs is not None
    assert (weights.size, weights.lfs.sha256) == (len(WEIGHTS), sha256(WEIGHTS).hexdigest())
    assert (config.size, config.lfs) == (len(CONFIG), None)


@pytest.mark.parametrize("revision", ["v1", "main", "side", "refs/pr/1"])
def test_every_kind_of_revision_is_found(hub: Hub, base: Repository, revision: str) -> None:
    base.tag("v1")
    base.commit({"config.json": b"main"})
    base.branch("side")
    base.commit({"config.json": b"side"}, branch="side")
    base.pull_request(1, {"config.json": b"refs/pr/1"})
    content = CONFIG if revision == "v1" else revision.encode()
    sha = HfApi().model_info("acme/base", revision=revision).sha
    for name in (revision, sha):
        file = hf_hub_download("acme/base", "config.json", revision=name)
        assert Path(file).read_bytes() == content
    refs = HfApi().list_repo_refs("acme/base", include_pull_requests=True)
    assert {r.name for r in [*refs.branches, *refs.tags]} == {"main", "side", "v1"}
    assert [r.ref for r in refs.pull_requests or []] == ["refs/pr/1"]


def test_what_is_missing_is_told_apart(base: Repository) -> None:
    with pytest.raises(EntryNotFoundError):
        get_hf_file_metadata(hf_hub_url("acme/base", "none.json"))
    with pytest.raises(RevisionNotFoundError):
        HfApi().model_info("acme/base", revision="none")
    with pytest.raises(RepositoryNotFoundError, match="Invalid username or password"):
        HfApi().model_info("acme/none")


# --- Ranges ---


@pytest.mark.parametrize(
    ("asked", "content_range", "body"),
    [
        ("bytes=2-4", "bytes 2-4/10", b"234"),
        ("bytes=7-", "bytes 7-9/10", b"789"),
        ("bytes=-2", "bytes 8-9/10", b"89"),
        ("bytes=8-99", "bytes 8-9/10", b"89"),  # ends at the end
        ("bytes=10-", "bytes */10", b""),
    ],
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_range_is_served_exactly(
    hub: Hub, tmp_path: Path, asked: str, content_range: str, body: bytes, on_disk: bool
) -> None:
    (tmp_path / "ten").write_bytes(b"0123456789")
    hub.create("acme/ten", {"ten": tmp_path / "ten" if on_disk else b"0123456789"})
    response = httpx2.get(f"{hub.url}/acme/ten/resolve/main/ten", headers={"Range": asked})
    assert response.status_code == (206 if body else 416)
    assert (response.headers["content-range"], response.content) == (content_range, body)


def test_many_threads_read_their_own_ranges(hub: Hub, base: Repository) -> None:
    with httpx2.Client() as client, ThreadPoolExecutor(8) as threads:

        def read(start: int) -> bytes:
            asked = {"Range": f"bytes={start}-{start + 99}"}
            return client.get(hf_hub_url("acme/base", "model.safetensors"), headers=asked).content

        starts = range(0, 20_000, 100)
        assert b"".join(threads.map(read, starts)) == WEIGHTS[:20_000]
    assert hub.bytes_sent("model") == 20_000


# --- Redirects ---


def test_a_redirect_carries_the_metadata_and_drops_the_token(
    hub: Hub, base: Repository, people: HubClient
) -> None:
    people.log_in("hf_alice")
    hub.redirects = True
    metadata = get_hf_file_metadata(hf_hub_url("acme/base", "model.safetensors"), token=True)
    assert (metadata.size, metadata.etag) == (len(WEIGHTS), sha256(WEIGHTS).hexdigest())
    assert metadata.location.startswith(hub.storage.url)
    hf_hub_download("acme/base", "model.safetensors")
    assert {r.token for r in hub.requests("model", server="hub")} == {"hf_alice"}
    assert [r.token for r in hub.requests(server="storage")] == [None]


def test_an_expired_link_is_refused_and_a_new_one_is_not(hub: Hub, base: Repository) -> None:
    hub.redirects = True
    url = hf_hub_url("acme/base", "model.safetensors")
    link = httpx2.get(url).headers["location"]
    assert httpx2.get(link).content == WEIGHTS
    hub.expire_links()
    assert httpx2.get(link).status_code == 403
    assert httpx2.get(url, follow_redirects=True).content == WEIGHTS


# --- Access ---


def test_a_private_repository_looks_missing_to_strangers(hub: Hub, people: HubClient) -> None:
    hub.create("acme/secret", {"config.json": CONFIG}, private=True)
    hub.allow("alice", "acme/secret")
    strangers: list[tuple[str | bool, int]] = [(False, 401), ("hf_bob", 404)]
    for token, status in strangers:
        with pytest.raises(RepositoryNotFoundError) as caught:
            HfApi(token=token).model_info("acme/secret")
        assert caught.value.response.status_code == status
    assert HfApi(token="hf_alice").model_info("acme/secret").private


def test_a_gated_repository_is_described_and_its_files_are_refused(
    hub: Hub, people: HubClient
) -> None:
    hub.create("acme/gated", {"config.json": CONFIG}, gated=True)
    hub.allow("alice", "acme/gated")
    assert HfApi().model_info("acme/gated").gated == "manual"
    url = hf_hub_url("acme/gated", "config.json")
    strangers: list[tuple[str | bool, int]] = [(False, 401), ("hf_bob", 403)]
    for token, status in strangers:
        with pytest.raises(GatedRepoError) as caught:
            get_hf_file_metadata(url, token=token)
        assert caught.value.response.status_code == status
    assert get_hf_file_metadata(url, token="hf_alice").size == len(CONFIG)


def test_a_token_that_nobody_has_is_refused_everywhere(base: Repository, people: HubClient) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        HfApi(token="hf_stale").model_info("acme/base")
    assert caught.value.response.status_code == 401
    assert HfApi(token="hf_bob").whoami()["name"] == "bob"


# --- Pushing ---


@PUSHES
def test_an_uploaded_folder_comes_back_as_it_was(
    hub: Hub, people: HubClient, tmp_path: Path
) -> None:
    people.log_in("hf_alice")
    folder = tmp_path / "model"
    folder.mkdir()
    files = {
        "README.md": b"---\nlicense: mit\n---\n",
        "config.json": CONFIG,
        "model.safetensors": WEIGHTS + bytes(3 << 20),  # larger than a slice
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    api = HfApi()
    assert api.create_repo("alice/restored", private=True).repo_id == "alice/restored"
    api.upload_folder(repo_id="alice/restored", folder_path=folder)
    found = hub.repositories["alice/restored"].files()
    assert found == {**files, ".gitattributes": found[".gitattributes"]}
    assert [r.token for r in hub.requests(server="storage", method="PUT")] == [None]

    hub.forget()
    (folder / "config.json").write_bytes(b"{}")
    (folder / "again.safetensors").write_bytes(files["model.safetensors"])
    api.upload_folder(repo_id="alice/restored", folder_path=folder)
    assert hub.requests(method="PUT") == []  # the same weights are not sent twice
    assert hub.repositories["alice/restored"].files()["config.json"] == b"{}"


def test_content_that_does_not_match_its_hash_is_not_stored(hub: Hub, base: Repository) -> None:
    link = hub.sign(f"/acme/base/{'0' * 64}")
    assert httpx2.put(link, content=b"something else").status_code == 400
    assert base.find_object("0" * 64) is None


def test_an_existing_repository_is_told(base: Repository, people: HubClient, hub: Hub) -> None:
    hub.allow("alice", "acme", write=True)
    api = HfApi(token="hf_alice")
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo("acme/base")
    assert caught.value.response.status_code == 409
    assert api.create_repo("acme/base", exist_ok=True).url == f"{hub.url}/acme/base"


def test_a_push_without_write_access_is_refused(
    hub: Hub, base: Repository, people: HubClient
) -> None:
    api = HfApi(token="hf_bob")
    with pytest.raises(HfHubHTTPError, match="create_pr=1") as caught:
        api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="acme/base")
    assert caught.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError, match='rights to create a model under the namespace "acme"'):
        api.create_repo("acme/new")
    with pytest.raises(RepositoryNotFoundError, match="Invalid username or password"):
        HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="x", repo_id="acme/base")


@PUSHES
def test_anyone_may_open_a_pull_request(hub: Hub, base: Repository, people: HubClient) -> None:
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
        CommitOperationAdd("model.safetensors", WEIGHTS[:-1]),
        CommitOperationCopy("model.safetensors", "old.safetensors"),
        CommitOperationDelete("config.json"),
    ]
    info = HfApi(token="hf_bob").create_commit(
        "acme/base", operations, commit_message="Restore", create_pr=True
    )
    assert info.pr_revision == "refs/pr/1"
    proposed = {"model.safetensors": WEIGHTS[:-1], "old.safetensors": WEIGHTS}
    assert base.files("refs/pr/1") == proposed
    assert base.files() == {"config.json": CONFIG, "model.safetensors": WEIGHTS}


def test_a_commit_on_an_outdated_parent_is_refused(
    hub: Hub, base: Repository, people: HubClient
) -> None:
    hub.allow("alice", "acme/base", write=True)
    outdated = base.sha()
    base.commit({"config.json": b"{}"})
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(token="hf_alice").upload_file(
            path_or_fileobj=b"[]",
            path_in_repo="config.json",
            repo_id="acme/base",
            parent_commit=outdated,
        )
    assert caught.value.response.status_code == 412


def test_branches_tags_and_settings_can_be_changed(
    hub: Hub, base: Repository, people: HubClient
) -> None:
    hub.allow("alice", "acme/base", write=True)
    api = HfApi(token="hf_alice")
    api.create_branch("acme/base", branch="side")
    api.create_tag("acme/base", tag="v1", revision="side")
    api.update_repo_settings("acme/base", private=True, gated="auto")
    assert base.branches["side"] == base.tags["v1"] == base.branches["main"]
    assert base.private
    assert base.gated
