"""``python -m benchmarks NAME …``: run one benchmark, or list them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from . import compare, hub, llama7b, llama70b, peak_memory, scaling
from .gpu import measurement as gpu
from .harness.errors import BenchmarkError, UnsupportedError

BENCHMARKS: dict[str, ModuleType] = {
    "compare": compare,
    "peak_memory": peak_memory,
    "scaling": scaling,
    "hub": hub,
    "gpu": gpu,
    "llama7b": llama7b,
    "llama70b": llama70b,
}

ALL = ("compare", "peak_memory", "gpu")
"""What ``all`` runs: what the claims of the README rest on, within 10 GB of disk.

What a machine lacks the means for, a GPU, is left out.
"""


def describe() -> str:
    """Return the list of benchmarks, one line each."""
    lines = ["usage: python -m benchmarks NAME [--help | OPTION …]", ""]
    for name, module in BENCHMARKS.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        lines.append(f"  {name:<12} {summary}")
    lines.append(f"  {'all':<12} {', '.join(ALL)} (if there is one), with default options.")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark that is named, with the arguments after its name."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(describe())
        return 0
    if name != "all" and name not in BENCHMARKS:
        print(f"there is no benchmark {name!r}\n\n{describe()}", file=sys.stderr)
        return 2
    statuses = []
    for one in ALL if name == "all" else (name,):
        try:
            run: Callable[[Sequence[str]], int] = BENCHMARKS[one].main
            statuses.append(run(rest))
        except UnsupportedError as error:
            left_out = name == "all"
            print(f"{one}: {'left out: ' * left_out}{error}", file=sys.stderr)
            statuses.append(0 if left_out else 1)
        except BenchmarkError as error:
            print(f"{one}: {error}", file=sys.stderr)
            statuses.append(1)
        except KeyboardInterrupt:
            print(f"{one}: interrupted", file=sys.stderr)
            return 128 + signal.SIGINT
    return max(statuses)


def _end(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)  # as Ctrl-C does: what was made is removed again
    raise SystemExit(main(sys.argv[1:]))
