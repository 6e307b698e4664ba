"""Turns forks of itself into command lines; the imports are made once, before the first.

A fork costs a hundredth of a second where a new interpreter that imports the kernels costs one
or two. Jobs come through the socket whose number is the argument, each with four descriptors:
stdin, stdout and stderr of the command, and a pipe that gets the status in which it ended. The
answer is the number of the process. See `tests.support.process.command`, which is the other side.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

IMPORTED = ("shardrestore", "shardrestore_cli.main", "shardrestore.kernels.cpu")
DESCRIPTORS = 4


class Server:
    """Forks on request, and passes on how the forks ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._status_pipes: dict[int, int] = {}
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake)

    def serve(self) -> dict[str, Any] | None:
        """Answer until the other side hangs up; in a fork, return what it is to become."""
        while True:
            ready, _, _ = select.select([self._control, self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control in ready:
                job, descriptors = self._receive()
                if job is None:
                    return None
                if (child := fork()) == 0:
                    self._leave(descriptors)
                    return job
                *streams, self._status_pipes[child] = descriptors
                for stream in streams:
                    os.close(stream)
                self._control.sendall(child.to_bytes(4, "little"))

    def _receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        data, descriptors, _, _ = socket.recv_fds(self._control, 4, DESCRIPTORS)
        if not data:
            return None, []
        left = int.from_bytes(data, "little")
        text = b""
        while len(text) < left:
            text += self._control.recv(left - len(text))
        return json.loads(text), descriptors

    def _reap(self) -> None:
        for child, pipe in list(self._status_pipes.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                    os.write(
                        pipe, os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True)
                    )
                os.close(self._status_pipes.pop(child))

    def _leave(self, descriptors: list[int]) -> None:
        """Undo in a fork what makes a server of it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._control.close()
        for number, stream in enumerate(descriptors[:3]):
            os.dup2(stream, number)
        for descriptor in (*descriptors, *self._status_pipes.values(), self._woken, self._wake):
            os.close(descriptor)


def fork() -> int:
    with warnings.catch_warnings():
        # Of CPython 3.12 and later, on the idle threads of NumPy's BLAS.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def become(job: dict[str, Any]) -> None:
    """Make this process what a new interpreter would be, and run the command line."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    line_buffered = 1
    streams = (
        open(0, closefd=False),  # noqa: SIM115
        open(1, "w", line_buffered if os.isatty(1) else -1, closefd=False),  # noqa: SIM115
        open(2, "w", line_buffered, errors="backslashreplace", closefd=False),  # noqa: SIM115
    )
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams
    sys.argv = ["shardrestore", *job["argv"]]
    sys.modules["shardrestore_cli.main"].main()


def warm_up() -> None:
    """Restore something, for what is only imported then, and parse a command line."""
    shardrestore = sys.modules["shardrestore"]
    synthetic = importlib.import_module("shardrestore.synthetic")
    shape = synthetic.LlamaShape(
        num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=16,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        synthetic.write_pair(Path(folder), shape, shard_bytes=1 << 20, dtype="F32")
        sides = f"{folder}/base", f"{folder}/target"
        shardrestore.restore(*sides, f"{folder}/out", percent=10, max_memory="16GiB")
    sys.argv = ["shardrestore", "run", "--base", "/dev/null", "--target", "/dev/null"]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        sys.modules["shardrestore_cli.main"].main()


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as control:
        for name in IMPORTED:
            importlib.import_module(name)
        warm_up()
        gc.freeze()  # a collection in a fork would copy every page it looks at
        job = Server(control).serve()
    if job is not None:
        become(job)


if __name__ == "__main__":
    main()
