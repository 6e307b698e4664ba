"""A device that returns other integers than the reference is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import shardrestore.kernels
from shardrestore.kernels import device, gpu
from shardrestore.scores import SCORES
from shardrestore.scores.score import Score
from tests.support.devices import EACH_DEVICE, NEEDS_CUDA, RELATIVE, NvidiaNan, allocated_peak

_score, _narrow, _widen, _take = gpu.score_keys, gpu.narrow, gpu.widen, gpu._take
_pack, _note_changes, _put_back = gpu._pack, gpu.note_changes, gpu.put_back


@EACH_DEVICE
@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_a_faithful_device_passes(score: Score, device: str) -> None:
    shardrestore.kernels.device.check_device(device, score)


def test_the_check_takes_less_than_8_megabytes() -> None:
    assert allocated_peak(lambda: device.check_device("cpu", RELATIVE)) < 8_000_000


def test_a_gpu_of_nvidias_passes_for_all_its_other_nan() -> None:
    with NvidiaNan():
        device.check_device("cpu", RELATIVE)


def test_its_nan_would_become_a_zero_if_it_were_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_make_magnitude", keep_nan)
    bits = torch.tensor([0x7FFFFFFF], dtype=torch.int32)
    gpu._round_bfloat16(bits)
    assert bits.view(torch.float32).item() == 0


# Ways to be wrong


def flush(score: Score, base: Tensor, target: Tensor) -> Tensor:
    """Subnormals are zeros, as with -ftz or on a processor told so."""
    exact = base.dtype == torch.int16
    exponent = 0x7F80 if exact else 0x7F800000
    sides = []
    for side in (base, target):
        bits = side.clone().view(torch.int16 if exact else torch.int32)
        sides.append(bits.masked_fill_((bits & exponent) == 0, 0).view(side.dtype))
    return _score(score, *sides)


def flush_differences(score: Score, base: Tensor, target: Tensor) -> Tensor:
    """Inputs are kept, a subnormal difference is a zero."""
    keys = _score(score, base, target)
    wide = [_widen(side, "BF16") if side.dtype == torch.int16 else side for side in (base, target)]
    difference = (wide[1] - wide[0]).abs()
    return keys.masked_fill_(difference < torch.finfo(torch.float32).tiny, 0)


def multiply_by_a_reciprocal(x: Tensor, divisor: Tensor) -> Tensor:
    return x.mul_(divisor.reciprocal())


def round_half_up(bits: Tensor) -> None:
    gpu._make_magnitude(bits)
    bits += 0x8000
    bits &= -0x10000


def keep_nan(bits: Tensor) -> None:
    bits &= 0x7FFFFFFF


def flush_float16(codes: Tensor, dtype: str) -> Tensor:
    keep = (codes & 0x7C00) != 0
    return _widen(codes * keep if dtype == "F16" else codes, dtype)


def truncate(values: Tensor, dtype: str) -> Tensor:
    return _narrow((values.view(torch.int32) & -0x2000).view(torch.float32), dtype)


def shift_with_sign(x: Tensor, places: int) -> Tensor:
    return x >> places


def lose_increments(cells: Tensor, size: int) -> Tensor:
    table = torch.zeros(size, dtype=torch.int32)
    table[cells] = 1
    return table


def take_every_tie(keys: Tensor, cut: Any, remainder: Tensor) -> tuple[Tensor, Tensor]:
    _, remainder = _take(keys, cut, remainder)
    return keys >= cut.tie_first if cut.highest else keys <= cut.tie_first, remainder


def forget_negative_zeros(base: Tensor) -> Tensor:
    return ((base == 0) & ~torch.signbit(base)).sum()


def pack_from_the_highest(flags: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(flags, (0, -flags.numel() % 8))
    return _pack(padded.view(-1, 8).flip(1).ravel())


def forget_the_last(changed: Tensor, former: Tensor, held: Tensor) -> None:
    last = held[-1].clone()
    _put_back(changed, former, held)
    held[-1] = last


def note_everything(held: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    changed, _ = _note_changes(held, codes)
    return changed, held


@pytest.mark.parametrize(
    ("home", "name", "wrong", "what"),
    [
        (gpu, "score_keys", flush, "bfloat16 scores"),
        (gpu, "score_keys", flush_differences, "bfloat16 scores"),
        (Tensor, "__itruediv__", multiply_by_a_reciprocal, "scores"),
        (gpu, "_round_bfloat16", round_half_up, "bfloat16 scores"),
        (gpu, "_make_magnitude", keep_nan, "scores"),
        (gpu, "widen", flush_float16, "widening F16"),
        (gpu, "narrow", truncate, "narrowing to BF16"),
        (gpu, "_shift_right", shift_with_sign, "hashing"),
        (gpu, "_tally", lose_increments, "counting bfloat16 scores"),
        (gpu, "count_zeros", forget_negative_zeros, "counting zeros"),
        (gpu, "_take", take_every_tie, "restoring by bfloat16 scores"),
        (gpu, "_pack", pack_from_the_highest, "noting what changes"),
        (gpu, "note_changes", note_everything, "counting what changes"),
        (gpu, "put_back", forget_the_last, "putting back"),
    ],
)
def test_a_device_that_is_wrong_is_refused(
    monkeypatch: pytest.MonkeyPatch, home: Any, name: str, wrong: Callable[..., Any], what: str
) -> None:
    monkeypatch.setattr(home, name, wrong)
    with pytest.raises(device.UnfaithfulDevice, match=rf"cpu: .*{what} differs .* in \d+ of \d+"):
        device.check_device("cpu", RELATIVE)


def test_float32_alone_may_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 rounds most of it away: float32 has cases of its own."""

    def wrong(score: Score, base: Tensor, target: Tensor) -> Tensor:
        bfloat16 = base.dtype == torch.int16
        return (_score if bfloat16 else flush_differences)(score, base, target)

    monkeypatch.setattr(gpu, "score_keys", wrong)
    with pytest.raises(device.UnfaithfulDevice, match="float32 scores"):
        device.check_device("cpu", RELATIVE)


def test_wrong_block_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(*args: Any) -> tuple[Tensor, Tensor]:
        found = gpu.restore_scores(*args)
        args[-1][-1] ^= 1
        return found

    wrong = SimpleNamespace(count_scores=gpu.count_scores, restore_scores=restore)
    monkeypatch.setattr(device, "load_block_kernels", cache(lambda *_: wrong))
    with pytest.raises(device.UnfaithfulDevice) as refused:
        device.check_device("cpu", RELATIVE)
    assert refused.value.what == "restoring by bfloat16 scores"


# Which block kernels are used


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    yield
    device.load_block_kernels.cache_clear()


def with_fused(monkeypatch: pytest.MonkeyPatch, module: ModuleType | None) -> None:
    """Let `module` be what `from . import fused` finds, and a CUDA device be the processor."""
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device=None, **kinds: zeros(*size, **kinds))
    monkeypatch.delattr(shardrestore.kernels, "fused", raising=False)
    monkeypatch.setitem(sys.modules, "shardrestore.kernels.fused", module)
    device.load_block_kernels.cache_clear()


def failing(error: Exception) -> Any:
    def count_scores(*_args: Any, **_kinds: Any) -> None:
        raise error

    return SimpleNamespace(count_scores=count_scores)


def test_eager_torch_serves_where_triton_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    with_fused(monkeypatch, None)
    assert device.load_block_kernels(cuda, RELATIVE) is gpu
    with_fused(monkeypatch, failing(RuntimeError("Failed to find C compiler")))
    assert device.load_block_kernels(cuda, RELATIVE) is gpu
    assert device.load_block_kernels(torch.device("cpu"), RELATIVE) is gpu


def test_triton_serves_where_it_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    fused: Any = SimpleNamespace(count_scores=gpu.count_scores)
    with_fused(monkeypatch, fused)
    assert device.load_block_kernels(torch.device("cuda"), RELATIVE) is fused


def test_a_full_device_is_no_reason_to_leave_triton_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with_fused(monkeypatch, failing(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        device.load_block_kernels(torch.device("cuda"), RELATIVE)


@pytest.mark.cuda
@NEEDS_CUDA
def test_triton_is_used_on_a_gpu() -> None:
    pytest.importorskip("triton")
    used: Any = device.check_device("cuda", RELATIVE)
    assert used.__name__ == "shardrestore.kernels.fused"
