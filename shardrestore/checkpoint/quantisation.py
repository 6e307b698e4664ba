"""Whether a model is stored quantised: as codes that are not its weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .model import Model

_CODES = re.compile(r"F[468]\w*|[UI](?:8|16|32)")
"""Formats that quantisers store codes in; tables of integers are I64."""

_METHODS = {
    "bitsandbytes, 4 bits": re.compile(r".*\.(?:\w*absmax|quant_state\.bitsandbytes__\w+)"),
    "bitsandbytes, 8 bits": re.compile(r".*\.(?:SCB|weight_format)"),
    "GPTQ or AWQ": re.compile(r".*\.(?:qweight|qzeros|g_idx)"),
    "MXFP4": re.compile(r".*_proj_blocks"),
    "compressed-tensors": re.compile(r".*\.weight_packed"),
    "FP8 or FP4": re.compile(r".*\.?weight_scale(?:_inv)?"),
}
"""Names that a method stores beside its codes, or its codes under; checked in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How a model is quantised."""

    method: str
    """``"gptq, 4 bits"``: as its configuration says, or as its names show."""
    tensors: int
    """Tensors that hold codes."""
    formats: tuple[str, ...]
    """What they are stored in, the commonest first."""


def find_quantisation(model: Model) -> Quantisation | None:
    """Return how a model is quantised; None if nothing says that it is.

    A configuration alone says nothing: it stays behind when a model is dequantised. Formats
    alone do not either: some tables are integers.
    """
    formats = Counter(
        tensor.dtype for tensor in model.tensors.values() if _CODES.fullmatch(tensor.dtype)
    )
    method = _read_config(model.config) or _read_names(model.tensors)
    if not formats or method is None:
        return None
    return Quantisation(
        method=method,
        tensors=formats.total(),
        formats=tuple(name for name, _ in formats.most_common()),
    )


def _read_config(config: Mapping[str, Any]) -> str | None:
    places = (config, *(value for value in config.values() if isinstance(value, dict)))
    for place in places:
        for key in ("quantization_config", "compression_config", "quantization"):
            found = place.get(key)
            if isinstance(found, dict):
                return _describe(found)
    return None


def _describe(settings: Mapping[str, Any]) -> str:
    method = settings.get("quant_method")
    name = method if isinstance(method, str) and method.isprintable() else "method not named"
    bits: object = next((settings.get(key) for key in ("bits", "w_bit", "nbits")), None)
    for number in (4, 8):
        if settings.get(f"load_in_{number}bit") is True:
            bits = number
    return f"{name[:40]}, {bits} bits" if type(bits) is int else name[:40]


def _read_names(names: Mapping[str, object]) -> str | None:
    for method, pattern in _METHODS.items():
        if any(pattern.fullmatch(name) for name in names):
            return method
    return None
