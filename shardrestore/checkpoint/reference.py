"""How a checkpoint is named: a path; later also a Hub repository."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CheckpointError, RequestError


def resolve_folder(reference: str | os.PathLike[str], role: str) -> Path:
    """Return the folder that a reference names.

    Parameters
    ----------
    reference : str or path-like
        A local path.
    role : str
        ``"base"`` or ``"target"``, for messages.

    Raises
    ------
    RequestError
        If it is a Hub repository.
    CheckpointError
        If there is no such folder.
    """
    text = os.fspath(reference)
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{role} {text!r}: not a usable path: {error}") from error
    if exists:
        raise CheckpointError(
            f"{role} {text}: a file, not a folder: name the folder that holds model.safetensors"
        )
    repository = _hub_repository(text)
    if repository:
        raise RequestError(
            f"{role} {text}: no such folder, and Hub repositories cannot be read directly yet: "
            f"download it with `hf download {repository} --local-dir FOLDER` and name that folder"
        )
    raise CheckpointError(f"{role} {text}: no such folder")


def _hub_repository(text: str) -> str | None:
    """Return the ``namespace/name`` that a text may mean on the Hub, or None for a path."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    name = text.removeprefix("hf://").partition("@")[0]
    if name.count("/") != 1:
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name
