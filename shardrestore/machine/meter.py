"""Memory of this process, as the operating system counts it."""

from __future__ import annotations

import resource
import sys

from ..units import MIB

RUNTIME_BYTES = 224 * MIB
"""The process before its first buffer: interpreter, NumPy, numba and its compiler.

Measured: 152 MiB with compiled kernels at hand, 187 MiB when they are compiled
in the same process (Python 3.11, NumPy 2.4, numba 0.68, Linux on x86-64). Sending shards to
the Hub by plain HTTP adds 20 MiB, the same for shards of 91 and of 569 MB.
"""

HOST_MARGIN_BYTES = 48 * MIB
"""What importing numba and its compiler adds to a process that is already large."""


def measure_runtime() -> int:
    """Return what the process will hold before the first buffer, in bytes.

    A process that is already larger than ours would be, because it has loaded
    torch for example, is taken as it is.
    """
    return max(RUNTIME_BYTES, resident_bytes() + HOST_MARGIN_BYTES)


def measure_excess() -> int:
    """Return by how much the process is larger than the command line ever is, in bytes."""
    return measure_runtime() - RUNTIME_BYTES


def resident_bytes() -> int:
    """Return the resident memory of this process now; 0 where the system does not say."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int:
    """Return the largest resident memory of this process so far.

    On Linux from ``/proc/self/status``: ``getrusage`` would count the process
    that started this one, whose peak a child inherits.
    """
    peak = _status_bytes("VmHWM")
    if peak:
        return peak
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def _status_bytes(key: str) -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
