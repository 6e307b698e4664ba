"""What a command costs is its own; what is interrupted leaves nothing running or lying about."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from benchmarks.harness.errors import CommandError
from benchmarks.harness.process import measure
from benchmarks.harness.scratch import scratch_folder, undisturbed

MIB = 1 << 20


def test_a_measured_peak_does_not_contain_the_measuring_process():
    ballast = b"x" * (300 * MIB)
    cost = measure([sys.executable, "-c", "b'x' * (50 << 20)"])
    assert len(ballast) > cost.peak_bytes
    assert 50 * MIB < cost.peak_bytes < 100 * MIB


def test_a_measured_command_that_fails_is_an_error_with_its_message():
    with pytest.raises(CommandError, match="status 3:\nout of luck"):
        measure(
            [sys.executable, "-c", "import sys; print('out of luck', file=sys.stderr); sys.exit(3)"]
        )


def test_interrupting_a_measurement_ends_the_command_first(tmp_path, monkeypatch):
    pid_file = tmp_path / "pid"

    def interrupt_once_it_runs(*_: object) -> None:
        if not pid_file.exists() or not pid_file.read_text():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt_once_it_runs)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            measure(["sh", "-c", 'echo $$ > "$0"; exec sleep 60', str(pid_file)])
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_scratch_folder_is_gone_after_an_error(tmp_path):
    def fail_in_a_scratch_folder() -> None:
        with scratch_folder(tmp_path / "new", "trial") as folder:
            (folder / "file").write_bytes(b"x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_a_scratch_folder()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tidying_up_is_not_interrupted(number):
    before = signal.getsignal(number)
    with undisturbed():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
