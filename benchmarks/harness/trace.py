"""Where a run's time goes: timers around the seams of the library, per thread.

Nothing in the library knows of this. Functions are wrapped where the passes look them
up: reading, each kernel, writing, waiting for the disk. A wrapper adds to a counter of
its own thread, so that threads never wait for each other to be measured.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from shardrestore.checkpoint.source import LocalFile
from shardrestore.engine import job
from shardrestore.kernels import load_kernels
from shardrestore.kernels.interface import Kernels
from shardrestore.output.files import ShardFiles
from shardrestore.output.syncing import SyncThread
from shardrestore.output.writer import ShardWriter
from shardrestore.passes import context

KERNELS = {"score_keys": "score", "count_bins": "count", "count_lows": "count", "select": "restore"}
"""Activity of each kernel; the others are casts."""

ACTIVITIES = ("read", "score", "count", "restore", "cast", "write", "wait for the disk")
"""What workers do, as far as it is timed; the rest is Python, the lock of it, and idleness."""

SYNC = "sync"
"""What the thread that syncs does."""

PHASES = {"random": "refine"}
"""Stages that belong to the phase of another one."""

LAST_SYNC = "last sync"
"""The phase after pass 2 in which the last shards reach the disk."""


class Trace:
    """Seconds by phase and activity, over all threads, and each phase's own."""

    def __init__(self) -> None:
        self.phase = ""
        self.wall_seconds: dict[str, float] = defaultdict(float)
        """By phase."""
        self.worker_seconds: dict[str, float] = defaultdict(float)
        """Workers times wall time, by phase."""
        self._local = threading.local()
        self._counters: list[dict[tuple[str, str], float]] = []

    def timed(self, activity: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and is timed as an activity."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - started
                self._counter()[self.phase, activity] += seconds

        return wrapper

    @contextmanager
    def phased(self, phase: str, workers: int) -> Iterator[None]:
        """Count what happens meanwhile to a phase."""
        started, self.phase = time.perf_counter(), phase
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.phase = ""
            self.wall_seconds[phase] += seconds
            if workers:
                self.worker_seconds[phase] += workers * seconds

    def seconds(self) -> dict[str, dict[str, float]]:
        """Return the seconds of all threads together: by phase, by activity."""
        sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for counter in self._counters:
            for (phase, activity), seconds in counter.items():
                sums[phase][activity] += seconds
        return {phase: dict(activities) for phase, activities in sums.items()}

    def _counter(self) -> dict[tuple[str, str], float]:
        counter: dict[tuple[str, str], float] | None = getattr(self._local, "counter", None)
        if counter is None:
            counter = self._local.counter = defaultdict(float)
            self._counters.append(counter)  # append is atomic
        return counter


@contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Time everything that the library does meanwhile."""
    with ExitStack() as stack:

        def wrap(owner: Any, name: str, activity: str) -> None:
            stack.enter_context(
                patch.object(owner, name, trace.timed(activity, getattr(owner, name)))
            )

        wrap(LocalFile, "read_into", "read")
        wrap(ShardWriter, "write", "write")
        wrap(ShardWriter, "flush", SYNC)
        wrap(ShardWriter, "finish", SYNC)
        wrap(ShardFiles, "wrote", "wait for the disk")
        wait, running = SyncThread.wait, vars(context)["running"]

        def wait_last(sync: SyncThread) -> None:
            with trace.phased(LAST_SYNC, 0):
                wait(sync)

        @contextmanager
        def run_stage(executor: Any, stage: Any, tasks: Any, workers: int, *rest: Any) -> Any:
            phase = PHASES.get(stage.name, stage.name)
            with trace.phased(phase, workers), running(executor, stage, tasks, workers, *rest) as r:
                yield r

        stack.enter_context(patch.object(SyncThread, "wait", wait_last))
        stack.enter_context(patch.object(context, "running", run_stage))
        kernels = _time_kernels(trace)
        stack.enter_context(patch.object(job, "compile_kernels", lambda *_: kernels))
        yield


def _time_kernels(trace: Trace) -> SimpleNamespace:
    # A set of kernels of its own: a kernel must not find another one's wrapper.
    kernels, names = load_kernels(), [name for name in vars(Kernels) if not name.startswith("_")]
    return SimpleNamespace(
        **{name: trace.timed(KERNELS.get(name, "cast"), getattr(kernels, name)) for name in names}
    )
