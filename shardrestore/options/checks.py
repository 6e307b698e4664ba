"""What the value of an option must be; each check returns the value, or refuses it by name."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import SupportsFloat

from ..errors import RequestError

Check = Callable[[str, object], object]
"""Takes an option's keyword and value; returns the value in the form that the library uses."""


def check_flag(option: str, value: object) -> bool:
    """Return a flag; a text such as ``"no"`` would count as true.

    Raises
    ------
    RequestError
        If it is neither True nor False.
    """
    if not isinstance(value, bool):
        raise RequestError(f"{option} {value!r}: expected True or False")
    return value


def check_integer(option: str, value: object) -> int:
    """Return a whole number of any type, NumPy's for example, as Python's.

    Raises
    ------
    RequestError
        If it is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise RequestError(f"{option} {value!r}: expected a whole number")
    return int(value)


def check_texts(option: str, texts: object) -> tuple[str, ...]:
    """Return texts from any iterable as a tuple.

    Raises
    ------
    RequestError
        If one of them is no text, or if it is a single text, which is a sequence of letters.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise RequestError(f"{option} {texts!r}: expected a list of texts")
    checked = tuple(texts)
    if not all(isinstance(text, str) for text in checked):
        raise RequestError(f"{option} {checked!r}: expected a list of texts")
    return checked


def check_globs(option: str, globs: object) -> tuple[str, ...]:
    """Return patterns of file names as a tuple.

    Raises
    ------
    RequestError
        As ``check_texts``; also if one is empty.
    """
    checked = check_texts(option, globs)
    for glob in checked:
        if not glob:
            raise RequestError(f"{option} is empty: name files by a pattern such as 'onnx/*'")
    return checked


def one_of(choices: Sequence[str]) -> Check:
    """Return the check of a single choice."""

    def check(option: str, choice: object) -> str:
        if not isinstance(choice, str) or choice not in choices:
            raise RequestError(f"{option} {choice!r}: choose one of {', '.join(choices)}")
        return choice

    return check


def some_of(choices: Sequence[str]) -> Check:
    """Return the check of one choice or several distinct ones; it returns a tuple."""
    check_choice = one_of(choices)

    def check(option: str, chosen: object) -> tuple[str, ...]:
        if not isinstance(chosen, Iterable):
            raise RequestError(f"{option} {chosen!r}: expected a name, or a list of names")
        checked = (chosen,) if isinstance(chosen, str) else check_texts(option, chosen)
        if not checked:
            raise RequestError(f"no {option}: name at least one")
        repeated = [choice for choice in checked if checked.count(choice) > 1]
        if repeated:
            raise RequestError(f"{option} {repeated[0]} is asked for twice")
        for choice in checked:
            check_choice(option, choice)
        return checked

    return check


def check_path(option: str, path: object, kind: str) -> Path:
    """Return a path, with its ``~`` expanded; an empty one would be the current folder.

    Raises
    ------
    RequestError
        If it is no path, is empty, or begins with the ``~`` of an unknown user.
    """
    if not isinstance(path, (str, os.PathLike)):  # bytes, say: Path would not take them
        raise RequestError(f"{option} {path!r}: expected a path")
    if not os.fspath(path):
        raise RequestError(f"{option} is empty: name a {kind}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~nobody
        raise RequestError(f"{option} {os.fspath(path)}: {error}") from error


def check_file(option: str, path: object) -> Path | None:
    """Return the path of a file; None if there is none.

    Raises
    ------
    RequestError
        As ``check_path``.
    """
    return None if path is None else check_path(option, path, "file")


def check_output(output: object) -> Path:
    """Return the output as a path.

    Raises
    ------
    RequestError
        As ``check_path``.
    """
    return check_path("--output", output, "folder")


def check_percents(percents: Iterable[object]) -> tuple[float, ...]:
    """Return distinct percentages, each above 0 and at most 100.

    Raises
    ------
    RequestError
        If one of them is no such number, one is repeated, or there are none.
    """
    checked = tuple(map(_check_percent, percents))
    if not checked:
        raise RequestError("no percent: say how much to restore, for example 10")
    repeated = [percent for percent in checked if checked.count(percent) > 1]
    if repeated:
        raise RequestError(f"percent {repeated[0]:.15g} is asked for twice")
    return checked


def _check_percent(percent: object) -> float:
    if isinstance(percent, bool) or not isinstance(percent, SupportsFloat):
        raise RequestError(f"percent {percent!r}: expected a number")
    try:
        value = float(percent)
    except (OverflowError, TypeError) as error:
        raise RequestError(f"percent {percent!r:.80}: expected a number") from error
    if not (math.isfinite(value) and 0 < value <= 100):
        raise RequestError(f"percent {value:g}: must be above 0 and at most 100")
    return value


def check_workers(option: str, workers: object) -> int:
    """Return the number of worker threads; None: one for each processor.

    Raises
    ------
    RequestError
        If it is no number above zero.
    """
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    checked = check_integer(option, workers)
    if checked < 1:
        raise RequestError(f"{option} {checked}: at least 1")
    return checked


STREAMS: Mapping[str | None, frozenset[str]] = {
    None: frozenset(),
    "base": frozenset({"base"}),
    "target": frozenset({"target"}),
    "both": frozenset({"base", "target"}),
}
"""Which inputs each choice of ``stream`` means."""


def check_stream(option: str, stream: object) -> frozenset[str]:
    """Return the roles of the inputs that are not to be downloaded.

    Raises
    ------
    RequestError
        If it is no such choice.
    """
    if stream is None or (isinstance(stream, str) and stream in STREAMS):
        return STREAMS[stream]
    raise RequestError(f"{option} {stream!r}: choose base, target or both")


def check_device(option: str, device: object) -> tuple[str, ...]:
    """Return the names of the devices to use: several GPUs, or one device of any kind.

    Raises
    ------
    RequestError
        If it names no such devices, or one of them twice.

    Examples
    --------
    >>> check_device("device", "cuda:0,cuda:1"), check_device("device", "cuda")
    (('cuda:0', 'cuda:1'), ('cuda:0',))
    """
    if isinstance(device, str):
        if device in ("auto", "cpu", "mps", "torch:cpu"):
            return (device,)
        if re.fullmatch(r"cuda(:\d{1,3})?(,cuda(:\d{1,3})?)*", device, re.ASCII):
            numbers = [int(name.partition(":")[2] or 0) for name in device.split(",")]
            repeated = [number for number in numbers if numbers.count(number) > 1]
            if repeated:
                raise RequestError(f"{option} {device}: cuda:{repeated[0]} is named twice")
            return tuple(f"cuda:{number}" for number in numbers)
    raise RequestError(
        f"{option} {device!r}: choose auto, cpu, mps, cuda, cuda:1, or several as in cuda:0,cuda:1"
    )


_UNITS = {"": 1, "b": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}


def parse_size(size: int | str) -> int:
    """Return a number of bytes, from one or from text such as ``512MiB``.

    ``MiB`` and ``M`` are 1024², ``MB`` is 1000²; case does not matter.

    Raises
    ------
    RequestError
        If the text is no size above zero.

    Examples
    --------
    >>> parse_size("1.5GiB")
    1610612736
    """
    if not isinstance(size, str):
        value = check_integer("size", size)
    else:
        found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-z]*)\s*", size.lower())
        if not found or found[2] not in _UNITS:
            raise RequestError(f"size {size[:40]!r}: expected a number and a unit, as in 512MiB")
        value = int(float(found[1]) * _UNITS[found[2]])
    if value <= 0:
        raise RequestError(f"size {size!r}: must be above zero")
    return value


def check_size(option: str, size: int | str) -> int:
    """Return a size in bytes; see ``parse_size``."""
    return parse_size(size)


def check_budget(option: str, size: int | str | None) -> int | None:
    """Return a size in bytes, or None."""
    return None if size is None else parse_size(size)
