"""A device that runs out of memory in the middle of an edit: the segment is edited anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch

import shardrestore
from shardrestore.inplace import edit
from shardrestore.inplace.changes import Changes, SegmentSink
from shardrestore.inplace.weights import Weights, name_format
from shardrestore.kernels import gpu
from shardrestore.machine.device import Device
from shardrestore.plan.device_memory import ELEMENT_SCRATCH_BYTES
from tests.support.checkpoints import Stored, store
from tests.support.devices import allocated_peak
from tests.support.library import Library, cut_into
from tests.support.modules import AS_ON_A_GPU, build, in_device_memory, state

NAMES = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(3)]
FINE = Library(cut_into(segment_elements=300, chunk_elements=16, block_bytes=128))


def numbers(scale: float) -> dict[str, Stored]:
    values = torch.arange(1, 701) * scale
    return {name: store((values * (1 + n / 8)).tolist(), "BF16") for n, name in enumerate(NAMES)}


def fails_at(
    kernel: Callable[..., Any], numbers: set[int], error: RuntimeError
) -> Callable[..., Any]:
    """Let some calls of a kernel fail."""
    calls = 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in numbers:
            raise error
        return kernel(*arguments, **options)

    return call


@pytest.fixture(autouse=True, scope="module")
def device() -> Iterator[Device]:
    """Always torch: processors do not run out of memory in this way."""
    with mock.patch.object(edit, "find_resident_device", return_value=AS_ON_A_GPU):
        yield AS_ON_A_GPU


@pytest.fixture
def expected() -> dict[str, Stored]:
    """The bits of an edit that nothing disturbs."""
    model = build(numbers(1.03))
    FINE.restore_module(model, build(numbers(1.0)), percent=30, workers=1)
    return state(model)


@pytest.mark.parametrize("at", [{1}, {4}, {7}, {4, 9}, {2, 20, 21, 40}, set(range(3, 1000))])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("MPS backend out of memory (used …)")]
)
def test_what_was_written_of_a_segment_is_taken_back_before_it_is_scored_again(
    monkeypatch: pytest.MonkeyPatch,
    expected: dict[str, Stored],
    at: set[int],
    error: RuntimeError,
) -> None:
    """Restored weights equal the base's: scored once more they would count as unchanged."""
    model, base = build(numbers(1.03)), build(numbers(1.0))
    before = state(model)
    monkeypatch.setattr(gpu, "restore_scores", fails_at(gpu.restore_scores, at, error))
    with FINE.restored(model, base, percent=30, workers=1) as report:
        assert state(model) == expected
        assert "out of memory" in report.costs.device.reason
    assert state(model) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("chunk_elements", [1 << 20, 1 << 16])
def test_noting_changes_takes_no_more_than_the_scratch_of_a_chunk(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, chunk_elements: int
) -> None:
    """A block of 8 MiB, all of it changed: processors' memory stands for the device's."""
    in_device_memory(monkeypatch)
    elements = (8 << 20) // dtype.itemsize
    weights = Weights("w", torch.nn.Parameter(torch.zeros(elements, dtype=dtype)))
    changes = Changes(1)
    sink = SegmentSink(changes.open_writer(chunk_elements, 1), weights)
    ones = torch.ones(elements, dtype=dtype).view(gpu.code_type(name_format(dtype) or ""))
    peak = allocated_peak(lambda: sink.write(0, elements, [ones]))
    assert peak <= ELEMENT_SCRATCH_BYTES * chunk_elements
    assert changes.nbytes == 8 << 20
    changes.undo()
    assert not weights.read(0, elements).any()


def test_less_is_noted_at_once_after_a_device_was_full() -> None:
    weights = Weights("w", torch.nn.Parameter(torch.zeros(400)))
    writer = Changes(1).open_writer(300, least_elements=100)
    sink, ones = SegmentSink(writer, weights), torch.ones(400, dtype=torch.int32)
    lengths = []
    for _ in range(3):
        sink.write(0, ones.numel(), [ones])
        lengths.append([patch.elements for patch in sink._patches])
        sink.restart()
    assert lengths == [[300, 100], [150, 150, 100], [100] * 4]
    assert not weights.read(0, ones.numel()).any()


def test_another_failure_of_the_device_is_told_and_the_module_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch, expected: dict[str, Stored]
) -> None:
    model, base = build(numbers(1.03)), build(numbers(1.0))
    before = state(model)
    error = RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with …")
    monkeypatch.setattr(gpu, "restore_scores", fails_at(gpu.restore_scores, {5}, error))
    with pytest.raises(shardrestore.DeviceError) as told:
        FINE.restore_module(model, base, percent=30, workers=1)
    assert str(told.value) == (
        "cpu failed: CUDA error: an illegal memory access was encountered: move the model to the "
        "processor"
    )
    assert state(model) == before
