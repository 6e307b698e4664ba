"""From what a user names, a path or a repository, to an open checkpoint."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from pathlib import Path

from ..checkpoint.entry import show_name
from ..checkpoint.folder import Checkpoint, read_checkpoint
from ..checkpoint.location import LocalFolder, Location
from ..checkpoint.selection import DEFAULT_POLICY, FilePolicy
from ..errors import CheckpointError, HubError, RequestError
from ..hub.cache import is_cached
from ..hub.failure import is_absence
from ..hub.repository import Repository, looks_like_repository, parse_repository
from .snapshot import open_snapshot

Reference = str | os.PathLike[str]
"""A local folder, or a repository: ``org/name``, ``org/name@revision``, ``hf://…``."""


def open_checkpoint(
    reference: Reference,
    role: str,
    *,
    max_memory_bytes: int = sys.maxsize,
    policy: FilePolicy = DEFAULT_POLICY,
) -> Checkpoint:
    """Open a checkpoint and read its headers; no weight is read, or downloaded.

    Parameters
    ----------
    reference : str or path-like
    role : str
        ``"base"`` or ``"target"``, for messages.
    max_memory_bytes : int
        What its headers, index and configuration may take at most, and the list of its files.
    policy : FilePolicy
        What its user says of its files.

    Raises
    ------
    RequestError, CheckpointError, HubError, MemoryBudgetError
        See ``locate`` and ``read_checkpoint``.
    """
    location = locate(reference, role, follow_links=policy.follow_links)
    return read_checkpoint(location, role, max_memory_bytes=max_memory_bytes, policy=policy)


def locate(reference: Reference, role: str, *, follow_links: bool = False) -> Location:
    """Return the location that a reference names; a folder that exists wins.

    Parameters
    ----------
    reference : str or path-like
    role : str
        ``"base"`` or ``"target"``, for messages.
    follow_links : bool
        Whether links in a folder may lead anywhere.

    Raises
    ------
    CheckpointError
        If it is a path, and there is no such folder.
    RequestError
        If it is no path, empty, or an address on the Hub, but not of a model.
    HubError
        If there is no such repository, or it cannot be had.
    """
    text = _check_reference(reference, role)
    folder = find_folder(reference, role)
    if folder is not None:
        remark = _remark_on_namesake(reference, role)
        return LocalFolder(folder, remark, follow_links=follow_links)
    repository = _find_repository(reference)
    if repository is None:
        raise CheckpointError(f"{role} {text}: no such folder{_suggest_folder(text)}")
    try:
        return open_snapshot(repository)
    except HubError as error:
        if not looks_like_repository(text) or not is_absence(error):
            raise
        said = str(error).removeprefix(f"{repository}: ")
        raise HubError(f"{text}: no such folder{_suggest_folder(text)}, and {said}") from error


def _suggest_folder(text: str) -> str:
    """Say what is near a path that leads nowhere, as the end of a sentence about it."""
    path = Path(text).expanduser()
    try:
        place = next(parent for parent in path.parents if parent.is_dir())
        found = sorted(entry.name for entry in os.scandir(place) if entry.is_dir())
    except (OSError, StopIteration):
        return ""
    near = get_close_matches(path.relative_to(place).parts[0], found[:1000])
    return f" (is it {' or '.join(show_name(str(place / name)) for name in near)}?)" if near else ""


def _check_reference(reference: object, role: str) -> str:
    """Return a reference as text; an empty one would silently be the current folder."""
    if not isinstance(reference, (str, os.PathLike)):
        raise RequestError(f"{role} {reference!r}: expected a folder, or a repository on the Hub")
    text = os.fspath(reference)
    if not text:
        raise RequestError(f"{role} is empty: name a folder, or a repository on the Hub")
    return text


def _remark_on_namesake(reference: Reference, role: str) -> str:
    """Say that a folder was preferred to a repository, where its user has used that one too.

    Most relative paths of two parts have no such namesake.
    """
    if not isinstance(reference, str) or not looks_like_repository(reference):
        return ""
    if not is_cached(reference.partition("@")[0]):
        return ""
    return f"{role} {reference}: the local folder, not the Hub's repository of that name"


def _find_repository(reference: Reference) -> Repository | None:
    """Return the repository that a text names; a path object is never one."""
    return parse_repository(reference) if isinstance(reference, str) else None


def find_folder(reference: Reference, role: str) -> Path | None:
    """Return the local folder that a reference names; None if there is none.

    Raises
    ------
    RequestError
        If it is no path, or empty.
    CheckpointError
        If it is a file, or no usable path.
    """
    text = _check_reference(reference, role)
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{role} {text!r}: not a usable path: {error}") from error
    if exists:
        raise CheckpointError(f"{role} {text}: a file, not a folder: name {path.parent}")
    return None


def name_reference(reference: Reference, role: str) -> str:
    """Return a name for the folder of what is made of a checkpoint."""
    folder = find_folder(reference, role)
    if folder is None:
        repository = _find_repository(reference)
        if repository is not None:
            return repository.name
        folder = Path(reference).expanduser()
    try:
        return folder.resolve().name
    except (OSError, RuntimeError) as error:  # a loop of links
        raise CheckpointError(f"{role} {folder}: not a usable path: {error}") from error
