"""SIGINT and SIGTERM, heard wherever in the process they strike."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

REPEAT_SECONDS = 0.1
"""How long Python may take to hear a signal before it is sent again."""

_USUAL: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@contextmanager
def raised_signals() -> Iterator[Collection[int]]:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt; those that the caller ignores do not.

    Yields what was received, since an interruption may arrive as something else: numba's C
    modules turn one during their import into an ImportError.
    """
    received: list[int] = []
    lost: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        lost.clear()
        received.append(number)
        raise KeyboardInterrupt

    taken = [number for number, usual in _USUAL.items() if signal.getsignal(number) is usual]
    with _repeated(taken, received, lost):
        for number in taken:
            signal.signal(number, interrupt)
        try:
            yield received
        finally:
            for number in taken:
                signal.signal(number, _USUAL[number])


@contextmanager
def _repeated(
    signals: Collection[int], received: Collection[int], lost: list[int]
) -> Iterator[None]:
    """Send one of the signals again until Python has received it, where an exception counts.

    Python calls a handler in the main thread, between two of its own instructions. A signal
    that comes just as that thread begins to wait for others wakes nobody: of runs that waited
    for a download, 1 in 100 did not hear it. And what a handler raises in a finalizer, or in
    a callback from C, is printed and forgotten: such a signal is lost.
    """
    told, tell = os.pipe()
    over = threading.Event()
    complain = sys.unraisablehook

    def hear_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
        if not received:
            complain(unraisable)
        elif issubclass(unraisable.exc_type, KeyboardInterrupt):
            lost.extend(received)
            os.write(tell, bytes(lost[-1:]))
        # Other complaints are of what the interruption cut short, as of a file left open.

    def repeat() -> None:
        main = threading.main_thread().ident or 0
        while (byte := os.read(told, 1)) and not over.wait(REPEAT_SECONDS):
            number = byte[0]
            if number in signals and (number in lost or number not in received):
                signal.pthread_kill(main, number)  # which is told, too
        os.close(told)

    os.set_blocking(tell, False)
    former = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    sys.unraisablehook = hear_unraisable
    try:
        with suppress(RuntimeError):  # the system allows no more threads
            threading.Thread(target=repeat, name="shardrestore-signals", daemon=True).start()
        yield
    finally:
        over.set()
        sys.unraisablehook = complain
        signal.set_wakeup_fd(former)
        os.close(tell)
