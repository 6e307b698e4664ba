"""Whole runs inside hard limits on memory: at the figure that was projected."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from shardrestore.synthetic import LlamaShape, write_pair
from tests.support.checkpoints import read_tree
from tests.support.process.command import MAIN, offline, run_cli
from tests.support.runs import scratch

MIB = 1 << 20

ADDRESS_MARGIN = 512 * MIB
"""Address space beyond the projected memory, with two workers.

Measured (CPython 3.11, numba 0.68, glibc 2.x on x86-64): 601 to 638 MiB at the peak where
241 to 253 MiB were projected and 166 to 178 MiB were resident. The rest is reserved, never
touched: libraries, 64 MiB for the allocator of each thread (twice that for a moment), stacks.
"""

SCIPY_BYTES = (96 << 20) if find_spec("scipy") else 0
"""Numba imports SciPy where it is installed, and that brings another BLAS: its buffers are 85 MB
of private memory, measured, of which 14 are ever used."""

DATA_MARGIN = 0
"""Private writable memory, stacks included, beyond the projected: 176 to 188 MiB measured."""

SHAPE = LlamaShape(
    num_hidden_layers=3,
    hidden_size=640,
    intermediate_size=1536,
    num_attention_heads=10,
    num_key_value_heads=5,
    vocab_size=4096,
)
"""17.8 million parameters: 36 MB a side in bfloat16, 71 MB in float32."""

CASES = {
    "bfloat16": ("BF16", ["--percent", "20"]),
    "float32, refining": ("F32", ["--percent", "20"]),
    "sweep of 7": ("BF16", ["--percent", "1,3,5,10,20,40,60"]),
    "random": ("BF16", ["--percent", "20", "--strategy", "random"]),
    "cast": ("BF16", ["--percent", "20", "--dtype", "fp32"]),
}


@pytest.fixture(scope="module")
def pairs() -> Iterator[Path]:
    with scratch() as root:
        for dtype in ("BF16", "F32"):
            write_pair(root / dtype, SHAPE, shard_bytes=30_000_000, dtype=dtype)
        yield root


@pytest.fixture
def output(pairs: Path) -> Iterator[Path]:
    """An output whose hundreds of megabytes do not stay."""
    yield pairs / "out"
    shutil.rmtree(pairs / "out", ignore_errors=True)


def words(pairs: Path, case: str) -> list[str]:
    dtype, arguments = CASES[case]
    sides = [f"--base={pairs / dtype / 'base'}", f"--target={pairs / dtype / 'target'}"]
    return [*sides, *arguments, "--workers=2"]


def project(arguments: list[str]) -> int:
    # An interpreter of its own, as the run has: a fork of a server that was idle for long has few
    # pages of its libraries in memory, and projects less.
    done = run_cli("plan", *arguments, "--json", prelude="pass")
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["projected_bytes"])


def limit(kind: str, nbytes: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_{kind}, ({nbytes}, {nbytes}))"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("kind", "margin"), [("AS", ADDRESS_MARGIN), ("DATA", DATA_MARGIN)], ids=["address", "data"]
)
def test_a_run_succeeds_inside_its_projection_and_the_stated_margin(
    pairs: Path, output: Path, case: str, kind: str, margin: int
) -> None:
    arguments = words(pairs, case)
    prelude = limit(kind, project(arguments) + margin + SCIPY_BYTES)
    done = run_cli("run", *arguments, "--output", output, "--quiet", prelude=prelude)
    assert (done.returncode, done.stderr) == (0, "")


@contextlib.contextmanager
def memory_group(nbytes: int) -> Iterator[Path]:
    """Make a group of processes that has `nbytes` of memory and no swap, beside this one's."""
    try:
        own = next(
            line.split("::")[1]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
        place = Path("/sys/fs/cgroup") / own.lstrip("/")
        parent = place if place == Path("/sys/fs/cgroup") else place.parent
        if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
            pytest.skip(f"{parent}: gives its groups no limit on memory")
        group = parent / f"shardrestore-test-{os.getpid()}"
        group.mkdir()
    except (OSError, StopIteration) as error:
        pytest.skip(f"no group of cgroup v2 can be made: {error}")
    try:
        try:
            (group / "memory.max").write_text(str(nbytes))
            (group / "memory.swap.max").write_text("0")
        except OSError as error:
            pytest.skip(f"{group}: takes no limit on memory: {error}")
        yield group
    finally:
        group.rmdir()


def join(group: Path) -> Callable[[], None]:
    return lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None


@pytest.mark.parametrize("case", CASES)
def test_a_run_succeeds_in_a_memory_group_of_its_projection(
    pairs: Path, output: Path, case: str
) -> None:
    """What it reads and writes counts there too, until the kernel takes it back."""
    arguments = words(pairs, case)
    with memory_group(project(arguments)) as group:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "run", *arguments, "--output", output, "--quiet"],
            env=offline(),
            preexec_fn=join(group),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


TOO_SMALL = """
import resource
from shardrestore.runs import runner
real = runner.{call}
def limited(*args, **named):
    pages = int(open("/proc/self/statm", "rb", 0).read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {more},) * 2)
    return real(*args, **named)
runner.{call} = limited
"""


# With less for the second pass, CPython may wait for ever for a thread that began on a stack
# which was used before and died for want of memory: `threading.Thread.start`.
@pytest.mark.parametrize(
    ("call", "more"),
    [("scan_weights", 0), ("scan_weights", 24 * MIB), ("write_models", 24 * MIB)],
)
def test_memory_that_the_system_refuses_is_one_message_and_the_run_can_go_on(
    pairs: Path, output: Path, call: str, more: int
) -> None:
    arguments = [*words(pairs, "bfloat16"), "--output", str(output), "--quiet"]
    prelude = f"import warnings; warnings.simplefilter('ignore')\n{TOO_SMALL}"
    failed = run_cli("run", *arguments, prelude=prelude.format(call=call, more=more))
    assert (failed.returncode, failed.stdout) == (1, "")
    message, *rest = failed.stderr.splitlines()
    begins = ("error: the system refused memory", "error: can't start new thread")
    assert message.startswith(begins), failed.stderr
    assert "lower --workers" in message
    assert "Traceback" not in failed.stderr
    assert bool(rest) == (call == "write_models")
    resumed = run_cli("run", *arguments, "--resume")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "model.safetensors.index.json" in read_tree(output)
