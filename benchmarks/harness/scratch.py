"""Folders that are gone when they are not needed any more, whatever happened."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM meanwhile, in programs that are started too: for tidying up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    handlers = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a new folder, and remove it with all that is in it."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    try:
        yield folder
    finally:
        with undisturbed():
            shutil.rmtree(folder)
