"""Executors: every task once, the first failure ends the stage, progress one call at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shardrestore.errors import MemoryBudgetError
from shardrestore.machine.executor import Control, Executor, Stage, Stopped, running
from shardrestore.machine.progress import SilentObserver
from shardrestore.machine.serial import SerialExecutor
from shardrestore.machine.threads import ThreadExecutor


class Listener:
    """Notes what it hears, and whether two threads spoke at once."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.clashes = 0
        self._speaking = False

    def advance(self, nbytes: int) -> None:
        self._hear(nbytes)

    def note(self, remark: str) -> None:
        self._hear(remark)

    def _hear(self, what: object) -> None:
        self.clashes += self._speaking
        self._speaking = True
        time.sleep(0)
        self.heard.append(what)
        self._speaking = False


def square(control: Control, task: int) -> int:
    control.advance(task)
    return task * task


def keep(control: Control) -> Control:
    return control


def make_stage(work: Callable[[Any, Any], Any], open_worker: Any = keep) -> Stage[Any, Any, Any]:
    return Stage(name="test", open_worker=open_worker, work=work)


EXECUTORS = pytest.mark.parametrize("executor", [ThreadExecutor(), SerialExecutor()])


@EXECUTORS
@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_is_done_once_and_its_progress_is_heard(
    executor: Executor, workers: int
) -> None:
    listener, tasks = Listener(), list(range(200))
    with running(executor, make_stage(square), tasks, workers, listener) as results:
        assert sorted(results) == [(task, task * task) for task in tasks]
    assert sorted(listener.heard) == tasks  # type: ignore[type-var]
    assert not listener.clashes


def test_the_serial_executor_does_a_task_when_its_result_is_asked_for() -> None:
    done: list[int] = []
    stage = make_stage(lambda _, task: done.append(task))
    with running(SerialExecutor(), stage, range(5), 3, SilentObserver()) as results:
        assert next(results) == (0, None)
        assert done == [0]


@EXECUTORS
@pytest.mark.parametrize("where", ["open", "work", "draw"])
def test_what_a_worker_fails_of_is_raised_and_ends_the_stage(
    executor: Executor, where: str
) -> None:
    done: list[int] = []

    def fail(place: str) -> None:
        if where == place:
            raise ValueError(place)

    def open_worker(control: Control) -> Control:
        fail("open")
        return control

    def work(control: Control, task: int) -> None:
        done.append(task)
        fail("work")

    def draw() -> Iterator[int]:
        yield 0
        fail("draw")
        yield from range(1, 10_000)

    stage = make_stage(work, open_worker)
    with (
        pytest.raises(ValueError, match=where),
        running(executor, stage, draw(), 2, SilentObserver()) as results,
    ):
        for _ in results:
            pass
    assert len(done) < 10_000
    assert_no_thread_is_left()


def test_workers_have_ended_when_the_caller_fails_between_two_results() -> None:
    def fail_at_twenty(results: Iterator[tuple[int, int]]) -> None:
        for task, _ in results:
            if task > 20:
                raise KeyError(task)

    with (
        pytest.raises(KeyError),
        running(ThreadExecutor(), make_stage(square), range(10**9), 3, Listener()) as results,
    ):
        fail_at_twenty(results)
    assert_no_thread_is_left()


def test_workers_wait_for_a_slow_caller() -> None:
    done: list[int] = []
    stage = make_stage(lambda _, task: done.append(task))
    with running(ThreadExecutor(), stage, range(1000), 2, SilentObserver()) as results:
        next(results)
        time.sleep(0.2)
        assert len(done) <= 1 + 2 + 2  # taken, waiting in the queue, and in the workers' hands


def test_a_worker_that_is_asked_to_stop_hears_of_it_at_its_next_block_or_progress() -> None:
    stopped: list[str] = []
    begun = threading.Barrier(3)

    def work(control: Control, task: str) -> None:
        begun.wait(10)
        if task == "failing":
            raise ConnectionError
        try:
            while True:
                time.sleep(0.001)
                control.check() if task == "checking" else control.advance(1)
        except Stopped:
            stopped.append(task)
            raise

    tasks = ["failing", "checking", "advancing"]
    with (
        pytest.raises(ConnectionError),
        running(ThreadExecutor(), make_stage(work), tasks, 3, SilentObserver()) as results,
    ):
        list(results)
    assert sorted(stopped) == ["advancing", "checking"]


def test_workers_that_wait_elsewhere_are_woken_after_an_interruption() -> None:
    woken, waiting = threading.Event(), threading.Event()

    def work(control: Control, task: int) -> int:
        if task:
            waiting.set()
            assert woken.wait(10)
        return task

    def interrupt_when_one_waits(results: Iterator[tuple[int, int]]) -> None:
        next(results)
        assert waiting.wait(10)
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        running(
            ThreadExecutor(), make_stage(work), [0, 1], 2, SilentObserver(), woken.set
        ) as results,
    ):
        interrupt_when_one_waits(results)


def test_abandoned_workers_are_not_waited_for() -> None:
    released = threading.Event()

    def work(control: Control, task: int) -> None:
        if task == 0:
            raise ConnectionError
        released.wait(10)

    started = time.monotonic()
    executor = ThreadExecutor(abandons=True)
    with (
        pytest.raises(ConnectionError),
        running(executor, make_stage(work), [1, 0], 2, SilentObserver()) as results,
    ):
        list(results)
    assert time.monotonic() - started < 5
    released.set()
    for thread in threading.enumerate():
        if thread.name.startswith("shardrestore-"):
            thread.join(10)


def test_too_few_threads_are_an_error_that_says_what_to_lower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def start_one(thread: threading.Thread) -> None:
        if thread.name.endswith("1"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    with (
        pytest.raises(MemoryBudgetError, match="can't start new thread: lower --workers from 2"),
        running(ThreadExecutor(), make_stage(square), range(9), 2, Listener()) as results,
    ):
        list(results)
    assert_no_thread_is_left()


def assert_no_thread_is_left() -> None:
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("shardrestore-")]
