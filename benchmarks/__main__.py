"""``python -m benchmarks [compare | peak_memory] …``: one benchmark, or without a name both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from .compare import main as compare
from .peak_memory import main as peak_memory

BENCHMARKS: dict[str, Callable[[Sequence[str]], int]] = {
    "compare": compare,
    "peak_memory": peak_memory,
}


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark that is named, with the arguments after its name."""
    if not arguments:
        return max(benchmark([]) for benchmark in BENCHMARKS.values())
    name, *rest = arguments
    if name not in BENCHMARKS:
        print(f"usage: python -m benchmarks [{' | '.join(BENCHMARKS)}] …", file=sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    return BENCHMARKS[name](rest)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
