"""What a run keeps on disk until its models get their names, and what can be resumed.

In the hidden folder of its first output: the journal, and the profile of its scan. In those
of all outputs: the shards that are complete, except those that a sink has sent elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import InputChangedError, NonFiniteError, OutputError, ProfileError, ShardRestoreError
from ..names import JOURNAL_FILE, SCAN_FILE
from ..output.publication import Move
from ..output.staging import Staging
from ..passes.restore import ShardResult
from ..plan.layout import OutputShard
from .identity import describe_run, find_difference
from .journal import Journal, ShardFinished, ShardsLost
from .session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The hidden folders of a run, and its journal."""

    stagings: tuple[Staging, ...]
    """One for each output."""
    journal: Journal
    """In the first of them."""
    shards: tuple[OutputShard, ...]
    """What is written into each."""

    @property
    def first(self) -> Staging:
        """The hidden folder that holds what is kept once for all outputs."""
        return self.stagings[0]

    @property
    def moves(self) -> Sequence[Sequence[Move]] | None:
        """The renames that publish each output; None before all files are complete."""
        prepared = self.journal.prepared
        if prepared is None:
            return None
        with self.journal.reading():
            # There are more if some outputs have been tidied up already.
            if len(prepared.moves) < len(self.stagings):
                raise ValueError("an output is missing")
        return prepared.moves

    @property
    def is_published(self) -> bool:
        """Whether all files have got their names: what is hidden is not needed any more."""
        moves = self.moves
        return moves is not None and all(
            staging.has_published(planned)
            for planned, staging in zip(moves, self.stagings, strict=False)
        )

    def finished(self, held: Collection[str] = ()) -> dict[int, ShardResult]:
        """Return what was done in each shard that is complete, by its number.

        Parameters
        ----------
        held : collection of str
            Shards that are not here because a sink has sent them elsewhere.
        """
        numbers = {shard.filename: number for number, shard in enumerate(self.shards)}
        with self.journal.reading():
            return {
                number: step.result()
                for step in self.journal.steps()
                if isinstance(step, ShardFinished)
                for number in [numbers[step.name]]  # a whole journal names no other shard
                if step.name in held or self._is_staged(step)
            }

    def _is_staged(self, step: ShardFinished) -> bool:
        """Whether a shard is in every output, as it was when it was completed."""
        pairs = zip(self.stagings, step.stamps, strict=True)
        return all(staging.stamp(step.name) == list(stamp) for staging, stamp in pairs)

    def refuse_changed(self) -> None:
        """Refuse to publish a shard that was changed since it was completed.

        Raises
        ------
        OutputError
        """
        with self.journal.reading():
            steps = [step for step in self.journal.steps() if isinstance(step, ShardFinished)]
            newest = {step.name: step for step in steps}
            for step in newest.values():
                for staging, stamp in zip(self.stagings, step.stamps, strict=False):
                    if staging.stamp(step.name) not in (None, list(stamp)):
                        raise OutputError(
                            f"{staging.folder / step.name}: was changed since the run that was "
                            "killed completed it: start anew with --overwrite, without --resume"
                        )

    @property
    def can_be_resumed(self) -> bool:
        """Whether another run can continue with what is here, and finds it."""
        return self.journal.begun and all(staging.is_here for staging in self.stagings)

    def clear(self) -> None:
        """Remove all that the run cannot use."""
        kept: list[str] = []
        if self.journal.begun:
            complete = [self.shards[number].filename for number in self.finished()]
            kept = [*complete, JOURNAL_FILE, SCAN_FILE]
        for staging in self.stagings:
            staging.clear(keep=kept)

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Begin the journal: from here on the run can be resumed.

        Those of the other outputs say that their run is kept with the first.
        """
        for staging in self.stagings:
            staging.check()
        for staging in self.stagings[1:]:
            Journal(staging.folder / JOURNAL_FILE).begin({"first": self.first.output.name})
        self.journal.begin(identity)

    def note_lost(self, names: Sequence[str]) -> None:
        """Note that shards are gone from where a sink sent them, and what follows on them."""
        prepared = self.moves is not None
        self.journal.note(ShardsLost(names=tuple(names)))
        if prepared:
            self.clear()

    def discard(self) -> None:
        """Remove all of it."""
        for staging in reversed(self.stagings):
            staging.discard()


def take_up(session: Session, stagings: Sequence[Staging], sink: Mapping[str, object]) -> Workspace:
    """Find what an earlier run has left; remove what this one cannot use.

    Parameters
    ----------
    session : Session
    stagings : sequence of Staging
        One for each output. Unless the session's request is to resume, they are emptied.
    sink : mapping
        See ``ShardSink.identity``.

    Raises
    ------
    OutputError
        If an unfinished run of other inputs or options is to be resumed.
    """
    if not session.request.resume:
        for staging in stagings:
            staging.clear()
    _refuse_other_sweeps(stagings)
    workspace = Workspace(
        stagings=tuple(stagings),
        journal=Journal(stagings[0].folder / JOURNAL_FILE),
        shards=tuple(session.work.shards),
    )
    if workspace.journal.begun:
        _check_identity(workspace, describe_run(session, sink))
    if workspace.moves is None:
        for staging in stagings:
            staging.refuse_replaced()
        workspace.clear()
    return workspace


def _refuse_other_sweeps(stagings: Sequence[Staging]) -> None:
    """Refuse an output whose unfinished run is kept with another one than our first."""
    first = stagings[0].output.name
    for staging in stagings:
        identity = Journal(staging.folder / JOURNAL_FILE).identity
        kept_with = (identity or {}).get("first", staging.output.name)
        if identity is not None and kept_with != first:
            raise OutputError(
                f"{staging.output}: holds part of an unfinished run that is kept with "
                f"{kept_with}: repeat the command it was started with, or start anew with "
                "--overwrite, without --resume"
            )


def _check_identity(workspace: Workspace, asked: Mapping[str, Any]) -> None:
    difference = find_difference(workspace.journal.identity, asked)
    if difference:
        raise OutputError(
            f"{workspace.first.output}: holds an unfinished run of other inputs or options: "
            f"{difference}: repeat the command it was started with, or start anew with "
            "--overwrite, without --resume"
        )


@contextmanager
def kept_if_resumable(workspace: Workspace) -> Iterator[None]:
    """Keep what a run leaves behind if it can be resumed, and remove it otherwise.

    If what was read is at fault, resuming cannot help: it would fail again.
    """
    try:
        yield
    except (InputChangedError, NonFiniteError, ProfileError):
        workspace.discard()
        raise
    except ShardRestoreError as error:
        error.resumable = workspace.can_be_resumed
        raise
    finally:
        if not workspace.journal.begun:
            workspace.discard()
