"""A second opinion on what was written: the format's own library must accept it."""

from __future__ import annotations

from pathlib import Path

from ..errors import OutputError


def check_accepted(path: Path) -> None:
    """Open a finished shard with safetensors, which checks its header against its size.

    The file is mapped, not read. Where it cannot be mapped, because address
    space is limited, there is no second opinion and nothing is wrong either.

    Raises
    ------
    OutputError
        If safetensors rejects the file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise OutputError(
            f"{path}: safetensors rejects the shard just written ({error}): this is a fault in "
            "shardrestore, please report it with the command and both checkpoints' names"
        ) from error
    except FileNotFoundError as error:
        raise OutputError(f"{path}: was complete, and has vanished: run again") from error
    except OSError:
        return
