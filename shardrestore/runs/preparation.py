"""What comes before pass 1: inputs on disk, and certainty about what is tied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..engine.job import Job
from ..machine.stopwatch import Stopwatch
from ..passes.compare import find_differences
from ..passes.context import Context
from ..plan.segment import Segment
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

    def untie(differences: Mapping[str, int]) -> tuple[Sequence[Segment], Job]:
        session.untie(differences)
        return session.work.twins, session.job()

    with watch.phase("scan"):
        return settle_ties(context, session.work.twins, untie)


def settle_ties(
    context: Context,
    twins: Sequence[Segment],
    untie: Callable[[Mapping[str, int]], tuple[Sequence[Segment], Job]],
) -> Context:
    """Compare what a sample found tied, until all that is left is equal in every byte.

    Parameters
    ----------
    context : Context
    twins : sequence of Segment
    untie : callable
        Plans anew, given where tensors differ; returns the twins that are left, and their job.

    Returns
    -------
    Context
        Of the job that was planned last.
    """
    while twins and (differences := find_differences(context, twins)):
        twins, job = untie(differences)
        context = replace(context, job=job)
    return context
