"""One restoration of the same weights at a time: other threads are refused by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import shardrestore
from shardrestore import RequestError
from shardrestore.machine.progress import SilentObserver
from tests.support.examples import TIMES
from tests.support.library import Library, cut_into
from tests.support.modules import build, state
from tests.support.oracle import Stored

FINE = Library(cut_into(segment_elements=500, chunk_elements=100, block_bytes=800))
NAMES = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight")


def make(seed: int) -> nn.Module:
    rng = np.random.default_rng(seed)
    values = {name: rng.standard_normal((40, 50), np.float32) for name in NAMES}
    return build({name: Stored("F32", (40, 50), data.tobytes()) for name, data in values.items()})


def restore(model: nn.Module, base: nn.Module, **options: object) -> None:
    FINE.restore_module(model, base, region="all", workers=2, **options)


class Gate(SilentObserver):
    """Holds an edit before it writes, until it may go on."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def begin(self, stage: str, total_bytes: int) -> None:
        if stage == "restore":
            self.reached.set()
            assert self.open.wait(60)


@contextmanager
def another_thread_restores(model: nn.Module, base: nn.Module) -> Iterator[None]:
    """Leave a restoration at work on another thread, half done; let it end afterwards."""
    gate = Gate()
    with ThreadPoolExecutor(1, thread_name_prefix="other") as pool:
        done = pool.submit(restore, model, base, percent=10.0, observer=gate)
        try:
            assert gate.reached.wait(60)
            yield
        finally:
            gate.open.set()
        done.result()


def test_a_second_thread_is_refused_and_the_first_is_as_if_alone() -> None:
    model, alone, base = make(1), make(1), make(0)
    restore(alone, base, percent=10.0)
    with another_thread_restores(model, base), pytest.raises(RequestError) as told:
        restore(model, base, percent=60.0)
    assert str(told.value) == (
        "Module: thread other_0 is at work on a restoration of Module, which shares 2 of 4 "
        "parameters with this one, the first model.embed_tokens.weight: next step: restore when "
        "that has ended, or give each thread a copy of the model"
    )
    assert state(model) == state(alone)
    restore(model, base, percent=60.0)  # whoever was refused holds nothing


@pytest.mark.parametrize(
    "refused",
    [
        lambda model, base: restore(model.model.layers, make(2).model.layers, percent=10.0),
        lambda model, base: restore(make(2), model, percent=10.0),
        lambda model, base: restore(base, make(2), percent=10.0),
    ],
    ids=["a part of the model", "the model as a base", "the base as a model"],
)
def test_whatever_shares_memory_with_a_running_restoration_is_refused(
    refused: Callable[[nn.Module, nn.Module], None],
) -> None:
    model, base = make(1), make(0)
    with (
        another_thread_restores(model, base),
        pytest.raises(RequestError, match="thread other_0 is at work"),
    ):
        refused(model, base)


def test_models_of_one_base_are_restored_side_by_side() -> None:
    model, other, base = make(1), make(1), make(0)
    with another_thread_restores(model, base):
        restore(other, base, percent=10.0)
    assert state(model) == state(other)


def test_a_restoration_that_is_not_left_is_its_own_threads_alone() -> None:
    model, base = make(1), make(0)
    before = state(model)
    with (
        ThreadPoolExecutor(1) as pool,
        FINE.restored(model, base, percent=10, region="all"),
    ):
        inside = state(model)
        with pytest.raises(RequestError, match="has not yet left its `with` statement for"):
            pool.submit(restore, model, base, percent=10.0).result()
        assert state(model) == inside
        with FINE.restored(model, base, percent=60, region="all"):
            assert state(model) != inside
        assert state(model) == inside
        pool.submit(restore, make(2), base, percent=10.0).result()  # the base is only read
    assert state(model) == before
    restore(model, base, percent=10.0)


def test_weights_that_moved_are_found_where_they_are() -> None:
    model, base = make(1), make(0)
    with (
        ThreadPoolExecutor(1) as pool,
        FINE.restored(model, base, percent=10, region="all"),
    ):
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()  # as model.to(device) does
        with pytest.raises(RequestError, match="2 of 4 parameters"):
            pool.submit(restore, model, base, percent=10.0).result()


def test_an_observer_cannot_restore_what_is_being_restored() -> None:
    model, base = make(1), make(0)

    class Nested(SilentObserver):
        def begin(self, stage: str, total_bytes: int) -> None:
            if stage == "restore":
                restore(model, base, percent=60.0)

    before = state(model)
    with pytest.raises(RequestError, match=f"thread {threading.current_thread().name} is at work"):
        restore(model, base, percent=10.0, observer=Nested())
    assert state(model) == before


def test_a_failed_restoration_gives_its_memory_up() -> None:
    model, base = make(1), make(0)
    with torch.no_grad():
        model.get_parameter(NAMES[0])[0, 0] = float("nan")
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(shardrestore.ShardRestoreError, match="NaN"):
            pool.submit(restore, model, base, percent=10.0).result()
        restore(model, base, percent=10.0, allow_nonfinite=True)


def test_whatever_threads_do_at_once_the_model_is_what_some_order_of_them_gives() -> None:
    base, percents = make(0), (10.0, 60.0)
    allowed = []
    for order in ([0], [1], [0, 1], [1, 0]):
        alone = make(1)
        for number in order:
            restore(alone, base, percent=percents[number])
        allowed.append((sorted(order), state(alone)))
    for _ in range(20 * TIMES):
        model, start = make(1), threading.Barrier(2)

        def attempt(
            number: int, model: nn.Module = model, start: threading.Barrier = start
        ) -> bool:
            start.wait()
            try:
                restore(model, base, percent=percents[number])
            except RequestError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(attempt, (0, 1)))
        assert ([number for number in (0, 1) if done[number]], state(model)) in allowed
