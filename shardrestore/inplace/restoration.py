"""A module restored in place, for good or for a while: undone if it fails, and on leaving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn import Module

from ..figures.restoration import RestorationReport
from ..inputs.reference import Reference
from ..machine.progress import Observer
from ..machine.stopwatch import Stopwatch
from ..request import Request
from .edit import Edit


def restore_for_good(
    module: Module, base: Module | Reference, request: Request, observer: Observer | None
) -> RestorationReport:
    """Restore a module; whatever is raised, it is then as it was."""
    edit = Edit(module, base, request, observer, Stopwatch())
    try:
        return edit.carry_out(lasting=True)
    except BaseException:
        try:
            edit.changes.undo()
        finally:  # again: Ctrl-C may have struck the call before its first line
            edit.changes.undo()
        raise


@contextmanager
def restore_for_a_while(
    module: Module, base: Module | Reference, request: Request, observer: Observer | None
) -> Iterator[RestorationReport]:
    """Restore a module, and undo it on leaving."""
    edit = Edit(module, base, request, observer, Stopwatch())
    try:
        yield edit.carry_out(lasting=False)
    finally:
        try:
            edit.changes.undo()
        finally:  # as above
            edit.changes.undo()
