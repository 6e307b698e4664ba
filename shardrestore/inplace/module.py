"""A module as a model: its parameters, read where they are in memory.

Buffers are not part of it, and tied weights are in it once, under the first of their names, as
transformers keeps them in files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ..checkpoint.entry import shorten, show_name
from ..checkpoint.model import Model
from ..checkpoint.reader import TensorReader
from ..checkpoint.tensor import Tensor
from ..errors import CheckpointError
from ..formats import RANKED
from .sharing import Span, find_obstacles
from .weights import Weights, find_obstacle, name_format


def open_module(
    module: torch.nn.Module, kept: Sequence[Span] = (), kernel_set: str = "cpu"
) -> Model:
    """Return a module's parameters as a model; no weight is read.

    Parameters
    ----------
    module : torch.nn.Module
        On any device. Where it has a ``config`` as transformers' models do, that is
        the model's.
    kept : sequence of Span
        What must not change if this module is edited: see ``list_kept``.
    kernel_set : str
        See ``load_kernels``.

    Raises
    ------
    CheckpointError
        If a parameter has no shape yet, or a format that files do not know.
    """
    with torch._C.DisableTorchFunctionSubclass():  # to look at subclasses, whatever they redefine
        where = f"{type(module).__name__} in memory"
        parameters = _list_parameters(module, where)
        reader = ModuleReader(where, parameters, kept, kernel_set)
        tensors = _list_tensors(parameters, where)
    return Model(where=where, tensors=tensors, config=_find_config(module), reader=reader)


def _find_config(module: torch.nn.Module) -> Mapping[str, Any]:
    to_dict = getattr(getattr(module, "config", None), "to_dict", None)
    config = to_dict() if callable(to_dict) else {}
    return config if isinstance(config, dict) else {}


class ModuleReader(TensorReader):
    """The elements of a module's parameters.

    Parameters
    ----------
    where : str
        Name for messages.
    parameters : mapping
        By name, each memory once.
    kept, kernel_set
        As for ``open_module``.
    """

    def __init__(
        self,
        where: str,
        parameters: Mapping[str, torch.Tensor],
        kept: Sequence[Span],
        kernel_set: str,
    ) -> None:
        self._where = where
        self._obstacles = find_obstacles(parameters, kept)
        self._weights = {
            name: Weights(name, parameter, kernel_set)
            for name, parameter in parameters.items()
            if name_format(parameter.dtype) in RANKED and name not in self._obstacles
        }

    def check_accessible(self, names: Collection[str]) -> None:
        """Raise CheckpointError if the elements of one of these parameters cannot be had."""
        found = {name: text for name, text in self._obstacles.items() if name in names}
        if found:
            plural = "s" if len(found) > 1 else ""
            lines = [f"{self._where}: {len(found)} parameter{plural} of the region out of reach:"]
            lines += shorten([f"  {show_name(name)}: {text}" for name, text in found.items()])
            lines.append(
                "next step: load the whole model as ordinary tensors, restore the files of its "
                "checkpoint instead (shardrestore.restore), or leave those out with --exclude"
            )
            raise CheckpointError("\n".join(lines))

    def has(self, tensor: Tensor) -> bool:
        """Whether a parameter is floating and accessible."""
        return tensor.name in self._weights

    def devices(self) -> list[str]:
        """Return the devices that hold parameters, except processors, as torch names them."""
        places = {weights.device for weights in self._weights.values()}
        return sorted(str(place) for place in places if place.type != "cpu")

    def weights(self, name: str) -> Weights:
        """Return a parameter that is floating and accessible."""
        return self._weights[name]

    def view(self, tensor: Tensor, start: int, elements: int) -> torch.Tensor | None:
        """Return elements as they lie in memory, on the parameter's device, not copied.

        Returns
        -------
        torch.Tensor, 1-D, of int16 or int32, or None
            None if the parameter is not contiguous.
        """
        return self._weights[tensor.name].codes(start, elements)

    def read(self, tensor: Tensor, start: int, elements: int, out: memoryview) -> None:
        """Copy elements."""
        codes = self._weights[tensor.name].read(start, elements)
        np.copyto(np.frombuffer(out, codes.dtype, elements), codes)

    def identity(self) -> dict[str, Any]:
        """Return nothing: weights in memory have no name."""
        return {}


def _list_parameters(module: torch.nn.Module, where: str) -> dict[str, torch.Tensor]:
    """Return the parameters by name, each memory once.

    Two parameters of exactly the same memory are tied as well as one with two names:
    that is how loading some checkpoints leaves them.
    """
    parameters: dict[str, torch.Tensor] = {}
    seen: set[object] = set()
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise CheckpointError(
                f"{where}: parameter {show_name(name)} has no shape yet: call the module once"
            )
        if find_obstacle(parameter) is None and parameter.numel():
            layout = parameter.shape, parameter.stride(), parameter.dtype
            place = parameter.device, parameter.data_ptr(), *layout
            if place in seen:
                continue
            seen.add(place)
        parameters[name] = parameter
    return parameters


def _list_tensors(parameters: Mapping[str, torch.Tensor], where: str) -> dict[str, Tensor]:
    """Return what the parameters are in canonical order, each with its place among them."""
    tensors = []
    offset = 0
    for name, parameter in parameters.items():
        dtype = name_format(parameter.dtype)
        if dtype is None:
            raise CheckpointError(
                f"{where}: parameter {show_name(name)} is {parameter.dtype}, a format that "
                "checkpoints do not have"
            )
        shape = tuple(parameter.shape)
        tensors.append(Tensor(name=name, dtype=dtype, shape=shape, shard=0, offset=offset))
        offset += tensors[-1].nbytes
    return {tensor.name: tensor for tensor in sorted(tensors, key=lambda tensor: tensor.name)}
