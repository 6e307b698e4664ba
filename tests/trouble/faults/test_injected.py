"""Every n-th call to the operating system fails: one clear error, and `--resume` goes on."""

from __future__ import annotations

import errno
import functools
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardrestore
from tests.support.checkpoints import Layout, read_tree, store, write_checkpoint
from tests.support.inject import (
    SHORT,
    WRITE,
    Fault,
    choose_calls,
    counting,
    open_descriptors,
    visible,
)
from tests.support.library import Library, cut_into
from tests.support.process.command import run_cli
from tests.support.runs import BUDGET, scratch
from tests.support.scene import Scene

SEED = int(os.environ.get("SHARDRESTORE_TEST_SEED", "9"))

READS = ("preadv", "pread")
WRITES = ("pwrite", "ftruncate", "fsync", WRITE)
FOLDERS = ("open", "mkdir", "rename", "unlink", "rmdir", "truncate")
LOOKS = ("stat", "lstat", "fstat", "scandir", "listdir")
FUNCTIONS = {*READS, *WRITES, *FOLDERS, *LOOKS}

ERRORS = {
    **dict.fromkeys(READS, (errno.EIO, errno.ESTALE)),
    **dict.fromkeys(WRITES, (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)),
    **dict.fromkeys(FOLDERS, (errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC)),
    **dict.fromkeys(LOOKS, (errno.EACCES, errno.EIO)),
}
"""What each function can fail with; calls take turns."""

FINE = Library(cut_into(segment_elements=128, chunk_elements=16, block_bytes=200, copy_bytes=100))
PERCENTS = (20, 55)

NAMES = {
    "model.layers.0.self_attn.q_proj.weight": (16, 16),
    "model.layers.0.mlp.down_proj.weight": (16, 20),
    "model.layers.1.mlp.gate_proj.weight": (9, 30),
    "model.embed_tokens.weight": (10, 16),
    "lm_head.weight": (10, 16),
}
SIDE_FILES = {
    "config.json": b'{"model_type": "llama", "dtype": "bfloat16"}',
    "tokenizer.json": b"{}",
    "remote/code.py": b"# code\n" * 20,
}

Job = Callable[..., object]


@pytest.fixture(scope="module")
def pair() -> Iterator[Path]:
    """A folder with a tiny pair in several shards; outputs go beside it."""
    rng = np.random.default_rng(SEED)
    with scratch() as root:
        for side, shards, extra in (("base", 2, {}), ("target", 3, SIDE_FILES)):
            tensors = {
                name: store(rng.normal(0, 0.02, shape).astype(np.float32), "BF16")
                for name, shape in NAMES.items()
            }
            write_checkpoint(root / side, tensors, Layout(shards, 2), extra)
        yield root


def restore(root: Path, output: Path, *, percent: float = 30.0, **options: Any) -> None:
    FINE.restore(
        root / "base",
        root / "target",
        output,
        percent=percent,
        **{"workers": 1, "max_memory": BUDGET, "checksum": True} | options,
    )


def sweep(root: Path, output: Path, **options: Any) -> None:
    FINE.sweep(
        root / "base",
        root / "target",
        output,
        percents=PERCENTS,
        **{"workers": 2, "max_memory": BUDGET} | options,
    )


@functools.cache
def reference(job: Job, root: Path) -> tuple[dict[str, bytes], Counter[str]]:
    """Return what a job writes when nothing fails, and how often it calls each function."""
    output = root / f"reference-{job.__name__}"
    job(root, output)  # once for whatever is loaded or compiled the first time
    again = root / f"counted-{job.__name__}"
    with counting(FUNCTIONS) as calls:
        job(root, again)
    assert read_tree(again) == read_tree(output)
    return read_tree(output), calls


def try_fault(job: Job, root: Path, fault: Fault, *, overwrite: bool = False) -> list[str]:
    """Let a fault strike a job, then resume it; return what was not as it should be."""
    expected, _ = reference(job, root)
    problems: list[str] = []
    with scratch() as outside:
        output = outside / "out"
        if overwrite:
            job(root, output, percent=70.0)
        before = visible(output)
        descriptors = open_descriptors()
        failure = None
        with counting(FUNCTIONS, fault):
            try:
                job(root, output, overwrite=overwrite)
            except Exception as error:
                failure = error
        if failure is not None:
            problems += check_failure(failure, root, outside)
            # A rename that cannot be undone either is told, and left to `--resume`.
            undone = not (fault.lasting and fault.function in ("rename", "lstat"))
            if undone and visible(output) != before:
                problems.append("something had a final name")
        elif not fault.hit:
            return []
            failure.__traceback__ = None  # its frames hold what they had opened
        if open_descriptors() != descriptors:
            problems.append("a file was left open")
        if failure is not None:
            try:
                job(root, output, overwrite=overwrite, resume=True)
            except Exception as error:
                problems.append(f"could not be resumed: {error!r}")
        # A run that succeeded may have failed to clean up after itself.
        found = read_tree(output) if failure is not None else visible(output)
        if found != expected and not problems:
            differing = sorted(
                name
                for name in found.keys() | expected.keys()
                if found.get(name) != expected.get(name)
            )
            problems.append(f"wrong in the end: {differing}")
    return [f"{fault}: {problem}" for problem in problems]


def check_failure(failure: Exception, *roots: Path) -> list[str]:
    """Say what an error lacks: it must be one of ours, and name a file."""
    if not isinstance(failure, shardrestore.ShardRestoreError):
        return [f"failed with {failure!r}"]
    if not any(str(root) in str(failure) for root in roots):
        return [f"names no file: {failure}"]
    return []


def faults(function: str, count: int, *errors: int, lasting: bool = False) -> list[Fault]:
    numbers = choose_calls(count, SEED)
    print(f"{function}: {len(numbers)} of {count} calls, seed {SEED}")
    return [
        Fault(function, number, errors[turn % len(errors)], lasting)
        for turn, number in enumerate(numbers)
    ]


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_call_that_fails_is_one_error_that_names_a_file_and_the_run_can_be_resumed(
    pair: Path, function: str, lasting: bool
) -> None:
    _, calls = reference(restore, pair)
    tried = faults(function, calls[function], *ERRORS[function], lasting=lasting)
    assert [problem for fault in tried for problem in try_fault(restore, pair, fault)] == []


@pytest.mark.parametrize("function", ["pwrite", "rename", "fsync", WRITE, "mkdir"])
def test_a_call_that_fails_leaves_the_older_model_that_would_be_replaced(
    pair: Path, function: str
) -> None:
    _, calls = reference(restore, pair)
    # Twice the renames: the older model's files are moved away.
    tried = faults(function, calls[function] * 2, *ERRORS[function])
    assert [
        problem for fault in tried for problem in try_fault(restore, pair, fault, overwrite=True)
    ] == []


@pytest.mark.parametrize("function", ["preadv", "pwrite", "rename", "open"])
def test_a_call_that_fails_in_a_sweep_leaves_no_model_and_all_can_be_resumed(
    pair: Path, function: str
) -> None:
    _, calls = reference(sweep, pair)
    tried = faults(function, calls[function], *ERRORS[function])
    assert [problem for fault in tried for problem in try_fault(sweep, pair, fault)] == []


@pytest.mark.parametrize("function", ["preadv", "pread", "pwrite"])
def test_a_short_read_or_write_is_completed_without_a_word(pair: Path, function: str) -> None:
    expected, calls = reference(restore, pair)
    for lasting in (False, True):
        for fault in faults(function, calls[function], SHORT, lasting=lasting):
            with scratch() as outside, counting(FUNCTIONS, fault):
                restore(pair, outside / "out")
                assert read_tree(outside / "out") == expected, fault
            assert fault.hit


@pytest.mark.parametrize("function", ["preadv", "pwrite", "fsync", "open", "rename"])
def test_an_interrupted_call_corrupts_nothing(pair: Path, function: str) -> None:
    """CPython repeats such calls itself; if the error comes through, it is one like others."""
    _, calls = reference(restore, pair)
    tried = faults(function, calls[function], errno.EINTR)
    assert [problem for fault in tried for problem in try_fault(restore, pair, fault)] == []


def scan(root: Path, output: Path, **options: Any) -> None:
    FINE.scan(
        root / "base",
        root / "target",
        output / "pair.profile.safetensors",
        **{"workers": 1, "max_memory": BUDGET} | options,
    )


@pytest.mark.parametrize("function", sorted({*READS, *WRITES, *FOLDERS} - {WRITE}))
def test_a_call_that_fails_in_a_scan_is_one_error_and_leaves_nothing_unfinished(
    pair: Path, function: str
) -> None:
    expected, calls = reference(scan, pair)
    problems = []
    for fault in faults(function, calls[function], *ERRORS[function]):
        with scratch() as outside:
            descriptors = open_descriptors()
            failure = None
            with counting(FUNCTIONS, fault):
                try:
                    scan(pair, outside / "out")
                except Exception as error:
                    failure = error.with_traceback(None)
            found = read_tree(outside / "out")
            if failure is not None:
                problems += [f"{fault}: {lack}" for lack in check_failure(failure, pair, outside)]
                # Complete, it is read once more, to be described.
                if found not in ({}, expected):
                    problems.append(f"{fault}: left {sorted(found)}")
            elif visible_profile(found) != visible_profile(expected):
                problems.append(f"{fault}: wrong in the end")
            if open_descriptors() != descriptors:
                problems.append(f"{fault}: a file was left open")
    assert problems == []


def visible_profile(tree: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out what could not be cleaned up."""
    return {name: content for name, content in tree.items() if not name.startswith(".")}


@pytest.mark.parametrize("function", ["preadv", "open", "fstat", "scandir"])
def test_a_read_that_fails_in_a_verification_is_one_error_or_finding_that_names_a_file(
    pair: Path, function: str
) -> None:
    reference(restore, pair)
    folder = pair / "reference-restore"

    def verify() -> shardrestore.Verification:
        return FINE.verify(folder, workers=1, max_memory_bytes=16 << 30)

    assert verify().ok
    with counting(FUNCTIONS) as calls:
        verify()
    problems = []
    for fault in faults(function, calls[function], *ERRORS[function]):
        descriptors = open_descriptors()
        with counting(FUNCTIONS, fault):
            try:
                result = verify()
            except Exception as error:
                problems += [f"{fault}: {lack}" for lack in check_failure(error, pair)]
                error.__traceback__ = None
            else:
                if result.ok:
                    problems.append(f"{fault}: went unnoticed")
                if not any(str(pair) in problem for problem in result.problems):
                    problems.append(f"{fault}: no finding names a file: {result.problems}")
        if open_descriptors() != descriptors:
            problems.append(f"{fault}: a file was left open")
    assert problems == []


PRELUDE = """
import os
real, calls = os.{function}, 0
def {function}(*args, **named):
    global calls
    calls += 1
    if calls >= {number}:
        raise OSError({error}, os.strerror({error}))
    return real(*args, **named)
os.{function} = {function}
"""


@pytest.mark.parametrize(
    ("function", "number", "error", "words"),
    [
        ("pwrite", 55, errno.ENOSPC, ["No space left", "bytes, ", "are free: free some space"]),
        ("pwrite", 60, errno.EDQUOT, ["quota exceeded", "are free: free some space"]),
        ("fsync", 5, errno.EIO, ["Input/output error"]),
        ("preadv", 70, errno.EIO, ["reading", "failed: Input/output error"]),
        ("rename", 4, errno.EROFS, ["Read-only file system"]),
    ],
)
def test_a_failure_ends_in_one_message_and_the_command_it_prints_goes_on(
    scene: Scene, function: str, number: int, error: int, words: list[str]
) -> None:
    scene.run("--percent", "30", "--output", "reference", "--workers", "1")
    fault = PRELUDE.format(function=function, number=number, error=int(error))
    failed = scene.cli("--percent", "30", "--workers", "1", "--quiet", prelude=fault)
    assert (failed.returncode, failed.stdout) == (1, "")
    message, kept, command = failed.stderr.splitlines()
    assert message.startswith("error: ")
    assert [word for word in words if word not in message] == []
    assert "/" in message.split(": ")[1]
    assert kept == "finished work is kept; to continue:"
    assert visible(scene.output) == {}
    program, *arguments = shlex.split(command)
    assert program == "shardrestore"
    resumed = run_cli(*arguments, cwd=scene.root)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert read_tree(scene.output) == read_tree(scene.root / "reference")
