"""A GPU: both passes against their links, the kernels alone, a model in memory.

Takes the 1.1-billion-parameter pair of ``compare``, tensors of the device, and a model of
Llama-3-8B's shapes, or as many of its layers as fit. Every part is a process of its own; this
one uses no device. Where there is no GPU, ``--device torch:cpu`` tries everything out in small;
the results are then printed, and written only if ``--results`` names a folder.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shardrestore.synthetic import LlamaShape

from ..harness.errors import CommandError, UnsupportedError
from ..harness.options import make_parser
from ..harness.process import measure
from ..harness.results import RESULTS, publish
from ..large.restoration import check_space
from ..models.pairs import make_pair
from .figures import Facts, Kernels, Turns
from .passes import LINKS, PassBench, Settings, read_links
from .sizes import Sizes, fit_sizes, halve_layers
from .table import Measured, describe

SPARE_BYTES = 500_000_000


def main(arguments: Sequence[str], sizes: Sizes | None = None) -> int:
    """Measure, print the table, write the results; 1 if a requirement fails."""
    parser = make_parser("gpu", __doc__)
    parser.set_defaults(results=None)  # which are a GPU's, unless another folder is named
    parser.add_argument(
        "--device", type=_device, default="cuda", help="cuda (default), cuda:1, …, or torch:cpu"
    )
    parser.add_argument("--rounds", type=int, default=5, help="counted ones (default: 5)")
    parser.add_argument("--workers", type=int, help="threads of a run (default: its own choice)")
    parser.add_argument(
        "--max-device-memory", default="1GiB", help="of a run (default: %(default)s)"
    )
    parser.add_argument("--no-check", action="store_true", help="exit with 0 in any case")
    parsed = parser.parse_args(arguments)
    settings = Settings(
        device=parsed.device,
        workers=parsed.workers,
        max_device_memory=parsed.max_device_memory,
    )
    facts = find_facts(parsed.device)
    measured = measure_all(
        facts, sizes or fit_sizes(facts), settings, parsed.folder, rounds=parsed.rounds
    )
    folder = parsed.results if facts.gpu is None else parsed.results or RESULTS
    status = publish(describe(measured), folder)
    return 0 if parsed.no_check else status


def _device(text: str) -> str:
    if not re.fullmatch(r"cuda(:\d+)?|torch:cpu", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r}: choose cuda, one such as cuda:1, or torch:cpu")
    return text


def find_facts(device: str) -> Facts:
    """Return what is known of a device.

    Raises
    ------
    UnsupportedError
        If torch sees no such GPU.
    """
    facts = _run_part("device", "--device", device)
    if facts is None:
        raise UnsupportedError(
            f"torch sees no GPU {device} on this machine: --device torch:cpu tries the benchmark "
            "out without one"
        )
    return Facts(**facts)


def measure_all(
    facts: Facts, sizes: Sizes, settings: Settings, folder: Path, *, rounds: int
) -> Measured:
    """Measure everything on one device.

    Parameters
    ----------
    facts : Facts
    sizes : Sizes
    settings : Settings
    folder : Path
        Keeps the pair, and receives what is written meanwhile.
    rounds : int
    """
    # The pair, and one output.
    check_space(folder, 3 * sizes.pair.side_bytes + SPARE_BYTES, "the pair and its output")
    pair, output = make_pair(sizes.pair, folder), folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    bench = PassBench(pair=pair, output=output, settings=settings)
    samples = bench.take_turns(rounds)
    # What a worker scores at once, too: launches take longer than such tensors do.
    chunk_elements = min(read_links(samples[LINKS])[0].chunk_elements, sizes.elements)
    kernels = measure_kernels(
        settings.device, sorted({sizes.elements, chunk_elements}, reverse=True), rounds=rounds
    )
    alone = measure_module(settings.device, sizes.shape, rounds=rounds)
    beside, failures = measure_beside(settings.device, sizes.shape, rounds=rounds)
    return Measured(
        facts=facts,
        samples=samples,
        kernels=kernels,
        alone=alone,
        beside=beside,
        failures=tuple(failures),
        problems=tuple(bench.find_problems()),
    )


def measure_kernels(device: str, elements: Sequence[int], *, rounds: int) -> Kernels:
    """Measure the kernels on tensors of some sizes."""
    sizes = ",".join(map(str, elements))
    options = ["--device", device, "--elements", sizes, "--rounds", str(rounds)]
    return Kernels.from_json(_run_part("kernels", *options))


def measure_module(device: str, shape: LlamaShape, *options: str, rounds: int) -> Turns:
    """Measure restorations of a model in memory."""
    model = ["--shape", json.dumps(asdict(shape)), "--rounds", str(rounds)]
    return Turns.from_json(_run_part("module", "--device", device, *model, *options))


def measure_beside(
    device: str, shape: LlamaShape, *, rounds: int
) -> tuple[Turns | None, list[str]]:
    """Measure the published algorithm by turns with ours, on the largest model that it can take.

    Its failures may leave a process without its device, so each size has one of its own.

    Returns
    -------
    turns : Turns or None
        None if it restores not even one layer.
    failures : list of str
        Why larger models failed.
    """
    failures: list[str] = []
    for smaller in halve_layers(shape):
        try:
            return measure_module(device, smaller, "--published", rounds=rounds), failures
        except CommandError as error:
            layers = f"{smaller.num_hidden_layers} layers"
            reason = str(error).rstrip().rpartition("\n")[2].partition(". ")[0]
            failures.append(f"The published algorithm failed with {layers}: {reason}")
    return None, failures


def _run_part(module: str, *options: str) -> Any:
    """Return what a part of the benchmark, a process of its own, has measured."""
    print(f"{module} …", file=sys.stderr)
    return measure([sys.executable, "-m", f"benchmarks.gpu.{module}", *options]).document()
