"""One run through the library, with what the command line has no option for.

As a process of its own: ``python -m benchmarks.contenders.library BASE TARGET OUTPUT`` with the
preferred size of blocks, or with timers around everything (see ``trace``). Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from shardrestore.granularity import DEFAULT_GRANULARITY
from shardrestore.machine.stopwatch import Stopwatch
from shardrestore.request import make_request
from shardrestore.runs.runner import run
from shardrestore.runs.session import Session

from ..harness.trace import Trace, tracing


def main(arguments: Sequence[str]) -> int:
    """Run once; print the phases' and activities' seconds."""
    started = time.perf_counter()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contenders.library", description=__doc__
    )
    for name in ("base", "target", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block-bytes", type=int, default=DEFAULT_GRANULARITY.block_bytes)
    parser.add_argument("--trace", action="store_true")
    parsed = parser.parse_args(arguments)
    # A budget that any block fits into: else it would be halved until one does.
    request = make_request([10], {"workers": parsed.workers, "max_memory": "4GiB"})
    granularity = replace(DEFAULT_GRANULARITY, block_bytes=parsed.block_bytes)
    request = replace(request, granularity=granularity)
    trace = Trace()
    with (
        tracing(trace) if parsed.trace else nullcontext(),
        Session(parsed.base, parsed.target, request) as session,
    ):
        run(session, [parsed.output], None, Stopwatch())
    document = {
        "run_seconds": time.perf_counter() - started,
        "wall_seconds": trace.wall_seconds,
        "worker_seconds": trace.worker_seconds,
        "seconds": trace.seconds(),
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
