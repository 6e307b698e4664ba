"""The client in this process and in others, turned to the loopback Hub and back again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import huggingface_hub
import pytest
from huggingface_hub import HfApi, HfFileSystem, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import OfflineModeIsEnabled

from tests.support.hub import Hub
from tests.support.hub.client import HubClient, turned_client
from tests.support.places import ROOT


def test_everything_is_as_before_afterwards(hub: Hub, tmp_path: Path) -> None:
    def state() -> list[object]:
        names = [name for name in dir(constants) if name.isupper()]
        return [
            *(getattr(constants, name) for name in names),
            huggingface_hub.hf_api.api.endpoint,
            huggingface_hub.utils.are_progress_bars_disabled(),
            dict(os.environ),
        ]

    before = state()
    with turned_client(hub, tmp_path) as client:
        client.log_in("hf_any")
        client.go_offline()
        assert state() != before
    assert state() == before


def test_each_hub_is_read_afresh(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        with Hub() as hub, turned_client(hub, tmp_path / content.decode()):
            hub.create("acme/base", {"config.json": content})
            assert Path(hf_hub_download("acme/base", "config.json")).read_bytes() == content
            assert HfFileSystem().read_bytes("acme/base/config.json") == content
            assert huggingface_hub.list_repo_files("acme/base") == ["config.json"]


def test_offline_what_is_cached_can_be_had_and_nothing_else(
    hub: Hub, hub_client: HubClient
) -> None:
    hub.create("acme/base", {"config.json": b"{}"})
    folder = snapshot_download("acme/base")
    hub.forget()
    hub_client.go_offline()
    assert snapshot_download("acme/base") == folder
    assert Path(folder).is_relative_to(hub_client.cache)
    with pytest.raises(OfflineModeIsEnabled):
        HfApi().model_info("acme/base")
    assert hub.log == []
    hub_client.go_online()
    assert HfApi().model_info("acme/base").id == "acme/base"


def test_the_token_is_that_of_whoever_is_logged_in(hub: Hub, hub_client: HubClient) -> None:
    hub.tokens = {"hf_alice": "alice", "hf_bob": "bob"}
    hub.create("alice/secret", {"config.json": b"{}"}, private=True)
    hub_client.log_in("hf_alice")
    assert HfFileSystem().exists("alice/secret/config.json")
    hub_client.log_in("hf_bob")
    assert not HfFileSystem().exists("alice/secret/config.json")
    hub_client.log_out()
    assert not HfApi().repo_exists("alice/secret")
    assert {request.token for request in hub.log} == {"hf_alice", "hf_bob", None}


def test_a_child_process_finds_the_hub_by_its_environment(hub: Hub, tmp_path: Path) -> None:
    hub.tokens = {"hf_alice": "alice"}
    hub.create("alice/secret", {"config.json": b"{}"}, private=True)
    script = "import huggingface_hub as h; print(h.hf_hub_download('alice/secret', 'config.json'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=hub.environment(tmp_path, token="hf_alice"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)


def test_a_folder_is_served_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    command = [sys.executable, "-m", "tests.support.hub", f"acme/base@v1={tmp_path}", "--redirect"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            exports = dict(process.stdout.readline().split()[1].split("=", 1) for _ in range(2))
            url = f"{exports['HF_ENDPOINT']}/acme/base/resolve/v1/config.json"
            with urlopen(url) as response:
                assert response.read() == b"{}"
        finally:
            process.terminate()
    assert process.returncode == 0
    assert not Path(exports["HF_HOME"]).parent.exists()
