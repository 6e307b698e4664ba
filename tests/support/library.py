"""The library's functions, with work cut as finely as a test wants it, and other kernels.

What commands and Python have no option for is part of a request: a ``Library`` makes the
request that the function of the same name makes, with other sizes in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import shardrestore
from shardrestore.granularity import DEFAULT_GRANULARITY, Granularity
from shardrestore.inplace.restoration import restore_for_a_while, restore_for_good
from shardrestore.inputs.reference import Reference
from shardrestore.machine.progress import Observer
from shardrestore.machine.stopwatch import Stopwatch
from shardrestore.request import (
    Request,
    make_module_request,
    make_request,
    make_scan_request,
)
from shardrestore.runs.planner import make_plan
from shardrestore.runs.profiler import make_profile
from shardrestore.runs.runner import run
from shardrestore.runs.session import Session
from shardrestore.verification.verify import verify_folder


def cut_into(
    segment_elements: int = 1 << 26,
    chunk_elements: int = 1 << 16,
    block_bytes: int = 4 << 20,
    copy_bytes: int = 1 << 26,
) -> Granularity:
    """Cut work into pieces so small that small tensors have many, on any device."""
    return Granularity(
        segment_elements=segment_elements,
        copy_bytes=copy_bytes,
        block_bytes=block_bytes,
        gpu_block_bytes=block_bytes,
        chunk_elements=chunk_elements,
        compared_elements=chunk_elements,
    )


GRANULARITIES = st.builds(
    cut_into,
    st.sampled_from([61, 128, 500, 1 << 26]),
    st.sampled_from([7, 16, 100, 1 << 16]),
    st.sampled_from([64, 200, 1000, 4 << 20]),
    st.sampled_from([5, 1000, 1 << 26]),
)


@dataclass(frozen=True, slots=True)
class Library:
    """Functions of ``shardrestore``; each takes what its namesake takes.

    Except ``verify``: no request says what to verify; it takes what ``verify_folder`` does.
    """

    granularity: Granularity = DEFAULT_GRANULARITY
    kernel_set: str = "cpu"

    def _with_means(self, request: Request) -> Request:
        return replace(request, granularity=self.granularity, kernel_set=self.kernel_set)

    def restore(
        self,
        base: Reference,
        target: Reference,
        output: Reference,
        *,
        percent: float = 10,
        observer: Observer | None = None,
        **options: Any,
    ) -> shardrestore.Restoration:
        request = self._with_means(make_request([percent], options))
        with Session(base, target, request) as session:
            (result,) = run(session, [Path(output)], observer, Stopwatch())
            return result

    def sweep(
        self,
        base: Reference,
        target: Reference,
        output: Reference,
        *,
        percents: Sequence[float],
        observer: Observer | None = None,
        **options: Any,
    ) -> tuple[shardrestore.Restoration, ...]:
        request = self._with_means(make_request(percents, options))
        with Session(base, target, request) as session:
            outputs = [Path(output) / name for name in request.names]
            return run(session, outputs, observer, Stopwatch())

    def plan(
        self,
        base: Reference,
        target: Reference,
        output: Reference,
        *,
        percents: Sequence[float],
        **options: Any,
    ) -> shardrestore.Plan:
        """Plan a sweep."""
        request = self._with_means(make_request(percents, options))
        return make_plan(base, target, Path(output), request, swept=True, one_by_one=False)

    def scan(
        self,
        base: Reference,
        target: Reference,
        output: Path,
        *,
        observer: Observer | None = None,
        **options: Any,
    ) -> None:
        request = self._with_means(make_scan_request(options))
        make_profile(base, target, output, request, observer)

    def restore_module(
        self,
        module: Any,
        base: Any,
        *,
        percent: float = 10,
        observer: Observer | None = None,
        **options: Any,
    ) -> shardrestore.RestorationReport:
        request = self._with_means(make_module_request(percent, options))
        return restore_for_good(module, base, request, observer)

    def restored(
        self,
        module: Any,
        base: Any,
        *,
        percent: float = 10,
        observer: Observer | None = None,
        **options: Any,
    ) -> AbstractContextManager[shardrestore.RestorationReport]:
        request = self._with_means(make_module_request(percent, options))
        return restore_for_a_while(module, base, request, observer)

    def verify(
        self, output: Reference, *, max_memory_bytes: int, **options: Any
    ) -> shardrestore.Verification:
        return verify_folder(
            output,
            max_memory_bytes=max_memory_bytes,
            granularity=self.granularity,
            kernel_set=self.kernel_set,
            **options,
        )
