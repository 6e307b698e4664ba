"""``config.json``: read for what it says of the weights, rewritten when they are cast."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..formats import FORMATS
from ..names import CONFIG_FILE
from .document import read_document

_MAX_DEPTH = 8  # text_config and vision_config lie at 1; nothing that names a format at 8


def parse_config(text: bytes, where: str) -> Mapping[str, Any]:
    """Parse a configuration; empty if it is JSON, but no object.

    Raises
    ------
    CheckpointError
        If it is not JSON. ``Infinity`` is accepted, as transformers writes it.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not valid JSON: {error}") from error
    return config if isinstance(config, dict) else {}


def read_config(folder: Path) -> Mapping[str, Any]:
    """Return the configuration of a model on disk; empty if there is none.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is not JSON.
    """
    path = folder / CONFIG_FILE
    return parse_config(read_document(path), str(path)) if os.path.lexists(path) else {}


def recast_config(config: Mapping[str, Any], cast: str | None) -> bytes | None:
    """Return a configuration that names the format its weights now have.

    Without it transformers would load a cast model in the format it had before.

    Parameters
    ----------
    config : mapping
    cast : {"BF16", "F16", "F32"} or None
        The new format.

    Returns
    -------
    bytes or None
        The file's contents; None if it can stay as it is.
    """
    if cast is None or not config:
        return None
    try:
        return (json.dumps(_recast(config, FORMATS[cast].torch, 0), indent=2) + "\n").encode()
    except RecursionError as error:
        raise CheckpointError(f"{CONFIG_FILE}: nested too deeply to be rewritten") from error


def _recast(value: Any, name: str | None, depth: int) -> Any:
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return value
    return {
        key: name
        if key in ("dtype", "torch_dtype") and isinstance(item, str)
        else _recast(item, name, depth + 1)
        for key, item in value.items()
    }


def says_tied(config: Mapping[str, Any]) -> bool | None:
    """Return whether a configuration says that the output head is the input embedding.

    None where it does not say: the class that loads the model decides, and most of them tie.
    """
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else {}
    said = config.get("tie_word_embeddings", inner.get("tie_word_embeddings"))
    return said if isinstance(said, bool) else None


_LAYER_COUNTS = (
    *("num_hidden_layers", "num_layers", "n_layer", "n_layers"),
    *("encoder_layers", "decoder_layers", "num_decoder_layers"),
)
"""What configurations call the number of layers of a language model, or of a part of it."""


def count_layers(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of layers that a configuration gives the language model, by their keys."""
    parts = (config, *(config.get(key) for key in ("text_config", "llm_config")))
    return {
        key: part[key]
        for part in parts[::-1]
        if isinstance(part, dict)
        for key in _LAYER_COUNTS
        if type(part.get(key)) is int
    }
