"""Runs command lines in processes of their own, each forked after the imports.

A fork costs a hundredth of a second where a new interpreter costs a fifth, or half with the
kernels. It reads one JSON object a line, and answers each with another one:

    {"argv": [...], "cwd": ..., "stdout": ..., "stderr": ..., "address_bytes": ..., "seconds": ...}
    {"status": 0, "address_bytes": ..., "resident_bytes": ..., "seconds": ...}

A negative status is the signal that ended the process; SIGALRM says that its time was up.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from typing import Any

IMPORTED = (
    "shardrestore",
    "shardrestore_cli.main",
    "safetensors.numpy",
    "shardrestore.kernels.cpu",
)
LARGEST_FILE = 64 << 20
"""No case writes as much; one that follows a link to an endless file does."""


def carry_out(job: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    report, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(report)
        become(job, write_end)
    os.close(write_end)
    with os.fdopen(report) as pipe:
        address = pipe.read()
    _, status, usage = os.wait4(child, 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "address_bytes": int(address or 0) * 1024,
        "resident_bytes": usage.ru_maxrss * 1024,
        "seconds": time.monotonic() - started,
    }


def become(job: dict[str, Any], report: int) -> None:
    """Turn the forked process into a command line with limits; never returns."""
    for number, path in ((1, job["stdout"]), (2, job["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["cwd"])
    resource.setrlimit(resource.RLIMIT_AS, (job["address_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE,) * 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as in every new interpreter
    signal.setitimer(signal.ITIMER_REAL, job["seconds"])
    sys.argv = ["shardrestore", *job["argv"]]
    status = 1
    try:
        sys.modules["shardrestore_cli.main"].main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(report, str(peak_address_kib()).encode())
    os._exit(status)


def peak_address_kib() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmPeak"))


def refuse_something() -> None:
    """Parse a command line, for what is only imported then."""
    sys.argv = ["shardrestore", "plan", "--base", "/dev/null", "--target", "/dev/null"]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        sys.modules["shardrestore_cli.main"].main()


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    refuse_something()
    gc.freeze()  # a collection in a child would copy every page it looks at
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
