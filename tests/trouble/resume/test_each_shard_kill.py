"""Models that are killed on their way to the Hub: resumed, they end as if nothing had been.

As in ``test_kill.py``: moments are drawn from a seed that is printed.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.checkpoints import read_tree
from tests.support.examples import TIMES
from tests.support.hub import Hub
from tests.support.many_shards import make_scene, pushed_files
from tests.support.resume.stage import SEED, Driver, Play, driving, visible
from tests.support.runs import scratch
from tests.support.scene import STAGING, Scene

TOKEN = "hf_secretOfAlice"
ID = "alice/restored"
OPTIONS = ["--push-to", ID, "--delete-after-upload", "--checksum", "--workers", "2"]
KILLS = {
    "saving the scan": 1,
    "pass 2": 3,
    "noting a shard": 2,
    "sending a shard": 8,
    "noting an upload": 6,
    "side files": 2,
    "noting the renames": 2,
    "committing": 4,
    "noting the commit": 4,
    "publishing": 4,
    "clean-up": 3,
}
"""Kills in each phase."""


class Stage:
    """A Hub, a process to kill runs in, and what an uninterrupted run ends with."""

    def __init__(self, hub: Hub, driver: Driver, scene: Scene) -> None:
        self.hub = hub
        self.play = Play(driver, scene, OPTIONS)
        self.reference = self.play.rehearse()
        self.pushed = pushed_files(hub)
        self.reset()

    def reset(self) -> None:
        """Forget: the next commit of the same files gets the same name."""
        self.play.reset()
        self.hub.repositories.clear()
        self.hub.forget()

    def check_killed(self, *, resumed: bool = False) -> None:
        """The branch holds nothing or the model; what is not on the Hub is here."""
        output = self.play.output
        assert len(list(output.rglob("model*.safetensors"))) <= 1
        repository = self.hub.repositories.get(ID)
        if repository is not None and len(repository.commits) > 1:
            assert pushed_files(self.hub) == self.pushed
        elif not resumed:
            assert visible(read_tree(output) if output.exists() else {}) == {}

    def check_finished(self) -> None:
        """Once, and as if there had been no interruption: here and on the Hub."""
        end = self.play.resume()
        self.play.check_finished(end)
        assert pushed_files(self.hub) == self.pushed
        assert len(self.hub.repositories[ID].commits) == 2
        sent = [request.path for request in self.hub.requests(server="storage", method="PUT")]
        assert len(sent) == len(set(sent)), "an object was sent twice"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Hub() as hub, scratch() as root:
        hub.tokens = {TOKEN: "alice"}
        environment = hub.environment(root, TOKEN)
        with driving(environment | {"PYTHONWARNINGS": "error", "COLUMNS": "80"}) as driver:
            yield Stage(hub, driver, make_scene(root / "scene"))


def test_a_run_to_the_hub_killed_in_any_phase_ends_as_if_nothing_had_been(stage: Stage) -> None:
    print(f"SHARDRESTORE_TEST_SEED={SEED}")
    dice = random.Random(f"{SEED} each shard")
    for phase, times in KILLS.items():
        for _ in range(times * TIMES):
            stage.reset()
            killed = [draw(dice, phase, stage)]
            end = stage.play.run(kill=killed[0])
            assert (end.status, end.phase) == (-signal.SIGKILL, phase), end.stderr
            stage.check_killed()
            while dice.random() < 0.3:
                killed.append(draw(dice, dice.choice(sorted(KILLS)), stage))
                stage.play.resume(kill=killed[-1])
                stage.check_killed(resumed=True)
            try:
                stage.check_finished()
            except AssertionError as error:
                raise AssertionError(f"{killed}: {error}") from error


def draw(dice: random.Random, phase: str, stage: Stage) -> tuple[str, int, str]:
    number = dice.randint(1, stage.reference.counts[phase])
    return phase, number, dice.choice(["before", "after"])


def between_upload_and_journal(stage: Stage) -> tuple[str, int, str]:
    return "noting an upload", 1, "before"


def between_journal_and_deletion(stage: Stage) -> tuple[str, int, str]:
    return "noting an upload", stage.reference.counts["noting an upload"] // 5, "after"


def between_commit_and_note(stage: Stage) -> tuple[str, int, str]:
    return "noting the commit", 1, "before"


def between_note_and_renames(stage: Stage) -> tuple[str, int, str]:
    return "noting the commit", stage.reference.counts["noting the commit"], "after"


@pytest.mark.parametrize(
    "moment",
    [
        between_upload_and_journal,
        between_journal_and_deletion,
        between_commit_and_note,
        between_note_and_renames,
    ],
)
def test_between_two_steps_nothing_is_lost_sent_twice_or_committed_twice(
    stage: Stage, moment: Callable[[Stage], tuple[str, int, str]]
) -> None:
    stage.reset()
    end = stage.play.run(kill=moment(stage))
    assert end.status == -signal.SIGKILL
    held = stage.hub.repositories[ID].objects
    assert held
    committed = len(stage.hub.repositories[ID].commits) == 2
    assert committed == (moment in (between_commit_and_note, between_note_and_renames))
    assert bool(list(Path(stage.play.output, STAGING).glob("model*.safetensors"))) != committed
    stage.check_killed()
    stage.check_finished()


def test_a_run_to_the_hub_killed_at_any_time_ends_as_if_nothing_had_been(stage: Stage) -> None:
    dice = random.Random(f"{SEED} each shard time")
    for _ in range(6 * TIMES):
        stage.reset()
        delays = [dice.uniform(0, stage.reference.seconds) for _ in range(dice.choice([1, 2, 3]))]
        stage.play.run(kill_after_seconds=delays[0])
        for delay in delays[1:]:
            stage.play.resume(kill_after_seconds=delay)
        end = stage.play.resume()
        assert end.status == 0, (delays, end.stderr)
        assert read_tree(stage.play.output) == stage.play.whole, delays
        assert pushed_files(stage.hub) == stage.pushed, delays
