"""One parameter's elements: read, set and put back, also on a device that is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from shardrestore.inplace.weights import Weights, find_obstacle
from shardrestore.machine.device import Device
from tests.support.modules import in_device_memory, nowhere_at_all

ELEMENTS = 120


@pytest.fixture(autouse=True, scope="module")
def device() -> Device:
    """No edit is made here, so once is enough."""
    return Device()


class Full(TorchDispatchMode):
    """A device without a byte to spare: what does more than look and overwrite fails."""

    MAY = frozenset({"copy_", "fill_", "view", "slice", "select", "alias", "detach", "lift_fresh"})

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function.overloadpacket.__name__ not in self.MAY:
            raise torch.OutOfMemoryError(f"injected into {function}")
        return function(*args, **(kwargs or {}))


def contiguous(codes: np.ndarray) -> nn.Parameter:
    signed = torch.from_numpy(codes.view(f"i{codes.itemsize}").copy())
    values = signed.view(torch.bfloat16 if codes.itemsize == 2 else torch.float32)
    return nn.Parameter(values.view(10, 12))


def strided(codes: np.ndarray) -> nn.Parameter:
    return nn.Parameter(contiguous(codes).detach().t().contiguous().t())


LAID_OUT = pytest.mark.parametrize("laid_out", [contiguous, strided])
KINDS = pytest.mark.parametrize("kind", [np.uint16, np.uint32])


def patterns(seed: int, kind: Any) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 16, ELEMENTS).astype(kind)


@LAID_OUT
@KINDS
def test_a_full_device_has_room_to_put_back(
    monkeypatch: pytest.MonkeyPatch, laid_out: Callable[[np.ndarray], nn.Parameter], kind: Any
) -> None:
    in_device_memory(monkeypatch)
    before, after = patterns(0, kind), patterns(1, kind)
    after[::3] = before[::3]
    weights = Weights("w", laid_out(before))
    changed, former = weights.compare(17, after[17:90])
    weights.write(17, after[17:90], changed)
    assert np.array_equal(weights.read(17, 73), after[17:90])
    with Full():
        weights.put_back(17, 73, changed, former)
    assert np.array_equal(weights.read(0, ELEMENTS), before)


@KINDS
def test_a_full_device_has_room_for_what_processors_have_computed(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    in_device_memory(monkeypatch)
    weights, after = Weights("w", contiguous(patterns(0, kind))), patterns(1, kind)
    with Full():
        changed, _ = weights.compare(0, after)
        weights.write(0, after, changed)
    assert np.array_equal(weights.read(0, ELEMENTS), after)


def test_another_failure_of_putting_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    in_device_memory(monkeypatch)
    weights = Weights("w", contiguous(patterns(0, np.uint16)))
    changed, former = weights.compare(0, patterns(1, np.uint16))
    monkeypatch.setattr("shardrestore.kernels.gpu.put_back", nowhere_at_all)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        weights.put_back(0, ELEMENTS, changed, former)


@pytest.mark.parametrize(
    ("shape", "strides", "overlap"),
    [
        ((20, 20), (1, 2), True),
        ((3, 4), (3, 1), True),  # the last of a row is the first of the next
        ((3, 4), (4, 1), False),
        ((3, 4), (1, 3), False),
        ((3, 4), (9, 2), False),
        ((2, 3, 4), (4, 8, 1), False),
        ((2, 3, 4), (4, 4, 1), True),
        ((1, 4), (0, 1), False),  # a step that is never taken
        ((0, 4), (4, 1), False),
        ((), (), False),
    ],
)
def test_elements_of_which_two_may_be_one_are_an_obstacle(
    shape: tuple[int, ...], strides: tuple[int, ...], overlap: bool
) -> None:
    obstacle = find_obstacle(torch.zeros(500).as_strided(shape, strides))
    assert (obstacle is not None) == overlap
    assert obstacle is None or "some of its elements may be one in memory" in obstacle
