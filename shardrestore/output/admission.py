"""Whether a folder may become an output: refusals before anything is written.

None of these checks changes the folder. They are made twice: before a run starts, so that it
fails early, and again under the lock, when no other run can change what they looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..errors import OutputError
from ..names import JOURNAL_FILE, REPLACED_FOLDER, STAGING_FOLDER
from .lock import locked
from .writer import existing_parent


def check_output(
    output: Path, *, overwrite: bool, resume: bool = False, ours: bool = False
) -> None:
    """Refuse an output folder that cannot be one, before anything is written.

    Parameters
    ----------
    output : Path
    overwrite : bool
        Whether it may hold files.
    resume : bool
        Whether an unfinished run may have left its work in it.
    ours : bool
        Whether it is locked for the caller.

    Raises
    ------
    OutputError
        If it is no folder, another run is writing into it, it holds files and
        `overwrite` is false, or cannot be written.
    """
    try:
        _check_output(output, overwrite=overwrite, resume=resume, ours=ours)
    except (OSError, RuntimeError, ValueError) as error:
        # A name that is too long, a loop of links, a folder that may not be listed.
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"{output}: cannot be the output: {reason}") from error


def _check_output(output: Path, *, overwrite: bool, resume: bool, ours: bool) -> None:
    if os.path.lexists(output) and not output.is_dir():
        raise OutputError(f"{output}: exists and is no folder: choose another --output")
    if output.is_dir():
        _check_emptiness(output, overwrite=overwrite, resume=resume, ours=ours)
    existing = existing_parent(output)
    if not existing.is_dir():
        raise OutputError(f"{output}: {existing} is no folder: choose another --output")
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        raise OutputError(f"{output}: the file system of {existing} is read-only")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: no permission to write into {existing}")


def _check_emptiness(output: Path, *, overwrite: bool, resume: bool, ours: bool) -> None:
    staging = output / STAGING_FOLDER
    if os.path.lexists(staging) and (staging.is_symlink() or not staging.is_dir()):
        raise OutputError(f"{staging}: is in the way, and no folder of an earlier run: remove it")
    unfinished = exists(staging / JOURNAL_FILE)
    if unfinished and not ours:
        with locked(output):  # of a run that lives the message says so, not how to resume it
            pass
    if resume and unfinished:
        return
    replaced = staging / REPLACED_FOLDER
    if replaced.is_dir():
        advice = "continue it with --resume" if unfinished else f"move its files back into {output}"
        raise OutputError(
            f"{replaced}: holds the model that a killed run was about to replace: {advice}, or "
            "delete that folder"
        )
    if unfinished and not overwrite:
        raise OutputError(
            f"{output}: holds the work of an unfinished run: continue it with --resume, or "
            "start anew with --overwrite"
        )
    # Whatever else a killed run left behind is nothing of the user's.
    names = [name for name in sorted(os.listdir(output)) if name != STAGING_FOLDER]
    if names and not overwrite:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        listed = ", ".join(names[:3]) + more
        raise OutputError(
            f"{output}: not empty, it holds {listed}: choose another --output, or pass --overwrite"
        )


def check_places(output: Path, names: Iterable[str]) -> None:
    """Refuse files that could not be renamed into the output, or would leave it.

    Raises
    ------
    OutputError
        If one of them is a folder of another, a folder stands where a file must
        go, a file where a folder must, or a folder of the output is a symbolic
        link out of it.
    """
    files = {str(PurePosixPath(name)) for name in names}
    for name in sorted(files):
        if (output / name).is_dir() and not (output / name).is_symlink():
            raise OutputError(f"{output / name}: a folder, where a file must go: remove it")
        for parent in PurePosixPath(name).parents:
            place = output / parent
            if str(parent) in files:
                raise OutputError(
                    f"{place}: must be a file and a folder, for {name}: rename that one's folder "
                    "in the target"
                )
            if parent.name and place.is_symlink():
                raise OutputError(
                    f"{place}: a symbolic link, through which {name} would be written: remove it, "
                    "or choose another --output"
                )
            if parent.name and place.exists() and not place.is_dir():
                raise OutputError(f"{place}: a file, where a folder must go: remove it")


def exists(path: Path) -> bool:
    """Say whether a path exists; a disk that does not answer is an error, not a "no".

    ``os.path.lexists`` takes every error for absence.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
