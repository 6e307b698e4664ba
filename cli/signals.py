"""SIGINT and SIGTERM, heard wherever in the process they strike."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType

REPEAT_SECONDS = 0.1
"""How long Python may take to hear a signal before it is sent again."""


def raise_interruptions() -> list[int]:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt; return a list that fills with them.

    Those that the caller ignores stay ignored. The list is needed since an interruption may
    arrive as something else: numba's C modules turn one during their import into an
    ImportError.

    Python hears a signal in the main thread, between two of its own instructions. One that
    comes just as that thread begins to wait for others wakes nobody: 1 in 100 did, in runs
    that waited for a download. One that is heard in a finalizer, or in a callback from C, is
    printed and forgotten. A thread sends both again, until they are heard where they count.
    """
    received: list[int] = []
    lost: list[int] = []
    complain = sys.unraisablehook

    def interrupt(number: int, frame: FrameType | None) -> None:
        lost.clear()
        received.append(number)
        raise KeyboardInterrupt

    def hear_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
        if not received:
            complain(unraisable)
        elif issubclass(unraisable.exc_type, KeyboardInterrupt):
            lost.append(received[-1])
            os.write(tell, bytes(lost))
        # Other complaints are of what the interruption cut short, as of a file left open.

    def repeat() -> None:
        main = threading.main_thread().ident
        assert main is not None
        while True:
            (number,) = os.read(told, 1)
            time.sleep(REPEAT_SECONDS)
            if number in lost or number not in received:
                signal.pthread_kill(main, number)  # which is told, too

    taken = [
        signal.signal(number, interrupt)
        for number, usual in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        )
        if signal.getsignal(number) is usual
    ]
    if taken:
        told, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        sys.unraisablehook = hear_unraisable
        with contextlib.suppress(RuntimeError):  # the system allows no more threads
            threading.Thread(target=repeat, name="shardrestore-signals", daemon=True).start()
    return received
