"""Faults at the seams to the operating system: the n-th call of a function fails."""

from __future__ import annotations

import errno
import io
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from shardrestore.output import staging
from shardrestore.runs import journal
from tests.support.checkpoints import read_tree
from tests.support.examples import TIMES

CALLS_TRIED = 24 * TIMES
"""Calls of one function that fail in turn, drawn from all that a run makes."""

SHORT = -1
"""Instead of an error number: one byte fewer is read or written than asked for."""

WRITE = "write"
"""The file objects of small files: their ``write``, and what it has buffered."""

Call = Callable[..., Any]


@dataclass(slots=True)
class Fault:
    """What happens at one call."""

    function: str
    """Of module ``os``, or `WRITE`."""
    number: int
    """Which call, from 1."""
    error: int
    """An error number, or `SHORT`."""
    lasting: bool = False
    """Whether all calls after it fail as well, as on a disk that stays full."""
    hit: bool = False
    """Whether there was such a call."""

    def __str__(self) -> str:
        what = "short" if self.error == SHORT else errno.errorcode[self.error]
        return f"{what} at call {self.number} of {self.function}{' and on' * self.lasting}"

    def strikes(self, number: int) -> bool:
        struck = number >= self.number if self.lasting else number == self.number
        self.hit |= struck
        return struck

    def raise_error(self, place: object) -> None:
        named = isinstance(place, (str, os.PathLike))
        raise OSError(self.error, os.strerror(self.error), *([os.fspath(place)] if named else []))


@contextmanager
def counting(functions: set[str], fault: Fault | None = None) -> Iterator[Counter[str]]:
    """Count the calls of some functions, and let a fault strike one of them."""
    calls: Counter[str] = Counter()
    lock = threading.Lock()

    def wrap(name: str, real: Call) -> Call:
        def call(*args: Any, **named: Any) -> Any:
            with lock:
                calls[name] += 1
                number = calls[name]
            if fault is None or fault.function != name or not fault.strikes(number):
                return real(*args, **named)
            if fault.error == SHORT:
                return real(*shorten(name, args), **named)
            return fault.raise_error(args[0] if args else None)

        return call

    def opened(*args: Any, **named: Any) -> Any:
        return wrap_file(open(*args, **named))

    def wrap_file(file: Any) -> Any:
        if isinstance(file, io.BufferedWriter):
            proxy = mock.MagicMock(wraps=file)
            proxy.__enter__.return_value = proxy
            proxy.__exit__.side_effect = lambda *_: file.close()
            proxy.write.side_effect = wrap(WRITE, file.write)
            return proxy
        return file

    with ExitStack() as patches:
        for name in functions - {WRITE}:
            patches.enter_context(mock.patch.object(os, name, wrap(name, getattr(os, name))))
        if WRITE in functions:
            for module in (staging, journal):
                patches.enter_context(mock.patch.object(module, "open", opened, create=True))
        yield calls


def shorten(function: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a call's arguments for one byte fewer."""
    descriptor, what, *rest = args
    match function:
        case "preadv":
            return descriptor, [what[0][: max(len(what[0]) - 1, 1)]], *rest
        case "pread":
            return descriptor, max(what - 1, 1), *rest
        case "pwrite":
            return descriptor, what[: max(len(what) - 1, 1)], *rest
    raise LookupError(function)


def choose_calls(count: int, seed: int) -> list[int]:
    """Return which of `count` calls fail in turn: all, or the first, the last and a sample."""
    if count <= CALLS_TRIED:
        return list(range(1, count + 1))
    middle = random.Random(seed).sample(range(2, count), CALLS_TRIED - 2)
    return [1, *sorted(middle), count]


def visible(folder: Path) -> dict[str, bytes]:
    """Return the files of an output that have a final name."""
    files = read_tree(folder).items()
    return {name: data for name, data in files if staging.STAGING_FOLDER not in Path(name).parts}


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
