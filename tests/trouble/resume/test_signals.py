"""SIGINT and SIGTERM: a clean end within two seconds, and the command that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkpoints import read_tree
from tests.support.process.command import offline
from tests.support.resume.stage import Driver, End, Play
from tests.support.scene import STAGING, Scene

SIGNALS = [signal.SIGINT, signal.SIGTERM]
SECONDS = 2.0

NOTHING_KEPT = {"start": (0, 0.1, 0.2), "pass 1": (0.3, 0.6, 0.9)}
"""Phases, and where in them; what is no phase of its own counts as the start."""
KEPT = [
    *("refinement", "pass 2", "noting a shard", "side files"),
    *("index", "checksums", "noting the renames", "publishing"),
]
HEAD = "interrupted\nfinished work is kept; to continue:\n  "


@pytest.fixture
def play(driver: Driver, root: Path) -> Play:
    """A run that has every phase."""
    play = Play(driver, Scene.make(root, "F32"), ["--checksum", "-k", "20"])
    play.rehearse()
    return play


def interrupt(play: Play, phase: str, share: float, *signals: int) -> End:
    """Send signals in a phase; the run must end with the first one's status, and quietly."""
    assert play.reference is not None
    number = 1 + int(share * (play.reference.counts[phase] - 1))
    end = play.run(kill=(phase, number, "before"), signals=signals)
    assert end.status == 128 + signals[0], end.stderr
    assert end.stdout == ""
    assert "Traceback" not in end.stderr
    assert end.reaction_seconds < SECONDS
    return end


def follow(play: Play, end: End) -> None:
    """Do as the message says, word for word; the result is the uninterrupted run's."""
    assert end.stderr.startswith(HEAD), end.stderr
    command = end.stderr.removeprefix(HEAD).removesuffix("\n")
    assert command.startswith("shardrestore run ")
    assert command.endswith(" --resume")
    done = subprocess.run(
        command, shell=True, cwd=play.scene.root, capture_output=True, check=False, text=True,
        env=offline(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert read_tree(play.output) == play.whole


@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize("phase", KEPT)
def test_a_signal_ends_a_run_that_is_resumed_to_the_identical_tree(
    play: Play, phase: str, sent: int
) -> None:
    for share in (0, 0.3, 0.6, 1):
        play.reset()
        end = interrupt(play, phase, share, sent)
        if play.output.exists() and read_tree(play.output) == play.whole:
            continue  # the signal came after the last rename
        assert os.listdir(play.output) == [STAGING]
        words = " ".join(play.scene.words(*play.args))
        assert end.stderr == f"{HEAD}shardrestore run {words} --resume\n"
        play.check_finished(play.resume())


@pytest.mark.parametrize("phase", ["refinement", "pass 2", "publishing"])
def test_the_command_that_is_printed_goes_on(play: Play, phase: str) -> None:
    follow(play, interrupt(play, phase, 0.5, signal.SIGINT))


def test_the_command_is_quoted_for_the_shell(play: Play) -> None:
    play.scene.base.rename(play.scene.root / "it's a $HOME; base")
    play.args = ["--base", "it's a $HOME; base", "--exclude", "it's|q_proj"]
    play.rehearse()
    follow(play, interrupt(play, "pass 2", 0.7, signal.SIGTERM))


def test_the_command_of_a_resumed_run_that_is_interrupted_is_the_same(play: Play) -> None:
    first = interrupt(play, "pass 2", 0.5, signal.SIGINT)
    # Of pass 2 nothing may be left: workers go on for a moment after the first signal.
    end = play.resume(kill=("side files", 1, "before"), signals=[signal.SIGTERM])
    assert (end.status, end.stderr) == (128 + signal.SIGTERM, first.stderr)
    follow(play, end)


@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize("phase", NOTHING_KEPT)
def test_a_signal_before_the_end_of_pass_1_leaves_nothing(
    play: Play, phase: str, sent: int
) -> None:
    before = {path for path in play.scene.root.rglob("*") if path.name[0] != "."}
    for share in NOTHING_KEPT[phase]:
        end = interrupt(play, phase, share, sent)
        assert end.stderr == "interrupted: no unfinished file was left behind\n"
        assert {path for path in play.scene.root.rglob("*") if path.name[0] != "."} == before


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("phase", ["pass 1", *KEPT])
def test_a_second_signal_loses_nothing(play: Play, phase: str, second: int) -> None:
    for share in (0.2, 0.8):
        play.reset()
        assert play.reference is not None
        number = 1 + int(share * (play.reference.counts[phase] - 1))
        end = play.run(kill=(phase, number, "before"), signals=[signal.SIGINT, second])
        # One that comes when the command is done, and all is told, ends the process at once.
        assert end.status in (128 + signal.SIGINT, 128 + second, -second), end
        assert (end.stdout, "Traceback" in end.stderr) == ("", False), end.stderr
        assert end.reaction_seconds < SECONDS
        play.check_left()
        play.check_finished(play.resume())


@pytest.mark.parametrize("sent", SIGNALS)
def test_a_signal_while_an_older_model_is_replaced_leaves_it_whole(
    driver: Driver, scene: Scene, sent: int
) -> None:
    assert driver.run(scene, ["-k", "70"]).status == 0
    play = Play(driver, scene, ["--overwrite"])
    play.rehearse()
    for share in (0, 0.2, 0.4, 0.6, 0.8):
        play.reset()
        interrupt(play, "publishing", share, sent)
        found = read_tree(play.output)
        assert {name: found[name] for name in found if STAGING not in name} == play.older
        play.check_finished(play.resume())
