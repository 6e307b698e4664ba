"""Before pass 1: whether what a sample finds tied is equal in every byte."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ..engine.choice import open_engine
from ..engine.job import Job
from ..engine.workspace import as_bytes
from ..machine.executor import Control, Stage
from ..plan.segment import Segment
from .context import Context


def find_differences(context: Context, twins: Sequence[Segment]) -> dict[str, int]:
    """Compare further names of tied weights with the first one.

    Parameters
    ----------
    context : Context
    twins : sequence of Segment

    Returns
    -------
    dict
        An element at which it differs, by name; empty if all of them are equal.

    Raises
    ------
    CheckpointError
        If the target cannot be read.
    """
    stage = Stage(name="compare", open_worker=partial(_Comparer, context.job), work=_Comparer.find)
    differences: dict[str, int] = {}
    with context.run_observed(stage, twins) as results:
        for segment, element in results:
            if element is not None:
                name = segment.pair.name
                differences[name] = min(element, differences.get(name, element))
    return differences


class _Comparer:
    """One worker that compares."""

    def __init__(self, job: Job, control: Control) -> None:
        self._space = open_engine(job, control).space
        self._target = job.target
        self._control = control

    def find(self, segment: Segment) -> int | None:
        """Return the first element of a segment that differs from its leader's."""
        pair, space, target = segment.pair, self._space, self._target
        leader = target.tensors[pair.twin or ""]
        found: int | None = None
        space.announce(target, leader, segment.start, segment.elements)
        for start, codes in space.target_chunks(pair.target, segment.start, segment.elements):
            known = space.base_buffer[: codes.nbytes].view(codes.dtype)
            target.reader.read(leader, start, codes.size, as_bytes(known))
            differs = known != codes
            if found is None and differs.any():
                found = start + int(np.argmax(differs))
            self._control.advance(codes.size * segment.element_bytes)
        return found
