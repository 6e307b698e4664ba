"""Shards of all outputs, from the first task of each to its name in the hidden folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from ..checkpoint.source import spare_files
from ..output.files import ShardFiles
from ..output.staging import Staging
from ..plan.layout import OutputShard
from ..plan.tasks import Task

Result = TypeVar("Result")


class Writers(Generic[Result]):
    """Creates a shard's files before its first task, and completes them after its last.

    Waiting for the disk happens on a thread of its own, while the workers go on.

    Parameters
    ----------
    shards : sequence of OutputShard
    tasks : sequence of Task
    outputs : sequence of Staging
    at_once : int
        Shards that are written at once.
    completed : callable
        Called with number and result of each shard that is on disk in all outputs.
    """

    def __init__(
        self,
        shards: Sequence[OutputShard],
        tasks: Sequence[Task],
        outputs: Sequence[Staging],
        at_once: int,
        completed: Callable[[int, Result], None],
    ) -> None:
        self._shards = shards
        self._outputs = outputs
        self._completed = completed
        self._begun: set[int] = set()
        self._left = Counter(task.shard for task in tasks)
        names = [shard.filename for shard in shards]
        self.files = ShardFiles(names, [staging.unfinished for staging in outputs], at_once)

    def __enter__(self) -> Writers[Result]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.files.close()

    def draw(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Yield tasks; the files that each writes to are there."""
        for task in tasks:
            if task.shard not in self._begun:
                self.begin(task.shard)
            yield task

    def begin(self, number: int) -> None:
        """Create the files of a shard."""
        self._begun.add(number)
        shard = self._shards[number]
        for staging in self._outputs:
            staging.unfinished_path(shard.filename)
        self.files.create(number, shard.prefix, shard.nbytes)

    def is_last(self, shard: int) -> bool:
        """Note that a task of the shard is done; return whether it was the last."""
        self._left[shard] -= 1
        return self._left[shard] == 0

    def complete(self, shard: int, result: Result) -> None:
        """Complete a shard to which nothing more will be written, once the disk has it.

        Its files are open until then: small shards are written faster than the disk takes them.
        """
        self.files.sync.make_room(max(1, spare_files() // 4 // len(self._outputs)))
        self.files.sync.submit(self._complete, shard, result)

    def _complete(self, shard: int, result: Result) -> None:
        self.files.finish(shard)
        for staging in self._outputs:
            staging.complete(self._shards[shard].filename)
        self._completed(shard, result)

    def wait(self) -> None:
        """Wait until every shard is on disk; raise what went wrong."""
        self.files.sync.wait()
