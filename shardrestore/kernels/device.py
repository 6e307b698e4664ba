"""A device is used if it returns the reference's integers, and not otherwise.

Drivers flush small numbers to zero, compilers fuse and reorder, some devices divide by
multiplying with a reciprocal: any of that would move weights across a cut without a sign.
``check_device`` runs every kernel on hard cases, on the device at hand, before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..formats import FORMATS, RANKED
from ..scores.score import Score
from ..selection.cut import Cut
from ..selection.score import BINS, INFINITY_BIN, LOW_BITS, LOWS
from . import casting, gpu, reference
from .interface import Keys

_SMALL = 0x322C
"""Pattern of 1e-8 in bfloat16, which scores add so as not to divide by zero."""


class UnfaithfulDevice(Exception):
    """A device returned other integers than the reference."""

    def __init__(self, device: torch.device, what: str, differing: int, cases: int) -> None:
        super().__init__(f"{device}: {what} differs from the reference in {differing} of {cases}")
        self.device = device
        self.what = what
        """What differed."""


class BlockKernels(Protocol):
    """What passes over blocks of weights; ``gpu`` and ``fused`` offer it, ``gpu`` documents it."""

    __name__: str

    def count_scores(
        self, score: Score, base: Tensor, target: Tensor, counts: Tensor
    ) -> Tensor: ...
    def restore_scores(
        self,
        score: Score,
        base_scored: Tensor,
        target_scored: Tensor,
        base_codes: Tensor,
        target_codes: Tensor,
        cut: Cut,
        remainder: Tensor,
        out: Tensor,
    ) -> tuple[Tensor, Tensor]: ...


def check_device(device: torch.device | str, score: Score) -> BlockKernels:
    """Compare every kernel on a device with the reference, on hard cases of a score.

    Takes a fraction of a second and less than 8 MB of the device, except the first time
    that Triton compiles.

    Returns
    -------
    BlockKernels
        The module to use there: ``fused`` where Triton can be used, else ``gpu``.

    Raises
    ------
    UnfaithfulDevice
        If one integer differs.
    torch.OutOfMemoryError
        If the device is full.
    """
    device = torch.device(device)
    kernels = load_block_kernels(device, score)
    for what, expected, found in _cases(device, kernels, score):
        numbers = found.cpu().numpy()
        differing = numbers != np.asarray(expected).view(numbers.dtype)
        if np.any(differing):
            raise UnfaithfulDevice(device, what, int(np.sum(differing)), differing.size)
    return kernels


@cache
def load_block_kernels(device: torch.device, score: Score) -> BlockKernels:
    """Return the module with the fastest block kernels that can be built for a device."""
    if device.type != "cuda":
        return gpu
    weight = torch.zeros(1, dtype=torch.int16, device=device)
    counts = torch.zeros(BINS, dtype=torch.int32, device=device)
    try:
        from . import fused

        fused.count_scores(score, weight, weight, counts)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # No Triton for this platform, no C compiler for its launcher, a GPU it does not know:
        # the first launch shows it, by many kinds of exceptions. Slower is not wrong.
        return gpu
    return fused


_Case = tuple[str, npt.ArrayLike, Tensor]


def _cases(device: torch.device, kernels: BlockKernels, score: Score) -> Iterator[_Case]:
    """Yield what is compared, what the reference returns, and what the device does."""
    yield from _formats(device)
    yield from _random_keys(device)
    yield from _changes(device)
    for fraction_bits in (7, 23):  # bfloat16, float32
        patterns = _hard_patterns(8, fraction_bits)
        base, target = (side.ravel() for side in np.meshgrid(patterns, patterns))
        yield from _scores(device, kernels, score, base, target)


def _hard_patterns(exponent_bits: int, fraction_bits: int) -> npt.NDArray[Any]:
    """Return patterns of a format at the edges of its exponents and fractions.

    Zeros, subnormals, 1e-8 and what lies near it, 1, the largest, infinities and NaNs; fractions
    of none, one and all bits, and halfway between two bfloat16 or float16 numbers.
    """
    top = (1 << exponent_bits) - 1
    epsilon = _SMALL >> 7
    exponents = [0, 1, 2, 24, epsilon - 8, epsilon, epsilon + 8, top // 2, top - 1, top]
    ones = (1 << fraction_bits) - 1
    fractions = {0, 1, 1 << fraction_bits - 1, ones, ones - 1, ones >> 1}
    fractions |= {half << shift for half in (1, 3) for shift in (12, 15) if shift < fraction_bits}
    fractions |= {fraction | 1 for fraction in fractions}
    kind = np.uint16 if exponent_bits + fraction_bits < 16 else np.uint32
    grid = np.array(exponents)[:, None] << fraction_bits | np.array(sorted(fractions))
    return np.concatenate([grid.ravel(), grid.ravel() | 1 << exponent_bits + fraction_bits]).astype(
        kind
    )


def _tensor(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Return an array on the device; unsigned integers become signed ones of the same bits."""
    signed = {np.uint16: np.int16, np.uint32: np.int32}.get(array.dtype.type, array.dtype.type)
    return torch.from_numpy(array.view(signed)).to(device)


def _formats(device: torch.device) -> Iterator[_Case]:
    codes = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    fractions = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x3000, 0x7FFF, 0x8000, 0x8001, 0x18000])
    fractions = np.append(fractions, [0x7FEFFF, 0x7FF000, 0x7FFFFF])  # carry into the exponent
    bits = (np.arange(1 << 9)[:, None] << 23 | fractions).ravel().astype(np.uint32)
    values = bits.view(np.float32)
    for dtype in (name for name in RANKED if FORMATS[name].widen):
        wide = casting.widen(reference, codes, dtype, np.empty(codes.size, np.float32))
        narrowed = casting.narrow(reference, values, dtype, np.empty(bits.size, np.uint32))
        exponent = FORMATS[dtype].exponent
        found = gpu.widen(_tensor(codes, device), dtype).view(torch.int32)
        yield f"widening {dtype}", wide, found
        yield f"narrowing to {dtype}", narrowed, gpu.narrow(_tensor(values, device), dtype)
        nonfinite = reference.count_nonfinite(codes, exponent)
        count = gpu.count_nonfinite(_tensor(codes, device), exponent)
        yield f"counting non-finite {dtype}", nonfinite, count


def _random_keys(device: torch.device) -> Iterator[_Case]:
    for word0, word1, start in [(0, 1, 0), (0xDEADBEEF, 0x80000001, 2**32 - 500)]:
        keys = np.empty(1000, np.uint32)
        reference.random_keys(word0, word1, start, keys)
        yield "hashing", keys, gpu.random_keys(word0, word1, start, keys.size, device)


def _changes(device: torch.device) -> Iterator[_Case]:
    """Yield what is noted of blocks that end within a byte of flags, and what is put back."""
    for kind, elements in ((np.uint16, 1003), (np.uint32, 1000), (np.uint16, 5)):
        held: Any = (np.arange(elements) * 0x9E3779B1).astype(kind)
        codes = held ^ (np.arange(elements) % 3 == 0).astype(kind) << (8 * held.itemsize - 1)
        changed, former = np.empty(-(-elements // 8), np.uint8), np.empty_like(held)
        count = reference.note_changes(held, codes, changed, former)
        again = _tensor(codes, device).clone()
        noted = gpu.note_changes(_tensor(held, device), again)
        yield "noting what changes", changed, noted[0]
        yield "counting what changes", count, torch.tensor(noted[1].numel())
        yield "noting what was there", former[:count], noted[1]
        gpu.put_back(*noted, again)
        yield "putting back", held, again


def _scores(
    device: torch.device, kernels: BlockKernels, score: Score, base: Any, target: Any
) -> Iterator[_Case]:
    """Yield the scores of a grid of weights, what is counted of them, and what cuts make."""
    bfloat16 = base.dtype == np.uint16
    arithmetic = "bfloat16" if bfloat16 else "float32"
    scored = [side if bfloat16 else side.view(np.float32) for side in (base, target)]
    keys = np.empty(base.size, np.uint32)
    zeros = reference.score_keys(score, scored[0], scored[1], keys)
    left, right = (_tensor(side, device) for side in scored)
    found = gpu.score_keys(score, left, right)
    yield f"{arithmetic} scores", keys, found

    bins = np.zeros((1, BINS), np.uint32)
    reference.count_bins(keys, bins)
    counts = torch.zeros(BINS, dtype=torch.int32, device=device)
    yield "counting zeros", zeros, kernels.count_scores(score, left, right, counts)
    yield f"counting {arithmetic} scores", bins[0], counts
    counts = torch.zeros(BINS, dtype=torch.int32, device=device)
    gpu.count_bins(found, counts)
    yield "counting bins", bins[0], counts

    slots, lows = np.full(BINS, -1, np.int32), np.zeros((1, LOWS), np.uint32)
    slots[keys.max() >> LOW_BITS] = 0
    reference.count_lows(keys, slots, lows)
    counts = torch.zeros((1, LOWS), dtype=torch.int32, device=device)
    gpu.count_lows(found, _tensor(slots, device), counts)
    yield "counting low bits", lows, counts

    codes, out = (_tensor(base, device), _tensor(target, device)), np.empty_like(base)
    restored, begin = torch.zeros_like(codes[0]), torch.ones((), dtype=torch.int64, device=device)
    for cut in _cuts(keys):
        restored.zero_()
        selected = reference.select(keys, cut, 1, base, target, out)
        numbers = kernels.restore_scores(score, left, right, *codes, cut, begin, restored)
        yield f"restoring by {arithmetic} scores", out, restored
        yield "counting the restored", selected, torch.stack(numbers)
        restored.zero_()
        numbers = gpu.select(found, cut, begin, *codes, restored)
        yield "selecting", out, restored
        yield "counting the selected", selected, torch.stack(numbers)
        bins.fill(0)
        reference.count_selected(keys, cut, 1, keys, bins)
        counts = torch.zeros(BINS, dtype=torch.int32, device=device)
        gpu.count_selected(found, cut, begin, found, counts)
        yield "counting selected scores", bins[0], counts
    yield from _blocks(device, kernels, score, scored, keys)


def _blocks(
    device: torch.device, kernels: BlockKernels, score: Score, scored: list[Any], keys: Keys
) -> Iterator[_Case]:
    """Yield what block kernels make of codes of either size, in blocks of even and odd lengths.

    Triton compiles each of them apart: all that a run may use are compiled here, and compared.
    """
    arithmetic = "bfloat16" if scored[0].dtype == np.uint16 else "float32"
    begin = torch.ones((), dtype=torch.int64, device=device)
    cut = next(_cuts(keys))
    for elements in (keys.size // 16 * 16, keys.size // 16 * 16 - 3):
        left, right = (_tensor(side[:elements], device) for side in scored)
        bins = np.zeros((1, BINS), np.uint32)
        reference.count_bins(keys[:elements], bins)
        counts = torch.zeros(BINS, dtype=torch.int32, device=device)
        kernels.count_scores(score, left, right, counts)
        yield f"counting {arithmetic} scores in {elements}", bins[0], counts
        for kind in (np.uint16, np.uint32):
            sides: list[Any] = [(np.arange(elements) ^ mark).astype(kind) for mark in (0, 0x5555)]
            base, target = sides
            out = np.empty_like(base)
            selected = reference.select(keys[:elements], cut, 1, base, target, out)
            codes = _tensor(base, device), _tensor(target, device)
            restored = torch.zeros_like(codes[0])
            numbers = kernels.restore_scores(score, left, right, *codes, cut, begin, restored)
            what = f"restoring {elements} of {8 * out.itemsize} bits by {arithmetic} scores"
            yield what, out, restored
            yield f"counting, {what}", selected, torch.stack(numbers)


def _cuts(keys: Keys) -> Iterator[Cut]:
    """Yield a cut from above and one from below, each through the finite bin of most ties."""
    frequent = int(np.bincount(keys >> LOW_BITS)[1:INFINITY_BIN].argmax()) + 1
    for strategy, ties in (("top", 1009), ("bottom", (1 << 38) + 7)):
        yield Cut(
            strategy="top" if strategy == "top" else "bottom",
            percent=0.0,
            elements=ties,
            selected=ties // 3,
            tie_first=frequent << LOW_BITS,
            tie_span=LOWS,
            ties=ties,
            ties_taken=ties // 3,
        )
