"""Where a model's complete shards go while it is being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from ..output.publication import Move
from ..plan.layout import OutputShard
from .workspace import Workspace


class ShardSink(Protocol):
    """Takes complete shards, and commits the model they make before it gets its name."""

    @property
    def identity(self) -> Mapping[str, object]:
        """What a run must have in common with the one it resumes, as JSON values."""
        ...

    @property
    def one_by_one(self) -> bool:
        """Whether each shard leaves, by ``take``, before the next is begun."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """Names of the files that ``commit`` adds to the model's folder."""
        ...

    def held(self, workspace: Workspace) -> Mapping[str, str]:
        """Return the SHA-256 of each shard that has left, by its name."""
        ...

    def check(self, workspace: Workspace) -> None:
        """Make sure that what an earlier run has sent is still there; note what is not."""
        ...

    def begin(self, workspace: Workspace) -> None:
        """Get ready, before the first shard is written; take those that are complete."""
        ...

    def take(self, shard: OutputShard, workspace: Workspace) -> None:
        """Take a complete shard; the next is begun when this returns."""
        ...

    def is_committed(self, workspace: Workspace) -> bool:
        """Whether ``commit`` has been done: complete files only have to get their names."""
        ...

    def commit(self, moves: Sequence[Sequence[Move]], workspace: Workspace) -> None:
        """Do what comes last before the renames `moves`."""
        ...


class KeepLocal:
    """Shards stay in the hidden folder until they get their names: many may grow at once."""

    identity: Mapping[str, object] = MappingProxyType({})
    one_by_one = False
    files: Sequence[str] = ()

    def held(self, workspace: Workspace) -> Mapping[str, str]:
        """Return nothing: no shard has left."""
        return {}

    def check(self, workspace: Workspace) -> None:
        """Do nothing: no shard has left."""

    def begin(self, workspace: Workspace) -> None:
        """Do nothing: complete shards are where they belong."""

    def take(self, shard: OutputShard, workspace: Workspace) -> None:
        """Do nothing: the shard is where it belongs."""

    def is_committed(self, workspace: Workspace) -> bool:
        """Return true: nothing comes before the renames."""
        return True

    def commit(self, moves: Sequence[Sequence[Move]], workspace: Workspace) -> None:
        """Do nothing: nothing comes before the renames."""
