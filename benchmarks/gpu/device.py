"""The device that is measured: opened, waited for, described.

As a process of its own, ``python -m benchmarks.gpu.device --device cuda`` prints what torch
and the driver say of it as JSON, and ``null`` where torch sees no such GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata

import torch

from shardrestore.machine.device import TORCH_PREFIX

from .figures import Facts


def open_device(name: str) -> torch.device:
    """Return the device that the command line's ``--device`` names; ``torch:cpu`` too."""
    return torch.device(name.removeprefix(TORCH_PREFIX))


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` to the parser of a process that measures a part."""
    parser.add_argument("--device", type=open_device, required=True)


def wait_for(device: torch.device) -> None:
    """Wait until everything that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_seconds(device: torch.device, work: Callable[[], object], *, times: int = 1) -> float:
    """Return the time that a piece of work takes, done some times without waiting in between."""
    wait_for(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    wait_for(device)
    return (time.perf_counter() - started) / times


def find_facts(device: torch.device) -> Facts | None:
    """Return what is known of a device; None if torch does not see it."""
    if device.type == "cpu":
        return Facts(gpu=None)
    if (device.index or 0) >= torch.cuda.device_count():
        return None
    return Facts(
        gpu=torch.cuda.get_device_name(device),
        driver=_driver_version(),
        cuda=str(torch.version.cuda or torch.version.hip),
        triton=_triton_version(),
        free_bytes=torch.cuda.mem_get_info(device)[0],
    )


def _driver_version() -> str:
    # torch gives the version of CUDA that a driver supports, not the driver's own.
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.split("\n", 1)[0].strip()


def _triton_version() -> str:
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "not installed"


def main(arguments: Sequence[str]) -> int:
    """Print the facts as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.device", description=__doc__)
    add_device_option(parser)
    facts = find_facts(parser.parse_args(arguments).device)
    print(json.dumps(facts and asdict(facts)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
