"""A small process that runs one command and writes what it cost, as JSON.

``python -I -S launcher.py FD COMMAND …``; see ``process`` for the reason. It
imports nothing that is not needed, to stay smaller than whatever it measures.

It outlives the command in any case: a caller that has waited for it may remove what the
command was working on. A terminal's Ctrl-C reaches the command by itself; SIGTERM
is passed on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main() -> None:
    """Run the command and write its cost to the file descriptor."""
    descriptor, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(descriptor, False)
    signals = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # until there is someone to pass it on to
    started = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, setsigmask=[], setsigdef=signals)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    _, status, usage = os.wait4(pid, 0)
    wall_seconds = time.perf_counter() - started
    cost = {
        "status": os.waitstatus_to_exitcode(status),
        "wall_seconds": wall_seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    os.write(descriptor, json.dumps(cost).encode())


if __name__ == "__main__":
    main()
