"""Memory of this process, as the operating system counts it."""

from __future__ import annotations

import resource
import sys


def resident_bytes() -> int:
    """Return the resident memory of this process now; 0 where it cannot be told."""
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
