"""What a command costs as a whole process: wall time, processor time, peak memory.

Peak memory is ``ru_maxrss`` from ``os.wait4``, the kernel's own high-water mark
of that one process, complete to its end; ``VmHWM`` in ``/proc`` is gone once the
process is, and polling it could miss the last moments. But on Linux a process
also starts with the peak of the one that spawned it, because the mark survives
``exec``. So the command is spawned by a small process of its own, ``launcher``
(about 10 MiB), and the size of this one, be it a test session with torch, does
not matter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CommandError

ROOT = Path(__file__).resolve().parents[2]
"""Working directory of the commands: ``python -m benchmarks.…`` is found here."""

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a finished command has cost."""

    wall_seconds: float
    """From before it was spawned until it was gone."""
    cpu_seconds: float
    """User and system time of all threads."""
    peak_bytes: int
    """Largest resident memory."""
    other_cores: float
    """Cores that everything else on the machine kept busy meanwhile, the kernel's threads too."""
    output: str
    """What it wrote to stdout."""

    def document(self) -> dict[str, Any]:
        """Return the JSON that it wrote to stdout."""
        document: dict[str, Any] = json.loads(self.output)
        return document


def measure(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; the program is looked up in ``PATH``.
    environment : mapping, optional
        Variables to set besides those of this process.

    Raises
    ------
    CommandError
        If it ends with another status than 0.
    """
    busy_before = _busy_seconds()
    receiving, sending = os.pipe()
    with os.fdopen(receiving) as report:
        try:
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(sending), *command],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                pass_fds=[sending],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            os.close(sending)
        with launcher:
            try:
                output, errors = launcher.communicate()
            except BaseException:
                launcher.terminate()  # passed on to the command
                launcher.wait()  # gone only when the command is
                raise
        text = report.read()
    cost: dict[str, Any] = json.loads(text) if text else {"status": launcher.returncode or 1}
    status = cost.pop("status")
    if status:
        raise CommandError(f"{' '.join(command)}\nended with status {status}:\n{errors}")
    others = max(0.0, _busy_seconds() - busy_before - cost["cpu_seconds"]) / cost["wall_seconds"]
    return Cost(output=output, other_cores=others, **cost)


def _busy_seconds() -> float:
    """Return the processor time that the whole machine has used; 0 if unknown."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
