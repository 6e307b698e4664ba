"""What comes before pass 1: inputs on disk, and certainty about what is tied."""

from __future__ import annotations

from dataclasses import replace

from ..machine.stopwatch import Stopwatch
from ..passes.compare import find_differences
from ..passes.context import Context
from .session import ModelSession


def prepare(session: ModelSession, context: Context, watch: Stopwatch) -> Context:
    """Download what is to be, and compare what is tied; return the context of the passes.

    Parameters
    ----------
    session : ModelSession
        Planned anew where weights differ that a sample found tied.
    context : Context
    watch : Stopwatch

    Raises
    ------
    HubError, CheckpointError
        If an input cannot be had.
    PairingError
        If weights differ that the configuration ties.
    """
    session.downloads.carry_out(session.work.sizing.downloads, context.observer, watch)
    with watch.phase("scan"):
        while twins := session.work.twins:
            differences = find_differences(context, twins)
            if not differences:
                break
            session.untie(differences)
            context = replace(context, job=session.job())
    return context
