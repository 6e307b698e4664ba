"""Runs command lines in forked processes that kill themselves at a chosen operation.

As in tests/support/hostile/driver.py a fork costs a hundredth of what a new interpreter does. Every
operation on files is counted within its phase of the run, so that a kill can be placed
exactly: before or after the n-th one of a phase. It reads one JSON object a line, and answers
each with another one:

    {"argv": [...], "cwd": ..., "stderr": ..., "stdout": ...,
     "kill": [phase, number, before or after] or null, "signals": [...],
     "kill_after_seconds": number or null}
    {"status": 0 or a negative signal, "phase": where it was, "counts": {phase: operations},
     "seconds": ..., "reaction_seconds": from the signal to the end, "operation": the last one}
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import importlib
import io
import json
import mmap
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PHASES = (
    ("shardrestore.runs.runner", "take_up", "taking up"),
    ("shardrestore.runs.runner", "scan_weights", "pass 1"),
    ("shardrestore.runs.runner", "keep_scan", "saving the scan"),
    ("shardrestore.runs.runner", "place_cuts", "refinement"),
    ("shardrestore.runs.runner", "write_models", "pass 2"),
    ("shardrestore.runs.runner", "Runner._complete_folders", "side files"),
    ("shardrestore.runs.folder", "FolderWriter._sum_up", "checksums"),
    ("shardrestore.runs.runner", "Runner._note_prepared", "noting the renames"),
    ("shardrestore.runs.runner", "Runner._note_shard", "noting a shard"),
    ("shardrestore.upload.each_shard", "UploadEachShard.take", "sending a shard"),
    ("shardrestore.upload.each_shard", "note_uploaded", "noting an upload"),
    ("shardrestore.upload.each_shard", "UploadEachShard.commit", "committing"),
    ("shardrestore.upload.each_shard", "note_commit", "noting the commit"),
    ("shardrestore.output.staging", "Staging.publish", "publishing"),
    ("shardrestore.output.staging", "Staging.finish", "clean-up"),
)
OPERATIONS = (
    *("pwrite", "pread", "preadv", "fsync", "rename", "truncate", "ftruncate"),
    *("open", "mkdir", "rmdir", "unlink"),
)
"""Functions of ``os``; ``open`` of the language is counted with them."""


class Watch:
    """Counts the operations of a process; sends it signals at the chosen one, and the next ones.

    What it notes lies in memory that the parent shares, and so outlives the process.
    """

    def __init__(
        self, notes: mmap.mmap, kill: Sequence[Any] | None, signals: Sequence[int]
    ) -> None:
        self.phase = "start"
        self._of_thread = threading.local()
        self._signals = list(signals)
        self._signalled: float | None = None
        self._notes = notes
        self._counts: Counter[str] = Counter()
        self._kill = tuple(kill) if kill else None
        self._lock = threading.RLock()

    def count(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def counted(*arguments: Any, **options: Any) -> Any:
            if self._kill is None:
                with self._lock:
                    self._note(name)
                return call(*arguments, **options)
            with self._lock:  # nothing else happens between the operation and the kill
                self._note(name)
                phase = self._phase_here()
                here = phase, self._counts[phase]
                if self._signalled is not None or (*here, "before") == self._kill:
                    self._send(name)
                try:
                    return call(*arguments, **options)
                finally:
                    if (*here, "after") == self._kill:
                        self._send(name)

        return counted

    def _phase_here(self) -> str:
        return getattr(self._of_thread, "phase", None) or self.phase

    def _send(self, name: str) -> None:
        if self._signals:
            number = self._signals.pop(0)
            self._signalled = self._signalled or time.monotonic()
            self._write(name)
            os.kill(os.getpid(), number)

    def _note(self, name: str) -> None:
        if self._signalled is None:
            self._counts[self._phase_here()] += 1
            self._write(name)

    def _write(self, name: str) -> None:
        note = {
            "phase": self._phase_here(),
            "operation": name,
            "counts": self._counts,
            "signalled": self._signalled,
        }
        text = json.dumps(note).encode()
        self._notes[: len(text) + 1] = text + b"\n"

    def during(self, call: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def noted(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                self._of_thread.phase = phase  # while the main thread's phase goes on
                try:
                    return call(*arguments, **options)
                finally:
                    self._of_thread.phase = None
            before, self.phase = self.phase, phase
            try:
                return call(*arguments, **options)
            finally:
                self.phase = before

        return noted

    def install(self) -> None:
        for module, path, phase in PHASES:
            *owners, name = path.split(".")
            owner = functools.reduce(getattr, owners, sys.modules[module])
            setattr(owner, name, self.during(getattr(owner, name), phase))
        staging = sys.modules["shardrestore.output.staging"].Staging
        staging.write_file = self._tell_index(staging.write_file)
        for name in OPERATIONS:
            setattr(os, name, self.count(getattr(os, name), name))
        builtins.open = self.count(builtins.open, "open")

    def _tell_index(self, write_file: Callable[..., None]) -> Callable[..., None]:
        """Writing the index is a phase of its own, among the side files."""
        writes_index = self.during(write_file, "index")

        def write(staging: Any, name: str, content: bytes) -> None:
            (writes_index if name.endswith(".index.json") else write_file)(staging, name, content)

        return write


def carry_out(job: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    with mmap.mmap(-1, 1 << 16) as notes:
        child = os.fork()
        if not child:
            become(job, notes)
        timer = None
        if job["kill_after_seconds"] is not None:
            timer = threading.Timer(job["kill_after_seconds"], os.kill, (child, signal.SIGKILL))
            timer.start()
        # The process is reaped only when no timer can kill its successor in number.
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        ended = time.monotonic()
        if timer is not None:
            timer.cancel()
            timer.join()
        _, status = os.waitpid(child, 0)
        noted = json.loads(notes.readline().rstrip(b"\0\n") or b"{}")
    signalled = noted.pop("signalled", None)
    return (
        {"phase": "start", "operation": "", "counts": {}}
        | noted
        | {
            "status": os.waitstatus_to_exitcode(status),
            "seconds": ended - started,
            "reaction_seconds": ended - (signalled or ended),
        }
    )


def become(job: dict[str, Any], notes: mmap.mmap) -> None:
    """Turn the forked process into a command line; never returns."""
    for number, path in ((1, job["stdout"]), (2, job["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["cwd"])
    signal.alarm(60)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["shardrestore", *job["argv"]]
    Watch(notes, job["kill"], job["signals"]).install()
    status = 1
    try:
        sys.modules["shardrestore_cli.main"].main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def warm_up() -> None:
    """Restore something, for what is only imported, or compiled, then."""
    shardrestore = sys.modules["shardrestore"]
    synthetic = importlib.import_module("shardrestore.synthetic")
    shape = synthetic.LlamaShape(
        num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=16,
    )  # fmt: skip
    for dtype in ("BF16", "F32"):
        with tempfile.TemporaryDirectory() as folder:
            synthetic.write_pair(Path(folder), shape, shard_bytes=1 << 20, dtype=dtype)
            for strategy in ("top", "random"):
                shardrestore.restore(
                    f"{folder}/base", f"{folder}/target", f"{folder}/{strategy}", percent=10,
                    strategy=strategy, max_memory="16GiB",
                )  # fmt: skip
    sys.argv = ["shardrestore", "run", "--base", "/dev/null", "--target", "/dev/null"]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        sys.modules["shardrestore_cli.main"].main()


def main() -> None:
    for name in ("shardrestore", "shardrestore_cli.main", "shardrestore.kernels.cpu"):
        importlib.import_module(name)
    warm_up()
    gc.freeze()  # a collection in a child would copy every page it looks at
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
