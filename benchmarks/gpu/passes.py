"""Both passes of a run on a GPU, against the slowest link that each must use.

The links are measured in every round, beside the run, and so is the same run on processors.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..harness.process import Cost, measure
from ..harness.tool import measure_run
from ..harness.turns import Samples, take_turns
from .figures import Links

PASSES = ("scan", "restore")

LINKS = "links"
ON_DEVICE = "shardrestore run on the device"
ON_PROCESSORS = "shardrestore run on processors"

ITEM_BYTES = 2
"""Of a bfloat16 weight."""

LINK_NAMES = {
    "reader": "reader",
    "to_device": "host to device",
    "from_device": "device to host",
    "writer": "writer",
}
"""Fields of ``Links``, and what people call them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a run that the links are measured with too."""

    device: str
    workers: int | None = None
    """None leaves their number to the command: one per processor."""
    max_memory: str = "16GiB"
    """A GPU's libraries take gigabytes of it."""
    max_device_memory: str = "1GiB"
    """What a run takes by default."""

    def arguments(self) -> list[str]:
        """Return them as words of a command line, except device and workers."""
        return ["--max-memory", self.max_memory, "--max-device-memory", self.max_device_memory]


@dataclass(slots=True, kw_only=True)
class PassBench:
    """A pair, and the contenders that take turns with it."""

    pair: Path
    output: Path
    """Is made and removed by each turn."""
    settings: Settings
    digests: dict[str, set[str]] = field(default_factory=dict)
    """SHA-256 of the weights that were written, by who wrote them."""

    def links(self) -> Cost:
        """Take the links' turn."""
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu.links",
            str(self.pair),
            str(self.output),
        ]
        command += ["--device", self.settings.device, *self.settings.arguments()]
        if self.settings.workers is not None:
            command += ["--workers", str(self.settings.workers)]
        try:
            return measure(command)
        finally:
            shutil.rmtree(self.output, ignore_errors=True)

    def on_device(self) -> Cost:
        """Take the turn of a run on the device."""
        return self._run(ON_DEVICE, self.settings.device)

    def on_processors(self) -> Cost:
        """Take the turn of a run on processors."""
        return self._run(ON_PROCESSORS, "cpu")

    def _run(self, label: str, device: str) -> Cost:
        options = ["--device", device, *self.settings.arguments()]
        cost, _ = measure_run(
            self.pair, self.output, options, workers=self.settings.workers, keep=True
        )
        try:
            self.digests.setdefault(label, set()).add(digest_weights(self.output))
        finally:
            shutil.rmtree(self.output)
        return cost

    def take_turns(self, rounds: int) -> Samples:
        """Measure everything once a round."""
        contenders = {
            LINKS: self.links,
            ON_DEVICE: self.on_device,
            ON_PROCESSORS: self.on_processors,
        }
        return take_turns(contenders, rounds)

    def find_problems(self) -> list[str]:
        """Say so if the runs have not written the same weights, every time."""
        found = {digest for digests in self.digests.values() for digest in digests}
        if len(found) == 1:
            return []
        told = "; ".join(
            f"{label}: {', '.join(sorted(digests))}" for label, digests in self.digests.items()
        )
        return [f"the runs have written different weights: {told}"]


def digest_weights(folder: Path) -> str:
    """Return the SHA-256 of those of all weight files, in the order of their names."""
    with ThreadPoolExecutor() as pool:
        digests = pool.map(_digest, sorted(folder.glob("*.safetensors")))
        return hashlib.sha256(b"".join(digests)).hexdigest()


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def read_links(costs: Sequence[Cost]) -> list[Links]:
    """Return what the links' turns have found."""
    return [Links(**cost.document()) for cost in costs]


def moved_bytes(result: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return what each pass moves over each link, in bytes.

    Parameters
    ----------
    result : mapping
        What ``shardrestore run --json`` says of a bfloat16 pair, which takes no third reading.
    """
    region_bytes = result["region_elements"] * ITEM_BYTES
    scanned_bytes = 2 * region_bytes
    return {
        "scan": {"reader": scanned_bytes, "to_device": scanned_bytes},
        "restore": {
            "reader": result["read_bytes"] - scanned_bytes,
            "to_device": scanned_bytes,
            "from_device": region_bytes,
            "writer": result["written_bytes"],
        },
    }


def link_seconds(links: Links, moved: Mapping[str, int]) -> dict[str, float]:
    """Return how long each link takes for these bytes if nothing else is done."""
    return {link: nbytes / getattr(links, link) for link, nbytes in moved.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PassShares:
    """A pass against its slowest link."""

    name: str
    slowest: str
    """The link that takes longest, in most rounds."""
    shares: tuple[float, ...]
    """Speed of the pass as a share of that of the slowest link, of each round."""


def compare_pass(
    name: str, links: Sequence[Links], results: Sequence[dict[str, Any]]
) -> PassShares:
    """Compare a pass with the links of the same rounds."""
    slowest, shares = [], []
    for one, result in zip(links, results, strict=True):
        seconds = link_seconds(one, moved_bytes(result)[name])
        slowest.append(max(seconds, key=lambda link: seconds[link]))
        shares.append(seconds[slowest[-1]] / result[f"{name}_seconds"])
    return PassShares(
        name=name,
        slowest=LINK_NAMES[max(slowest, key=slowest.count)],
        shares=tuple(shares),
    )


def start_seconds(cost: Cost) -> float:
    """Return what a run takes besides its passes: libraries, the device's check, reports."""
    result = cost.document()
    passes_seconds: float = sum(result[f"{name}_seconds"] for name in PASSES)
    return cost.wall_seconds - passes_seconds
