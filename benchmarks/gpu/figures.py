"""What the processes that use a device tell the one that does not: printed by them as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is measured, and with what."""

    gpu: str | None
    """Its name; None for torch's processor device."""
    driver: str = ""
    cuda: str = ""
    """The version that torch is built for."""
    triton: str = ""
    free_bytes: int = 0
    """Memory of the GPU that is free."""

    def versions(self) -> dict[str, str]:
        """Return what stands below the tables besides torch's own version."""
        if self.gpu is None:
            return {}
        return {
            "GPU": self.gpu,
            "driver": self.driver,
            "CUDA": self.cuda,
            "triton": self.triton,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Speeds in bytes per second, and how work was divided when they were measured."""

    reader: float
    """Reading both inputs, from the page cache, into the buffers of all workers."""
    to_device: float
    """Copies from page-locked host memory."""
    from_device: float
    """Copies to page-locked host memory."""
    writer: float
    """Writing the target's bytes, until they are on disk."""
    workers: int
    block_bytes: int
    chunk_elements: int
    """Elements that a worker's device scores at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """A kernel on tensors of one size, in each round."""

    module: str
    function: str
    arithmetic: str
    elements: int
    in_use: bool
    """Whether passes use it on this device."""
    rates: Sequence[float]
    """Bytes per second that must be moved."""
    shares: Sequence[float]
    """Of the rate of a copy in the same round."""

    @property
    def label(self) -> str:
        """What distinguishes it from all others."""
        size = f"{self.elements / (1 << 20):g} Mi elements"
        return f"{self.module}.{self.function}, {self.arithmetic}, {size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """All kernels, and the copy that they took turns with."""

    copies: Sequence[float]
    """Bytes per second, read and written together, in each round."""
    kernels: tuple[Rates, ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Kernels:
        """Return what a process has printed."""
        kernels = tuple(Rates(**one) for one in document["kernels"])
        return cls(copies=document["copies"], kernels=kernels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One restoration of a model in memory."""

    seconds: float
    extra_bytes: int | None
    """Most memory of the GPU that was allocated besides both models; None without one."""
    selected_elements: int
    threshold: float | None
    """The smallest score that was restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Restorations of one model, by turns."""

    parameters: int
    ours: tuple[Turn, ...]
    published: tuple[Turn, ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Turns:
        """Return what a process has printed."""
        ours, published = (
            tuple(Turn(**one) for one in document[who]) for who in ("ours", "published")
        )
        return cls(parameters=document["parameters"], ours=ours, published=published)

    def agree(self) -> bool:
        """Say whether everybody has restored as many elements, down to the same score."""
        return len({(t.selected_elements, t.threshold) for t in (*self.ours, *self.published)}) == 1
