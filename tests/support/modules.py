"""Modules of tensors as they stand in files, and back again."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import shardrestore.inplace.edit  # noqa: F401  # its modules must be there to be patched
from shardrestore.inplace.weights import Weights
from shardrestore.machine.device import Device
from tests.support.oracle import TORCH_DTYPES, Stored

FORMATS = {dtype: name for name, dtype in TORCH_DTYPES.items()} | {
    torch.int64: "I64",
    torch.uint8: "U8",
}
DTYPES = {name: dtype for dtype, name in FORMATS.items()}

AS_ON_A_GPU = Device(names=("cpu",), unified=True, in_place=True, label="torch on cpu")
"""Work by torch, though the module is in ordinary memory."""


def tensor_of(stored: Stored) -> torch.Tensor:
    dtype = DTYPES[stored.dtype]
    if not stored.data:
        return torch.empty(stored.shape, dtype=dtype)
    return torch.frombuffer(bytearray(stored.data), dtype=dtype).reshape(stored.shape)


def stored_of(tensor: torch.Tensor) -> Stored:
    codes = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return Stored(FORMATS[tensor.dtype], tuple(tensor.shape), codes.numpy().tobytes())


def build(
    tensors: Mapping[str, Stored],
    *,
    tied: Mapping[str, str] | None = None,
    says_tied: bool | None = False,
) -> nn.Module:
    """Make a module whose parameters have these names.

    `tied` maps names to those whose parameter they share; `says_tied` is what its
    configuration says of the head.
    """
    module = nn.Module()
    said = {} if says_tied is None else {"tie_word_embeddings": says_tied}
    module.config = SimpleNamespace(to_dict=lambda: said)
    parameters: dict[str, nn.Parameter] = {}
    tied = tied or {}
    for name in sorted(tensors, key=lambda name: name in tied):
        tensor = tensor_of(tensors[name])
        parameters[name] = (
            parameters[tied[name]]
            if name in tied
            else nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        )
        place, parts = module, name.split(".")
        for part in parts[:-1]:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.register_parameter(parts[-1], parameters[name])
    return module


def state(module: nn.Module) -> dict[str, Stored]:
    """The bytes of all parameters, under all their names, and of all buffers."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {name: stored_of(tensor) for name, tensor in (*parameters, *module.named_buffers())}


def in_device_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let parameters be reached through torch alone, as if NumPy could not see their memory."""
    locate = Weights.locate

    def look(self: Weights) -> None:
        locate(self)
        self._array = None

    monkeypatch.setattr(Weights, "locate", look)


def nowhere_at_all(*_: object) -> None:
    """Fail as a GPU does, for another reason than a lack of memory."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with …")
