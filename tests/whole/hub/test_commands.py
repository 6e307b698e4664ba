"""The command line and the Hub: whole processes, as a user starts them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shardrestore.synthetic import LlamaShape, write_pair
from tests.support.checkpoints import read_tree
from tests.support.hub import Fault, Hub
from tests.support.process.command import start_cli

SHAPE = LlamaShape(
    num_hidden_layers=2,
    hidden_size=256,
    intermediate_size=512,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=512,
)
TOKEN = "hf_secretOfAlice0123456789"


class Desk:
    """A user's terminal, with a Hub that has the private pair alice/base and alice/sft."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.environment = hub.environment(folder, token=TOKEN) | {"COLUMNS": "80"}

    def start(self, *args: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return start_cli(*args, cwd=self.folder, env=self.environment, **pipes)

    def run(self, *args: str) -> tuple[int, str, str]:
        with self.start(*args) as process:
            out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        assert TOKEN not in out + err
        return process.returncode, out, err


INPUTS = ("--base", "alice/base", "--target", "alice/sft@v1")
RUN = ("run", *INPUTS, "--output", "out", "-k", "10")


@pytest.fixture
def desk(hub: Hub, tmp_path: Path) -> Desk:
    write_pair(tmp_path / "pair", SHAPE, shard_bytes=600_000)
    (tmp_path / "pair" / "target" / "tokenizer.json").write_text("{}")
    hub.tokens[TOKEN] = "alice"
    hub.create("alice/base", tmp_path / "pair" / "base", private=True)
    hub.create("alice/sft", tmp_path / "pair" / "target", private=True).tag("v1")
    return Desk(hub, tmp_path)


@pytest.mark.parametrize("stream", [(), ("--stream", "both")])
def test_a_run_from_the_hub_works_and_tells_no_token(desk: Desk, stream: tuple[str, ...]) -> None:
    status, out, err = desk.run(*RUN, *stream, "--json")
    assert (status, bool(stream) == ("not compared with their SHA-256" in err)) == (0, True)
    assert len(err.splitlines()) == bool(stream)
    result = json.loads(out)
    assert result["selected_elements"] == int(result["region_elements"] / 10)
    if not stream:
        assert result["download_seconds"] > 0
    assert result["peak_rss_bytes"] <= result["projected_bytes"]
    assert result["peak_rss_bytes"] <= 320 << 20
    for name, data in read_tree(desk.folder / "out").items():
        assert TOKEN.encode() not in data, name
    assert desk.run("verify", "out", *stream)[0] == 0


def test_a_plan_says_what_would_be_downloaded(desk: Desk) -> None:
    status, out, err = desk.run("plan", *INPUTS, "-k", "10")
    assert (status, err) == (0, "")
    assert "alice/sft@v1 (" in out
    assert "download  " in out
    assert max(map(len, out.splitlines())) <= 80
    streamed = desk.run("plan", *INPUTS, "--stream", "both")[1]
    assert "download   2 B" in streamed, "the tokenizer alone"
    assert "not compared with their SHA-256" in streamed


def test_a_local_folder_is_noted_where_the_cache_holds_a_repository_of_its_name(
    desk: Desk,
) -> None:
    (desk.folder / "alice").mkdir()
    (desk.folder / "alice" / "base").symlink_to(desk.folder / "pair" / "base")
    status, _, err = desk.run(*RUN, "--stream", "both")
    assert status == 0
    assert "local folder" not in err, "nobody has used that repository"
    folder = Path(desk.environment["HF_HOME"]) / "hub" / "models--alice--base"
    folder.mkdir(parents=True)
    status, _, err = desk.run(*RUN, "--overwrite", "--stream", "both")
    expected = "note: base alice/base: the local folder, not the Hub's repository of that name\n"
    assert status == 0
    assert err.startswith(expected)
    assert desk.run(*RUN, "--overwrite", "--quiet", "--stream", "both")[2] == ""


MESSAGES = {
    "no such repository": (
        ("--base", "alice/bass"),
        "error: alice/bass: no such folder, and no such",
    ),
    "no such revision": (("--base", "alice/sft@v2"), "error: alice/sft@v2: no such revision"),
    "no such folder": (("--base", "./alice"), "error: base ./alice: no such folder"),
    "stream": (("--stream", "all"), "Invalid value for '--stream'"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_cannot_be_is_one_message(desk: Desk, name: str) -> None:
    args, message = MESSAGES[name]
    status, out, err = desk.run(*RUN, *args)
    assert (status, out) == (2 if name == "stream" else 1, "")
    assert message in err
    assert not (desk.folder / "out").exists()


def test_without_a_token_a_private_repository_is_one_message(desk: Desk) -> None:
    del desk.environment["HF_TOKEN"]
    status, _, err = desk.run(*RUN)
    assert status == 1
    assert err.startswith("error: alice/base: no such folder, and no such repository")
    assert "hf auth login" in err


@pytest.mark.parametrize("stream", [(), ("--stream", "both")])
def test_a_file_that_vanishes_loses_nothing(desk: Desk, stream: tuple[str, ...]) -> None:
    desk.hub.fail(
        Fault(path=r"00002-of.*safetensors", after=3 if stream else 1, status=404,
              error_code="EntryNotFound", method="GET"),
    )  # fmt: skip
    status, _, err = desk.run(*RUN, *stream)
    assert status == 1
    assert "no such file in that commit: was it moved or deleted?" in err
    assert not (desk.folder / "out" / "config.json").exists()
    desk.hub.heal()
    again = ("--resume",) if "--resume" in err else ()
    assert desk.run(*RUN, *stream, *again)[0] == 0
    assert desk.run("verify", "out", *stream)[0] == 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stream", [(), ("--stream", "both")])
def test_a_stalled_hub_can_be_interrupted(
    desk: Desk, stop: signal.Signals, stream: tuple[str, ...]
) -> None:
    desk.hub.fail(Fault(path=r"safetensors$", method="GET", after=12, stall_seconds=25))
    with desk.start(*RUN, *stream) as process:
        _wait_until(lambda: len(desk.hub.requests(r"safetensors$", method="GET")) > 14)
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(stop)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + stop
    assert err.splitlines()[-1].startswith("interrupted")
    assert time.monotonic() - started < 8, "the stall was waited for"


@pytest.mark.parametrize("command", ["verify", "run with a profile"])
def test_a_hub_that_asks_for_patience_can_be_interrupted(desk: Desk, command: str) -> None:
    stream = ("--stream", "both")
    if command == "verify":
        assert desk.run(*RUN, *stream)[0] == 0
        args: tuple[str, ...] = ("verify", "out", *stream)
    else:
        assert desk.run("scan", *INPUTS, "--output", "p.safetensors", *stream)[0] == 0
        args = (*RUN, *stream, "--profile", "p.safetensors")
    patience = {"Retry-After": "100"}
    armed = desk.hub.fail(
        Fault(path=r"safetensors$", method="GET", after=16, status=429, headers=patience)
    )
    with desk.start(*args) as process:
        _wait_until(lambda: armed.hits > 0)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT


def test_a_killed_stream_is_resumed_to_the_same_model(desk: Desk) -> None:
    assert desk.run(*RUN, "--stream", "both")[0] == 0
    whole = read_tree(desk.folder / "out")
    args = (*RUN, "--stream", "both", "--overwrite", "--workers", "1", "--output", "killed")
    stall = Fault(path=r"00003-of.*safetensors$", method="GET", after=4, stall_seconds=60)
    armed = desk.hub.fail(stall)
    with desk.start(*args) as process:
        _wait_until(lambda: armed.hits > 0)
        process.kill()
        process.communicate()
    desk.hub.heal()
    status, _, err = desk.run(*args[:-4], "--workers", "1", "--output", "killed", "--resume")
    assert status == 0, err
    killed = read_tree(desk.folder / "killed")
    assert {n: d for n, d in killed.items() if n != "report.html"} == {
        n: d for n, d in whole.items() if n != "report.html"
    }


def _wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
