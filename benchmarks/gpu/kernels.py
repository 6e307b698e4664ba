"""The kernels alone, on tensors of the device, beside its own copies.

As a process of its own: ``python -m benchmarks.gpu.kernels --device cuda --elements N,…``.
Prints JSON. Rates are bytes per second that must be moved at least: a copy reads and writes
each byte, ``count_scores`` reads both weights of an element, ``restore_scores`` also writes one.
What a kernel reads twice, or keeps in between, counts once or not at all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from shardrestore.kernels import gpu
from shardrestore.kernels.device import BlockKernels, check_device
from shardrestore.scores import relative
from shardrestore.selection.cut import Cut, cut_at_bin, find_bin, selected_count
from shardrestore.selection.score import BINS

from ..harness.options import numbers
from .device import add_device_option, measure_seconds
from .figures import Kernels, Rates
from .weights import Drawing

CALLS = 10
"""How often a kernel is queued before it is waited for."""

PERCENT = 10.0


@dataclass(frozen=True, slots=True)
class _Call:
    module: str
    function: str
    arithmetic: str
    elements: int
    moved_bytes: int
    work: Callable[[], object]


def measure_kernels(device: torch.device, elements: Sequence[int], rounds: int) -> Kernels:
    """Measure all kernels by turns with a copy.

    Parameters
    ----------
    device : torch.device
    elements : sequence of int
        Sizes of the tensors.
    rounds : int
        Counted ones, after one that is not.
    """
    used = check_device(device, relative.SCORE)
    calls = [
        call
        for size in elements
        for exact in (True, False)
        for call in _make_calls(device, used, size, exact=exact)
    ]
    source = torch.zeros(max(elements) * 4, dtype=torch.uint8, device=device)
    destination = torch.empty_like(source)
    copies: list[float] = []
    rates: list[list[float]] = [[] for _ in calls]
    for counted in (False, *[True] * rounds):
        seconds = measure_seconds(device, lambda: destination.copy_(source), times=CALLS)
        if counted:
            copies.append(2 * source.nbytes / seconds)
        for call, known in zip(calls, rates, strict=True):
            seconds = measure_seconds(device, call.work, times=CALLS)
            if counted:
                known.append(call.moved_bytes / seconds)
    measured = (
        Rates(
            module=call.module,
            function=call.function,
            arithmetic=call.arithmetic,
            elements=call.elements,
            in_use=call.module == _name(used),
            rates=tuple(known),
            shares=tuple(rate / copy for rate, copy in zip(known, copies, strict=True)),
        )
        for call, known in zip(calls, rates, strict=True)
    )
    return Kernels(copies=tuple(copies), kernels=tuple(measured))


def _name(kernels: BlockKernels) -> str:
    return "gpu" if kernels is gpu else "fused"


def _make_calls(
    device: torch.device, used: BlockKernels, elements: int, *, exact: bool
) -> Iterator[_Call]:
    """Yield the calls of both kernels, of the module in use and of eager torch."""
    dtype = torch.bfloat16 if exact else torch.float32
    arithmetic = "bfloat16" if exact else "float32"
    drawing = Drawing(device)
    drawing.restart(elements)
    base = drawing.draw_base([elements], dtype)
    target = torch.empty_like(base)
    drawing.tune(base, target)
    codes = [side.view(torch.int16 if exact else torch.int32) for side in (base, target)]
    scored = codes if exact else [base, target]
    counts = torch.zeros(BINS, dtype=torch.int64, device=device)
    used.count_scores(relative.SCORE, scored[0], scored[1], counts)
    cut = _place_cut(counts)
    out, remainder = torch.empty_like(codes[0]), torch.zeros((), dtype=torch.int64, device=device)
    for kernels in {_name(used): used, "gpu": gpu}.values():

        def count(kernels: BlockKernels = kernels) -> object:
            return kernels.count_scores(relative.SCORE, scored[0], scored[1], counts)

        def restore(kernels: BlockKernels = kernels) -> object:
            return kernels.restore_scores(
                relative.SCORE, scored[0], scored[1], codes[0], codes[1], cut, remainder, out
            )

        name, read_bytes = _name(kernels), base.nbytes + target.nbytes
        yield _Call(name, "count_scores", arithmetic, elements, read_bytes, count)
        moved_bytes = read_bytes + out.nbytes
        yield _Call(name, "restore_scores", arithmetic, elements, moved_bytes, restore)


def _place_cut(counts: torch.Tensor) -> Cut:
    bins = counts.cpu().numpy().astype(np.uint64)
    selected = selected_count(int(bins.sum()), PERCENT)
    return cut_at_bin(find_bin(bins, percent=PERCENT, selected=selected, strategy="top"))


def main(arguments: Sequence[str]) -> int:
    """Print the rates as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.kernels", description=__doc__)
    add_device_option(parser)
    parser.add_argument("--elements", type=numbers, required=True, help="sizes, as in 1024,4096")
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args(arguments)
    measured = measure_kernels(parsed.device, parsed.elements, parsed.rounds)
    print(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
