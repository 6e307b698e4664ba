"""``shardrestore`` as a process of its own: forked from one that has made the imports, or anew."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

SERVER = Path(__file__).with_name("fork_server.py")
MAIN = "from shardrestore_cli.main import main; main()"

_AT_START = ("PYTHON", "NUMBA_", "LC_", "LANG")
"""Variables that only a new interpreter reads begin like this."""


def offline(**extra: str) -> dict[str, str]:
    """Return an environment without network, of a terminal 80 columns wide."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "80", "PYTHONWARNINGS": "error"} | extra


class ForkServer:
    """The process from which command lines are forked: `fork_server`."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", str(SERVER), str(theirs.fileno())],
                env=offline(),
                pass_fds=[theirs.fileno()],
            )

    def fork(self, job: Mapping[str, Any], descriptors: list[int]) -> int:
        """Start a command; return the number of its process."""
        text = json.dumps(job).encode()
        socket.send_fds(self._control, [len(text).to_bytes(4, "little")], descriptors)
        self._control.sendall(text)
        return int.from_bytes(self._control.recv(4), "little")

    def close(self) -> None:
        self._control.close()
        self._process.wait()


@functools.cache
def _server() -> ForkServer:
    return ForkServer()


def stop_server() -> None:
    """End the process from which command lines are forked, if one was started."""
    if _server.cache_info().currsize:
        _server().close()
        _server.cache_clear()


class Forked:
    """A command line that was forked, with what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        args: list[str],
        *,
        cwd: Path | None,
        env: Mapping[str, str],
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = None,
        stderr: Any = None,
    ) -> None:
        self.args = args
        self.returncode: int | None = None
        self.stdin: IO[str] | None
        self.stdout: IO[str] | None
        self.stderr: IO[str] | None
        self._status, status = os.pipe()
        with contextlib.ExitStack() as theirs:
            theirs.callback(os.close, status)
            self.stdin, zero = _stream(stdin, 0, theirs)
            self.stdout, one = _stream(stdout, 1, theirs)
            self.stderr, two = (
                _stream(stderr, 2, theirs) if stderr != subprocess.STDOUT else (None, one)
            )
            job = {"argv": args, "cwd": str(cwd or Path.cwd()), "environment": dict(env)}
            self.pid = _server().fork(job, [zero, one, two, status])

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int.from_bytes(os.read(self._status, 4), "little", signed=True)
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Read both streams until the command has ended, which it does in time or by force."""
        started = time.monotonic()
        with ThreadPoolExecutor(2) as readers:
            texts = [
                readers.submit(stream.read) if stream else None
                for stream in (self.stdout, self.stderr)
            ]
            try:
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
            stdout, stderr = (text.result() if text else None for text in texts)
        assert timeout is None or time.monotonic() - started < timeout + 10
        self._close()
        return stdout, stderr

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self.wait()


def _stream(wanted: Any, number: int, theirs: contextlib.ExitStack) -> tuple[IO[str] | None, int]:
    """Return our end of a stream, if any, and the command's."""
    if wanted is None:
        return None, number
    if wanted == subprocess.PIPE:
        reader, writer = os.pipe()
        ours, end = (writer, reader) if number == 0 else (reader, writer)
        theirs.callback(os.close, end)
        return open(ours, "w" if number == 0 else "r", encoding="utf-8"), end
    if wanted == subprocess.DEVNULL:
        null = os.open(os.devnull, os.O_RDWR)
        theirs.callback(os.close, null)
        return None, null
    return None, wanted if isinstance(wanted, int) else wanted.fileno()


def _needs_a_new_interpreter(env: Mapping[str, str]) -> bool:
    usual = offline()
    return any(
        env.get(name) != usual.get(name)
        for name in env.keys() | usual.keys()
        if name.startswith(_AT_START) and name not in ("PYTHONPATH", "PYTHONWARNINGS")
    )


def start_cli(
    *args: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    prelude: str = "",
    fresh: bool = False,
    **streams: Any,
) -> Any:
    """Begin a command line, which the test will stop or read from.

    Parameters
    ----------
    prelude : str
        Python to run first; the command has an interpreter of its own then.
    fresh : bool
        Whether to start an interpreter even so: the claim is about imports, say.
    streams
        ``stdin``, ``stdout`` and ``stderr`` as of `subprocess.Popen`; the process shares this
        one's output otherwise.
    """
    words = [str(arg) for arg in args]
    env = offline() if env is None else env
    if not (prelude or fresh or _needs_a_new_interpreter(env)):
        return Forked(words, cwd=cwd, env=env, **streams)
    # A shell that runs tests in the background would have SIGINT ignored. Not -m, where
    # CPython 3.11 kills itself with SIGINT at times although KeyboardInterrupt was handled.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", "\n".join([heard, prelude, MAIN]), *words],
        cwd=cwd,
        env=env,
        encoding="utf-8",
        **{"stdin": subprocess.DEVNULL} | streams,
    )


def run_cli(
    *args: str | Path, timeout: float = 120, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end; see `start_cli`."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start_cli(*args, **streams | options)
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
