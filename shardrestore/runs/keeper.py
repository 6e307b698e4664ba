"""What becomes of a model's complete shards while it is being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from ..output.staging import Move, Staging
from ..plan.layout import OutputShard
from .recovery import Recovery


class Keeper(Protocol):
    """Looks after complete shards."""

    @property
    def identity(self) -> Mapping[str, object]:
        """What a run must have in common with the one it resumes, as JSON values."""
        ...

    @property
    def one_by_one(self) -> bool:
        """Whether each shard leaves, by ``take``, before the next is begun."""
        ...

    @property
    def seconds(self) -> float:
        """Time that was taken for shards to leave, so far."""
        ...

    def resume(self, recovery: Recovery) -> None:
        """Look after what an earlier run has let go, before anything else is done."""
        ...

    def begin(self, shards: Sequence[OutputShard], staging: Staging, recovery: Recovery) -> None:
        """Get ready for shards, before the first is written; take those that are complete."""
        ...

    def take(self, shard: OutputShard, staging: Staging, recovery: Recovery) -> None:
        """Have a complete shard leave; the next is begun when this returns."""
        ...

    def is_settled(self, recovery: Recovery) -> bool:
        """Whether files that are complete only have to get their names."""
        ...

    def settle(self, moves: Sequence[Move], staging: Staging, recovery: Recovery) -> None:
        """Do what comes last before the renames `moves`."""
        ...


class StayHere:
    """Shards stay in the hidden folder until they get their names: many may grow at once."""

    identity: Mapping[str, object] = MappingProxyType({})
    one_by_one = False
    seconds = 0.0

    def resume(self, recovery: Recovery) -> None:
        """Nothing has left."""

    def begin(self, shards: Sequence[OutputShard], staging: Staging, recovery: Recovery) -> None:
        """Complete shards are where they belong."""

    def take(self, shard: OutputShard, staging: Staging, recovery: Recovery) -> None:
        """The shard is where it belongs."""

    def is_settled(self, recovery: Recovery) -> bool:
        """Nothing comes before the renames."""
        return True

    def settle(self, moves: Sequence[Move], staging: Staging, recovery: Recovery) -> None:
        """Nothing comes before the renames."""
