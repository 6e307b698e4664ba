"""The index of a sharded checkpoint: ``model.safetensors.index.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..errors import CheckpointError
from .entry import show
from .weights import is_inside


def parse_index(text: bytes, where: str) -> dict[str, str]:
    """Return the weight map of an index: tensor name to shard file name.

    Parameters
    ----------
    text : bytes
        Contents of the index file.
    where : str
        Its name, for messages.

    Raises
    ------
    CheckpointError
        If it is no JSON object with a ``weight_map`` of strings, names a tensor
        twice, or names a shard outside the folder.
    """
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not a valid index: {error}") from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f'{where}: not a valid index: it has no "weight_map"')
    for name, filename in weight_map.items():
        if not isinstance(filename, str) or not is_inside(filename):
            found = json.dumps(filename) if isinstance(filename, dict) else filename
            raise CheckpointError(
                f"{where}: tensor {show(name)} is said to be in {show(found)}: "
                "a shard must be a .safetensors file inside the checkpoint's folder"
            )
    # "./a" and "a" are one file, which must not be written by two.
    return {name: str(PurePosixPath(filename)) for name, filename in weight_map.items()}


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{show(twice)} is named twice")
    return result


def encode_index(weight_map: Mapping[str, str], tensor_bytes: int) -> bytes:
    """Return an index file in the form that ``save_pretrained`` writes.

    Parameters
    ----------
    weight_map : mapping of str to str
        Tensor name to shard file name.
    tensor_bytes : int
        Size of all tensors in bytes, without headers: the ``total_size``.
    """
    document = {
        "metadata": {"total_size": tensor_bytes},
        "weight_map": dict(sorted(weight_map.items())),
    }
    return (json.dumps(document, indent=2) + "\n").encode()
