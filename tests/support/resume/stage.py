"""What tests of resuming share: a process to kill runs in, and what may be left of one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.checkpoints import read_tree
from tests.support.process.command import offline
from tests.support.scene import INDEX, STAGING, Scene

SEED = int(os.environ.get("SHARDRESTORE_TEST_SEED") or random.SystemRandom().getrandbits(32))
"""Of the moments at which runs are killed; the variable repeats them."""

DRIVER = Path(__file__).with_name("driver.py")
Tree = dict[str, bytes]


@dataclass(frozen=True)
class End:
    """How a run ended, and where in it."""

    status: int
    phase: str
    operation: str
    counts: dict[str, int]
    """Operations on files, by phase; see driver.py."""
    seconds: float
    reaction_seconds: float
    """From the first signal to the end."""
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Driver:
    """The process from which runs are forked."""

    process: subprocess.Popen[str]

    def run(
        self,
        scene: Scene,
        args: Sequence[str],
        *,
        kill: Sequence[Any] | None = None,
        kill_after_seconds: float | None = None,
        signals: Sequence[int] = (signal.SIGKILL,),
    ) -> End:
        """Carry out ``shardrestore run`` on a scene's pair; see `Scene.words`.

        Signals are sent at the operation `kill`, and one at each operation after it.
        """
        streams = {name: str(scene.root / f".{name}") for name in ("stdout", "stderr")}
        job = {
            "argv": ["run", *scene.words(*args)],
            "cwd": str(scene.root),
            "kill": kill,
            "signals": list(signals),
            "kill_after_seconds": kill_after_seconds,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job | streams) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        texts = {name: Path(path).read_text() for name, path in streams.items()}
        return End(**answer, **texts)


@contextmanager
def driving(environment: Mapping[str, str] | None = None) -> Iterator[Driver]:
    """Start a driver, without network unless an environment leads to one."""
    process = subprocess.Popen(
        [sys.executable, str(DRIVER)],
        env=offline() if environment is None else {**environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Driver(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def is_hidden(name: str) -> bool:
    return STAGING in Path(name).parts


def visible(tree: Tree) -> Tree:
    """Return what is not in a hidden folder."""
    return {name: data for name, data in tree.items() if not is_hidden(name)}


@dataclass
class Play:
    """A command on a pair, its result, and what the output held before."""

    driver: Driver
    scene: Scene
    args: list[str]
    older: Tree = field(default_factory=dict)
    whole: Tree = field(default_factory=dict)
    reference: End | None = None

    @property
    def output(self) -> Path:
        return self.scene.output

    def rehearse(self) -> End:
        """Run without interruption: what every resumed run must end with."""
        self.older = read_tree(self.output) if self.output.exists() else {}
        self.reset()
        self.reference = self.run()
        assert self.reference.status == 0, self.reference.stderr
        self.whole = read_tree(self.output)
        assert self.whole == visible(self.whole)
        self.reset()
        return self.reference

    def reset(self) -> None:
        """Put the output back as it was before the first run."""
        shutil.rmtree(self.output, ignore_errors=True)
        for name, data in self.older.items():
            (self.output / name).parent.mkdir(parents=True, exist_ok=True)
            (self.output / name).write_bytes(data)

    def run(self, *more: str, **options: Any) -> End:
        return self.driver.run(self.scene, [*self.args, *more], **options)

    def resume(self, *more: str, **options: Any) -> End:
        return self.run("--resume", *more, **options)

    def check_left(self) -> None:
        """Nothing incomplete has a final name; what an index names is one whole model."""
        found = visible(read_tree(self.output)) if self.output.exists() else {}
        for name, data in found.items():
            assert data in (self.whole.get(name), self.older.get(name)), name
        for index in (name for name in found if Path(name).name == INDEX):
            shards = {
                (Path(index).parent / name).as_posix()
                for name in json.loads(found[index])["weight_map"].values()
            }
            assert any(
                {index, *shards} <= tree.keys()
                and all(found.get(name) == tree[name] for name in (index, *shards))
                for tree in (self.whole, self.older)
            ), f"{index}: names what is not its model"

    def check_finished(self, end: End) -> None:
        """The run succeeded; its tree is the uninterrupted run's, to the byte and the name."""
        assert end.status == 0, end.stderr
        found = read_tree(self.output)
        assert found.keys() == self.whole.keys(), sorted(found.keys() ^ self.whole.keys())
        assert found == self.whole, [n for n in found if found[n] != self.whole[n]]
        assert not list(self.output.rglob(STAGING))
