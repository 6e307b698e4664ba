"""Devices for tests of kernels in torch, and calls of every kernel on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from shardrestore.kernels import gpu
from shardrestore.scores import SCORES
from shardrestore.scores.score import Score
from shardrestore.selection.cut import Cut
from shardrestore.selection.score import BINS, LOWS

RELATIVE = SCORES["relative"]

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NEEDS_CUDA])]
EACH_DEVICE = pytest.mark.parametrize("device", DEVICES)


def to_tensor(array: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """A copy on the device; unsigned integers become signed ones of the same bits."""
    if array.dtype.kind == "u":
        array = array.view(f"i{array.dtype.itemsize}")
    return torch.from_numpy(array.copy()).to(device)


def to_array(tensor: torch.Tensor, kind: Any = None) -> np.ndarray:
    """The numbers of a tensor, or its bits as another kind of the same size."""
    array = tensor.cpu().numpy()
    return array if kind is None else array.view(kind)


def allocated_peak(function: Callable[[], Any]) -> int:
    """Most bytes that torch held at one moment, operations' own temporaries included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = function()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    del result
    return max(itertools.accumulate(sizes))


class OutOfMemory(TorchDispatchMode):
    """Fails the operation of a number, before it begins."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        self.left -= 1
        if self.left < 0:
            raise torch.OutOfMemoryError("injected")
        return function(*args, **(kwargs or {}))


class NvidiaNan(TorchDispatchMode):
    """Arithmetic whose NaN is NVIDIA's, all bits but the sign; a processor's is 0x7FC00000."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = function(*args, **(kwargs or {}))
        arithmetic = function.overloadpacket.__name__.rstrip("_") in {"add", "sub", "mul", "div"}
        if arithmetic and found.dtype == torch.float32:
            found.view(torch.int32).masked_fill_(found.isnan(), 0x7FFFFFFF)
        return found


Call = Callable[[dict[str, torch.Tensor]], Any]


def state(elements: int, *, device: str = "cpu") -> dict[str, torch.Tensor]:
    """What the calls read and write: a fresh copy, the same each time."""
    rng = np.random.default_rng(elements)
    weights = rng.normal(0, 0.02, elements).astype(np.float32)
    changed = (weights + rng.normal(0, 1e-3, elements) * (rng.random(elements) < 0.5)).astype("f4")
    arrays = {
        "base": weights,
        "target": changed,
        "base_codes": weights.view(np.uint32) >> np.uint32(16),
        "target_codes": changed.view(np.uint32) >> np.uint32(16),
        "counts": np.ones(BINS, np.int32),
        "lows": np.ones((2, LOWS), np.int32),
        "slots": np.where(np.arange(BINS) == 0x3C00, 1, -1).astype(np.int32),
    }
    for name in ("base_codes", "target_codes"):
        arrays[name] = arrays[name].astype(np.uint16)
    tensors = {name: to_tensor(array, device) for name, array in arrays.items()}
    tensors["keys"] = gpu.score_keys(RELATIVE, tensors["base"], tensors["target"])
    tensors["changed"] = torch.full((-(-elements // 8),), 0xFF, dtype=torch.uint8, device=device)
    tensors["remainder"] = torch.ones((), dtype=torch.int64, device=device)
    return tensors


CUT = Cut(
    strategy="top",
    percent=10.0,
    elements=10**6,
    selected=10**5,
    tie_first=0x3C000000,
    tie_span=LOWS,
    ties=1000,
    ties_taken=300,
)


def calls(kernels: Any = gpu, score: Score = RELATIVE) -> dict[str, Call]:
    """A call of each function, in its most expensive format; block kernels are those given."""

    def restore(s: dict[str, torch.Tensor], scored: tuple[str, str]) -> Any:
        # The output is the target: what a second call reads must not have changed.
        codes = s["base_codes"], s["target_codes"]
        sides = s[scored[0]], s[scored[1]]
        cutting = CUT, s["remainder"], s["target_codes"]
        return kernels.restore_scores(score, *sides, *codes, *cutting)

    bits, floats = ("base_codes", "target_codes"), ("base", "target")
    return {
        "widen": lambda s: gpu.widen(s["base_codes"], "F16"),
        "narrow": lambda s: gpu.narrow(s["base"], "F16"),
        "score_keys": lambda s: gpu.score_keys(score, s[bits[0]], s[bits[1]]),
        "random_keys": lambda s: gpu.random_keys(1, 2, 3, s["base"].numel(), s["base"].device),
        "count_zeros": lambda s: gpu.count_zeros(s["base"]),
        "count_bins": lambda s: gpu.count_bins(s["keys"], s["counts"]),
        "count_lows": lambda s: gpu.count_lows(s["keys"], s["slots"], s["lows"]),
        "count_nonfinite": lambda s: gpu.count_nonfinite(s["keys"], 0x7F800000),
        "select": lambda s: gpu.select(
            s["keys"], CUT, s["remainder"], s[bits[0]], s[bits[1]], s[bits[1]]
        ),
        "count_selected": lambda s: gpu.count_selected(
            s["keys"], CUT, s["remainder"], s["keys"], s["counts"]
        ),
        "count_scores": lambda s: kernels.count_scores(score, s[bits[0]], s[bits[1]], s["counts"]),
        "count_scores_float32": lambda s: kernels.count_scores(
            score, s[floats[0]], s[floats[1]], s["counts"]
        ),
        "note_changes": lambda s: gpu.note_changes(s["keys"], s["base"].view(torch.int32)),
        "put_back": lambda s: gpu.put_back(s["changed"], s["base"], s["target"]),
        "restore_scores": lambda s: restore(s, bits),
        "restore_scores_float32": lambda s: restore(s, floats),
    }
