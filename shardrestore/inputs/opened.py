"""Base and target, open in one process, and opened again in another one."""

from __future__ import annotations

from typing import Any

from ..checkpoint.folder import Checkpoint
from ..checkpoint.model import Model
from ..checkpoint.selection import FilePolicy
from ..errors import InputChangedError, RequestError
from .reference import open_checkpoint


class Inputs:
    """The two models of a run, open.

    Pickled, they are what names them and what distinguishes their state from another:
    unpickling opens the same files, or fails. A model in memory cannot be pickled.

    Parameters
    ----------
    base, target : Model
        Closed by the code that has opened them.
    """

    def __init__(self, base: Model, target: Model) -> None:
        self.base = base
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        sides = []
        for model in (self.base, self.target):
            if not isinstance(model, Checkpoint):
                raise TypeError(f"{model.where}: in memory, where no other process can open it")
            sides.append((model.identity(), model.policy))
        return _reopen, tuple(sides)


Side = tuple[dict[str, Any], FilePolicy]
"""What names a checkpoint and its state, and how its files were found."""


def refuse_same(base: Model, target: Model) -> None:
    """Refuse one checkpoint as both: there is nothing to restore.

    Raises
    ------
    RequestError
    """
    if not (isinstance(base, Checkpoint) and isinstance(target, Checkpoint)):
        return
    place = base.location.identity()["path"]
    if target.location.identity()["path"] == place:
        raise RequestError(
            f"base and target are the same, {target.where} (in both cases {place}): name as the "
            "base the model before fine-tuning, as the target the one after it"
        )


def _reopen(base: Side, target: Side) -> Inputs:
    return Inputs(_open_same(*base, "base"), _open_same(*target, "target"))


def _open_same(identity: dict[str, Any], policy: FilePolicy, role: str) -> Checkpoint:
    """Open a checkpoint again; refuse it if its headers or sizes are others than they were."""
    checkpoint = open_checkpoint(identity["path"], role, policy=policy)
    if checkpoint.identity() != identity:
        checkpoint.close()
        raise InputChangedError(
            f"{role} {checkpoint.where}: changed while it was read: run again when nothing "
            "writes to it"
        )
    return checkpoint
