"""Block kernels, eager or in Triton, return the reference's integers."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import re
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import _disable_current_modes

from shardrestore.kernels import reference
from shardrestore.scores import SCORES
from shardrestore.scores.score import Score
from shardrestore.selection.score import BINS
from tests.support.devices import (
    CUT,
    NEEDS_CUDA,
    RELATIVE,
    NvidiaNan,
    OutOfMemory,
    calls,
    state,
    to_array,
    to_tensor,
)
from tests.support.examples import examples
from tests.support.segments import (
    Selection,
    bfloat16_pairs,
    float32_pairs,
    random_floats,
    selections,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NEEDS_TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"
)
ELSEWHERE = pytest.mark.skipif(
    not INTERPRETED, reason="run by the test of Triton's interpreter, in a process of its own"
)
CUDA = [pytest.mark.cuda, NEEDS_CUDA]
EACH = pytest.mark.parametrize(
    ("name", "device"),
    [
        pytest.param("gpu", "cpu", id="eager_cpu"),
        pytest.param("gpu", "cuda", id="eager_cuda", marks=CUDA),
        pytest.param("fused", "cpu", id="triton_interpreted", marks=[NEEDS_TRITON, ELSEWHERE]),
        pytest.param("fused", "cuda", id="triton_cuda", marks=[NEEDS_TRITON, *CUDA]),
    ],
)
EACH_ARITHMETIC = pytest.mark.parametrize("exact", [True, False], ids=["bfloat16", "float32"])
TRITON_KERNELS = ["count_tile", "count_ties", "restore_tile"]
BLOCK_CALLS = [name for name in calls() if name.startswith(("count_scores", "restore_scores"))]
LENGTHS = [0, 1, 1023, 1024, 1025, 5000]


def load(name: str) -> Any:
    return importlib.import_module(f"shardrestore.kernels.{name}")


def scored(bits: np.ndarray, *, exact: bool) -> np.ndarray:
    """float32 patterns as ``score_keys`` takes weights."""
    return (bits >> 16).astype(np.uint16) if exact else bits.view(np.float32)


def assert_counted_alike(name: str, device: str, base: np.ndarray, target: np.ndarray) -> None:
    keys, expected = np.empty(base.size, np.uint32), np.full((1, BINS), 3, np.uint32)
    sides = to_tensor(base, device), to_tensor(target, device)
    for score in SCORES.values():
        expected.fill(3)
        zeros = reference.score_keys(score, base, target, keys)
        reference.count_bins(keys, expected)
        counts = to_tensor(np.full(BINS, 3, np.int64), device)
        assert load(name).count_scores(score, *sides, counts).item() == zeros
        assert np.array_equal(to_array(counts), expected[0]), score.name


@EACH
def test_hard_bfloat16_scores_are_counted_alike(name: str, device: str) -> None:
    base, target = (side[::61] for side in bfloat16_pairs(1))
    assert_counted_alike(name, device, base.copy(), target.copy())


@EACH
def test_hard_float32_scores_are_counted_alike(name: str, device: str) -> None:
    base, target = (side[:100_000].view(np.float32) for side in float32_pairs(0))
    assert_counted_alike(name, device, base, target)


@EACH
def test_scores_are_counted_alike_at_every_length(name: str, device: str) -> None:
    for size, exact in itertools.product(LENGTHS, [True, False]):
        sides = (random_floats(np.random.default_rng(size + i), size) for i in range(2))
        base, target = (scored(side, exact=exact) for side in sides)
        assert_counted_alike(name, device, base, target)


@EACH
def test_an_unchanged_model_is_counted_in_its_one_bin(name: str, device: str) -> None:
    for exact in (True, False):
        bits = np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32).view(np.uint32)
        side = scored(bits, exact=exact)
        assert_counted_alike(name, device, side, side)


@EACH
@EACH_ARITHMETIC
def test_the_nan_of_nvidias_arithmetic_counts_as_any_other(
    monkeypatch: pytest.MonkeyPatch, name: str, device: str, exact: bool
) -> None:
    """Rounded as it is, it would become a zero: the score of an unchanged weight."""
    if name == "fused" and INTERPRETED:
        give_the_interpreter_nvidias_nan(monkeypatch)
    odd = np.array([0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F7F0000, 0], np.uint32)
    base, target = (scored(side.ravel(), exact=exact) for side in np.meshgrid(odd, odd))
    with NvidiaNan() if name == "gpu" and device == "cpu" else nullcontext():
        assert_counted_alike(name, device, base, target)


def give_the_interpreter_nvidias_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime.interpreter import InterpreterBuilder

    operate = InterpreterBuilder.binary_op

    def binary_op(self: Any, *args: Any) -> Any:
        found = operate(self, *args)
        if found.data.dtype == np.float32:
            bits = np.array(found.data).view(np.uint32)
            found.data = np.where(np.isnan(found.data), 0x7FFFFFFF, bits).astype("u4").view("f4")
        return found

    monkeypatch.setattr(InterpreterBuilder, "binary_op", binary_op)


# Weights whose scores are the keys that ``selections`` cuts at: 0, 1.0, beside it, not a number.
FEW = np.array([0, 0x80000000, 0x3F800000, 0x3F810000, 0x40000000, 0x40010000, 0x00010000])
FEW = np.append(FEW, 0x7FC00000).astype(np.uint32)


@EACH
@EACH_ARITHMETIC
@examples(10)
@given(
    chosen=selections(),
    size=st.sampled_from(LENGTHS),
    cuts=st.lists(st.integers(1, 4999), max_size=2),
    seed=st.integers(0, 99),
)
def test_the_same_elements_are_restored_in_one_block_or_in_several(
    name: str, device: str, exact: bool, chosen: Selection, size: int, cuts: list, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sides = [scored(rng.choice(FEW, size), exact=exact) for _ in range(2)]
    kind = np.uint16 if exact else np.uint32
    codes = [rng.integers(0, 2**16, size).astype(kind) for _ in range(2)]
    keys, expected = np.empty(size, np.uint32), np.empty(size, kind)
    score = SCORES["relative"]
    reference.score_keys(score, *sides, keys)
    numbers = reference.select(keys, chosen.cut, chosen.remainder, *codes, expected)

    tensors = [to_tensor(array, device) for array in (*sides, *codes)]
    out = torch.empty_like(tensors[3])
    remainder = torch.full((), chosen.remainder, dtype=torch.int64, device=device)
    total = 0
    for low, high in itertools.pairwise(sorted({0, size, *(c for c in cuts if c < size)})):
        parts = [tensor[low:high].clone() for tensor in tensors]
        restored = out[low:high].clone()
        selected, remainder = load(name).restore_scores(
            score, *parts, chosen.cut, remainder, restored
        )
        out[low:high] = restored
        total += int(selected)
    assert np.array_equal(to_array(out, kind), expected)
    assert (total, int(remainder)) == numbers


@EACH
def test_nothing_is_restored_in_a_block_of_nothing(name: str, device: str) -> None:
    for exact in (True, False):
        scores = torch.empty(0, dtype=torch.int16 if exact else torch.float32, device=device)
        codes = torch.empty(0, dtype=torch.int16, device=device)
        remainder = torch.full((), 5, dtype=torch.int64, device=device)
        found = load(name).restore_scores(
            RELATIVE, scores, scores, codes, codes, CUT, remainder, codes
        )
        assert [int(number) for number in found] == [0, 5]


class Launch:
    """A kernel whose launch asks torch for no memory, as on a GPU; the interpreter's does."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int]) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            with _disable_current_modes():
                self.kernel[grid](*args, **options)

        return launch


@EACH
@pytest.mark.parametrize("call", BLOCK_CALLS)
def test_a_block_that_ran_out_of_memory_can_be_done_again(
    monkeypatch: pytest.MonkeyPatch, name: str, device: str, call: str
) -> None:
    """Weights that are restored over themselves, and counters, are as they were."""
    kernels = load(name)
    if name == "fused":
        launched = kernels.ScoreKernels(*map(Launch, kernels.compile_score(RELATIVE)))
        monkeypatch.setattr(kernels, "compile_score", lambda _: launched)
    function, inputs = calls(kernels)[call], state(5000, device=device)
    expected = function(inputs), inputs
    for at in itertools.count():
        again = state(5000, device=device)
        try:
            with OutOfMemory(at):
                function(again)
        except torch.OutOfMemoryError:
            torch.testing.assert_close((function(again), again), expected, rtol=0, atol=0)
        else:
            break
    assert at > 3


@pytest.mark.cuda
@NEEDS_TRITON
@NEEDS_CUDA
def test_no_block_kernel_waits_for_the_device() -> None:
    for call in BLOCK_CALLS:
        function, inputs = calls(load("fused"))[call], state(5000, device="cuda")
        function(inputs)  # compiles
        torch.cuda.set_sync_debug_mode("error")
        try:
            function(inputs)
        finally:
            torch.cuda.set_sync_debug_mode("default")


# Triton without a GPU


class Launches:
    """Kernels as the module launches them, compiled for a GPU that is not there, and not run."""

    def __init__(self, patch: pytest.MonkeyPatch, arch: int) -> None:
        from triton.backends.compiler import GPUTarget
        from triton.runtime import driver

        self.fused, self.compiled = load("fused"), []
        target = SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", arch, 32),
            get_current_device=lambda: 0,
            get_current_stream=lambda _: 0,
        )
        patch.setattr(driver, "_active", target, raising=False)
        compile_score = self.fused.compile_score
        patch.setattr(
            self.fused,
            "compile_score",
            lambda score: self.fused.ScoreKernels(
                *(Compiled(kernel, self.compiled) for kernel in compile_score(score))
            ),
        )

    def codes(self, score: Score) -> list[tuple[str, str]]:
        """Name and PTX of each kernel of a score, in both arithmetics."""
        for name in BLOCK_CALLS:
            calls(self.fused, score)[name](state(5000))
        return [(kernel.name, kernel.asm["ptx"]) for kernel in self.compiled]


class Compiled:
    """A kernel that is compiled where it would be launched."""

    def __init__(self, kernel: Any, compiled: list[Any]) -> None:
        self.kernel, self.compiled = kernel, compiled

    def __getitem__(self, grid: tuple[int]) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            self.compiled.append(self.kernel.warmup(*args, grid=grid, **options))

        return launch


def instructions(ptx: str) -> set[str]:
    return set(re.findall(r"^\s+(?:@!?%\w+ )?([a-z][\w.]*)", ptx, re.MULTILINE))


COMPILED = pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")

FLOAT_INSTRUCTIONS = {"sub.rn.f32", "add.rn.f32", "div.rn.f32", "abs.f32"}
"""Rounded once to nearest even, subnormals kept; an absolute value rounds nothing."""


@NEEDS_TRITON
@COMPILED
@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("arch", [80, 90])
def test_the_code_for_nvidia_has_no_arithmetic_but_ieees(
    monkeypatch: pytest.MonkeyPatch, score: Score, arch: int
) -> None:
    codes = Launches(monkeypatch, arch).codes(score)
    assert len(codes) == 2 * len(TRITON_KERNELS)
    for name, ptx in codes:
        floating = {i for i in instructions(ptx) if re.search(r"\.b?f(16|32|64)|fma|ftz", i)}
        assert "sub.rn.f32" in floating, name
        assert floating <= FLOAT_INSTRUCTIONS, name


@NEEDS_TRITON
@COMPILED
def test_counting_uses_atomics_that_order_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = Launches(monkeypatch, 90).codes(RELATIVE)
    counting = {
        i for name, ptx in codes if name.startswith("_count_tile") for i in instructions(ptx)
    }
    atomics = {i for i in counting if i.startswith(("atom.", "red."))}
    assert atomics == {"red.global.gpu.relaxed.add.u32"}


@NEEDS_TRITON
@COMPILED
def test_another_cut_uses_the_code_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    launches, inputs = Launches(monkeypatch, 90), state(5000)
    codes = inputs["base_codes"], inputs["target_codes"]
    for tie_first, needed, ties in [(1, 1, 1), (16, 16, 32), (0x3F800000, 2**38, 2**39 + 1)]:
        cut = replace(CUT, tie_first=tie_first, ties_taken=needed, ties=ties)
        launches.fused.restore_scores(RELATIVE, *codes, *codes, cut, inputs["remainder"], codes[1])
    assert len(launches.compiled) == 6
    assert len({kernel.hash for kernel in launches.compiled}) == 2
