"""SIGINT and SIGTERM, heard wherever in the process they arrive."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

REPEAT_SECONDS = 0.1
"""How long Python may take to hear a signal before it is sent again."""

_USUAL: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Signals:
    """Raises KeyboardInterrupt for each signal, in the main thread.

    Python calls a handler between two of its own instructions. A signal that comes just as the
    main thread begins to wait for others does not wake it: of runs that waited for a download,
    1 in 100 did not hear it. And what a handler raises in a finalizer, in a callback from C, or
    while a module in C is imported, is printed and forgotten. A thread sends such signals again,
    but only the first of each number: a user who presses Ctrl-C twice can press it again.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        """Needed since an interruption may arrive as something else: numba's C modules turn
        one during their import into an ImportError."""
        self.over = False
        """Whether nothing is left to be interrupted; not a call, in which a signal is heard."""
        self._numbers: list[int] = []
        self._lost: list[int] = []
        self._complain, self._print = sys.unraisablehook, sys.excepthook

    @contextmanager
    def listening(self, numbers: list[int]) -> Iterator[None]:
        """Take over the handlers of some signals."""
        self._numbers = numbers
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        former = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        sys.unraisablehook, sys.excepthook = self._hear_unraisable, self._hear_printed
        try:
            self._start_repeating()
            for number in numbers:
                signal.signal(number, self._interrupt)
            yield
        finally:
            self.over = True
            for number in numbers:
                signal.signal(number, _USUAL[number])
            sys.unraisablehook, sys.excepthook = self._complain, self._print
            signal.set_wakeup_fd(former)
            os.close(self._write_end)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.over:
            self._lost.clear()
            self.received.append(number)
            raise KeyboardInterrupt

    def _hear_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        if not self._ends(unraisable.exc_type):
            self._complain(unraisable)

    def _hear_printed(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        # By C alone, as long as we listen: NumPy's import_array makes an ImportError of it.
        if not self._ends(kind):
            self._print(kind, error, trace)

    def _ends(self, kind: type[BaseException]) -> bool:
        """Have an interruption that ends here repeated; say whether there was one before.

        Complaints after that come from what was cut short, such as a file left open.
        """
        if self.received and issubclass(kind, KeyboardInterrupt):
            self._lost.append(self.received[-1])
            os.write(self._write_end, bytes(self._lost[-1:]))
        return bool(self.received)

    def _start_repeating(self) -> None:
        try:
            threading.Thread(target=self._repeat, name="shardrestore-signals", daemon=True).start()
        except RuntimeError:  # the system allows no more threads
            os.close(self._read_end)

    def _repeat(self) -> None:
        main = threading.main_thread().ident or 0
        while byte := os.read(self._read_end, 1):
            number = byte[0]
            time.sleep(REPEAT_SECONDS)
            unheard = number in self._lost or number not in self.received
            if number in self._numbers and unheard and not self.over:
                signal.pthread_kill(main, number)  # writes to the pipe again
        os.close(self._read_end)


@contextmanager
def raised_signals() -> Iterator[Signals]:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt; those that the caller handles do not."""
    signals = Signals()
    taken = [number for number, usual in _USUAL.items() if signal.getsignal(number) is usual]
    if taken and threading.current_thread() is threading.main_thread():
        with signals.listening(taken):
            yield signals
    else:
        yield signals
