"""torch returns the reference's integers, waits for nothing, and can be asked again."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.kernels import gpu, reference
from shardrestore.scores import SCORES
from shardrestore.scores.score import Score
from shardrestore.selection.score import BINS, LOWS
from tests.support.devices import (
    EACH_DEVICE,
    NEEDS_CUDA,
    OutOfMemory,
    allocated_peak,
    calls,
    state,
    to_array,
    to_tensor,
)
from tests.support.examples import examples
from tests.support.segments import (
    ALL_16_BITS,
    LENGTHS,
    Selection,
    bfloat16_pairs,
    float32_pairs,
    keys_near,
    make_cut,
    neighbours_of_every_16_bit_value,
    random_floats,
    random_keys,
    selections,
)

FORMATS = {
    "BF16": (reference.widen_bfloat16, reference.narrow_bfloat16),
    "F16": (reference.widen_float16, reference.narrow_float16),
}
FUNCTIONS = calls()
EACH_FUNCTION = pytest.mark.parametrize("name", FUNCTIONS)
QUEUED = sorted(FUNCTIONS.keys() - {"note_changes"})
EXPONENTS = [(np.uint16, 0x7F80), (np.uint16, 0x7C00), (np.uint32, 0x7F800000)]
STARTS = [0, 1, 65_536, (1 << 26) - 1, 2**31 - 3, 2**32 - 5]


def number(value: int, device: str = "cpu") -> torch.Tensor:
    return torch.full((), value, dtype=torch.int64, device=device)


# The reference's integers


@EACH_DEVICE
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_16_bit_pattern_is_widened_as_the_reference_does(device: str, dtype: str) -> None:
    expected = np.empty(1 << 16, np.float32)
    FORMATS[dtype][0](ALL_16_BITS, expected)
    found = gpu.widen(to_tensor(ALL_16_BITS, device), dtype)
    assert np.array_equal(to_array(found, np.uint32), expected.view(np.uint32))


@EACH_DEVICE
@pytest.mark.parametrize("dtype", FORMATS)
def test_floats_are_narrowed_as_the_reference_does_nan_included(device: str, dtype: str) -> None:
    widen, narrow = FORMATS[dtype]
    rng = np.random.default_rng(1)
    bits = np.concatenate(
        [
            neighbours_of_every_16_bit_value(widen),
            random_floats(rng, 1 << 18),
            rng.integers(0x32000000, 0x39000000, 1 << 18, dtype=np.uint32),
        ]
    )
    expected = np.empty(bits.size, np.uint16)
    narrow(bits.view(np.float32), expected)
    found = gpu.narrow(to_tensor(bits.view(np.float32), device), dtype)
    assert np.array_equal(to_array(found, np.uint16), expected)


def test_float32_is_neither_widened_nor_narrowed_nor_copied() -> None:
    codes = to_tensor(random_floats(np.random.default_rng(2), 100))
    back = gpu.narrow(gpu.widen(codes, "F32"), "F32")
    assert back.data_ptr() == codes.data_ptr()
    assert torch.equal(back, codes)


EACH_SCORE = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)


def assert_scored_alike(score: Score, base: np.ndarray, target: np.ndarray, device: str) -> None:
    expected = np.empty(base.size, np.uint32)
    zeros = reference.score_keys(score, base, target, expected)
    tensor = to_tensor(base, device)
    found = gpu.score_keys(score, tensor, to_tensor(target, device))
    assert np.array_equal(to_array(found, np.uint32), expected)
    assert gpu.count_zeros(tensor).item() == zeros


@EACH_DEVICE
@EACH_SCORE
def test_bfloat16_keys_are_the_references_on_every_base_pattern(score: Score, device: str) -> None:
    for part in range(4):
        assert_scored_alike(score, *bfloat16_pairs(part), device)


@EACH_DEVICE
@EACH_SCORE
def test_float32_keys_are_the_references(score: Score, device: str) -> None:
    for seed in range(3):
        base, target = float32_pairs(seed)
        assert_scored_alike(score, base.view(np.float32), target.view(np.float32), device)


@EACH_DEVICE
@EACH_SCORE
def test_weights_are_scored_alike_at_every_length(score: Score, device: str) -> None:
    for size in LENGTHS:
        base, target = (random_floats(np.random.default_rng(size + i), size) for i in range(2))
        assert_scored_alike(score, base.view(np.float32), target.view(np.float32), device)
        assert_scored_alike(
            score, (base >> 16).astype(np.uint16), (target >> 16).astype(np.uint16), device
        )


def test_the_nan_of_nvidias_arithmetic_is_rounded_to_the_one_key_of_nan() -> None:
    bits = torch.tensor([0x7FFFFFFF, -1, 0x7FC00000, -0x400000], dtype=torch.int32)
    gpu._round_bfloat16(bits)
    assert bits.tolist() == [0x7FC00000] * 4


@EACH_DEVICE
def test_random_keys_are_the_references(device: str) -> None:
    for size, start in itertools.product(LENGTHS, STARTS):
        for words in [(0, 0), (1, 2), (0xFFFFFFFF, 0xFFFFFFFF), (0x80000000, 0x7FFFFFFF)]:
            expected = np.empty(size, np.uint32)
            reference.random_keys(*words, start, expected)
            found = gpu.random_keys(*words, start, size, device)
            assert np.array_equal(to_array(found, np.uint32), expected)


@EACH_DEVICE
def test_bins_are_added_to_what_was_counted(device: str) -> None:
    for size, kind in itertools.product(LENGTHS, [np.int32, np.int64]):
        keys = random_keys(np.random.default_rng(size), size)
        expected, counts = (
            np.full((1, BINS), 3, np.uint32),
            to_tensor(np.full(BINS, 3, kind), device),
        )
        reference.count_bins(keys, expected)
        gpu.count_bins(to_tensor(keys, device), counts)
        assert np.array_equal(to_array(counts), expected[0])


@EACH_DEVICE
def test_low_bits_are_added_to_what_was_counted(device: str) -> None:
    for size, kind in itertools.product(LENGTHS, [np.int32, np.int64]):
        keys = random_keys(np.random.default_rng(size), size)
        slots = np.full(BINS, -1, np.int32)
        for row, key in enumerate([0x3F800000, 2**31 - 1, 0]):
            slots[key >> 16] = row
        expected = np.full((3, LOWS), 3, np.uint32)
        counts = to_tensor(np.full((3, LOWS), 3, kind), device)
        reference.count_lows(keys, slots, expected)
        gpu.count_lows(to_tensor(keys, device), to_tensor(slots, device), counts)
        assert np.array_equal(to_array(counts), expected)


@EACH_DEVICE
def test_nonfinite_values_are_counted_alike(device: str) -> None:
    for size, (kind, exponent) in itertools.product(LENGTHS, EXPONENTS):
        bits = random_floats(np.random.default_rng(size), size)
        values = bits if kind is np.uint32 else (bits >> 16).astype(np.uint16)
        expected = reference.count_nonfinite(values, exponent)
        assert gpu.count_nonfinite(to_tensor(values, device), exponent).item() == expected


@EACH_DEVICE
@examples(67)
@given(selections(), st.sampled_from(LENGTHS[:-1]), st.booleans(), st.integers(0, 9))
def test_the_same_elements_are_selected(
    device: str, chosen: Selection, size: int, wide: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    keys = keys_near(rng, size, chosen.cut)
    kind = np.uint32 if wide else np.uint16
    base, target = (rng.integers(0, 2**16, size).astype(kind) for _ in range(2))
    expected = np.empty(size, kind)
    numbers = reference.select(keys, chosen.cut, chosen.remainder, base, target, expected)
    out = to_tensor(target, device)
    found = gpu.select(
        to_tensor(keys, device),
        chosen.cut,
        number(chosen.remainder, device),
        to_tensor(base, device),
        out,
        out,
    )
    assert tuple(int(n) for n in found) == numbers
    assert np.array_equal(to_array(out, kind), expected)


@EACH_DEVICE
@examples(33)
@given(selections(), st.sampled_from(LENGTHS[:-1]), st.integers(0, 9))
def test_the_scores_of_what_is_selected_are_counted_alike(
    device: str, chosen: Selection, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    keys, scores = keys_near(rng, size, chosen.cut), random_keys(rng, size)
    expected, counts = np.zeros((1, BINS), np.uint32), to_tensor(np.zeros(BINS, np.int32), device)
    reference.count_selected(keys, chosen.cut, chosen.remainder, scores, expected)
    gpu.count_selected(
        to_tensor(keys, device),
        chosen.cut,
        number(chosen.remainder, device),
        to_tensor(scores, device),
        counts,
    )
    assert np.array_equal(to_array(counts), expected[0])


@EACH_DEVICE
def test_changes_are_noted_and_put_back_as_the_reference_does(device: str) -> None:
    for size, kind, share in itertools.product(LENGTHS, [np.uint16, np.uint32], [0, 0.1, 0.6, 1]):
        rng = np.random.default_rng(size)
        held = rng.integers(0, 1 << 16, size).astype(kind)
        codes = np.where(rng.random(size) < share, held + kind(1), held).astype(kind)
        changed, former = np.empty(-(-size // 8), np.uint8), np.empty_like(held)
        count = reference.note_changes(held, codes, changed, former)
        again = to_tensor(codes, device)
        noted = gpu.note_changes(to_tensor(held, device), again)
        assert np.array_equal(to_array(noted[0]), changed)
        assert np.array_equal(to_array(noted[1], kind), former[:count])
        gpu.put_back(*noted, again)
        assert np.array_equal(to_array(again, kind), held)


@pytest.mark.parametrize("turn", [1, 7, 64, gpu.TURN_ELEMENTS])
@examples(13)
@given(
    size=st.integers(1, 200),
    ties=st.integers(200, 2**40 - 1) | st.integers(200, 300),
    share=st.floats(0, 1),
    first=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 200), max_size=4),
)
def test_a_tie_is_taken_by_its_number_alone(
    turn: int, size: int, ties: int, share: float, first: int, cuts: list[int]
) -> None:
    """Calls of any length, and turns of any length within them, take what the formula names."""
    needed = max(1, int(ties * share))
    cut = make_cut("top", 5, 1, needed, ties)
    codes = [torch.full((size,), code, dtype=torch.int16) for code in (1, 0)]
    keys, out = torch.full((size,), 5, dtype=torch.int32), torch.empty(size, dtype=torch.int16)
    remainder, total = number(first * needed % ties), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "TURN_ELEMENTS", turn)
        for low, high in itertools.pairwise(sorted({0, size, *(c for c in cuts if c < size)})):
            parts = [tensor[low:high] for tensor in (*codes, out)]
            selected, remainder = gpu.select(keys[low:high], cut, remainder, *parts)
            total += int(selected)
    expected = [(j + 1) * needed // ties > j * needed // ties for j in range(first, first + size)]
    assert out.bool().tolist() == expected
    assert (total, int(remainder)) == (sum(expected), (first + size) * needed % ties)


def test_the_longest_turn_of_the_most_ties_stays_within_64_bits() -> None:
    ties = 2**40 - 1
    cut = make_cut("top", 0, 1, ties - 1, ties)
    keys = torch.zeros(gpu.TURN_ELEMENTS, dtype=torch.int32)
    out = torch.empty(keys.numel(), dtype=torch.int16)
    codes = torch.ones_like(out), torch.zeros_like(out)
    selected, remainder = gpu.select(keys, cut, number(ties - 1), *codes, out)
    total = ties - 1 + keys.numel() * (ties - 1)
    assert (int(selected), int(remainder)) == (total // ties, total % ties)


# Waiting, memory, running out of it


def test_no_function_reads_a_number_back() -> None:
    """Tensors of the device "meta" have a shape and no numbers: reading one fails."""
    for name in QUEUED:
        FUNCTIONS[name](state(1000, device="meta"))


@pytest.mark.cuda
@NEEDS_CUDA
def test_no_function_waits_for_the_device() -> None:
    for name in QUEUED:
        inputs = state(1000, device="cuda")
        torch.cuda.set_sync_debug_mode("error")
        try:
            FUNCTIONS[name](inputs)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def peak(name: str, elements: int) -> int:
    inputs = state(elements)
    return allocated_peak(lambda: FUNCTIONS[name](inputs))


@EACH_FUNCTION
def test_scratch_is_what_is_documented(name: str) -> None:
    kind = name.removesuffix("_float32")
    per_element = gpu.SCRATCH_BYTES_PER_ELEMENT[kind]
    more = 1 << 18
    small, large = (peak(name, n) for n in (1 << 21, (1 << 21) + more))
    slope = math.ceil((large - small) / more)
    assert slope <= per_element if name != kind else slope == per_element
    fixed = max(gpu.TABLE_BYTES, 2 * LOWS * 4 * (kind == "count_lows")) + 1000
    assert peak(name, 5000) <= 5000 * per_element + fixed


@EACH_FUNCTION
def test_a_call_that_ran_out_of_memory_can_be_made_again(name: str) -> None:
    call, inputs = FUNCTIONS[name], state(1000)
    expected = call(inputs), inputs
    for at in itertools.count():
        again = state(1000)
        try:
            with OutOfMemory(at):
                call(again)
        except torch.OutOfMemoryError:
            torch.testing.assert_close((call(again), again), expected, rtol=0, atol=0)
        else:
            break
    assert at > 3  # each operation has failed once


# Imports
