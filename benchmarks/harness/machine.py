"""The machine that results were measured on, without anything that identifies it."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

LIBRARIES = ("shardrestore", "numpy", "numba", "safetensors", "torch", "typer")


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory and kernel."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_bytes() / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
    }


def memory_bytes() -> int:
    """Return the size of the memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are measured."""
    versions = {library: _version(library) for library in LIBRARIES}
    return {"python": platform.python_version(), **versions}


def today() -> str:
    """Return the date, in universal time."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"
