"""A module as a checkpoint: the parameters of one virtual file, whose bytes are in memory.

Its header is what ``save_pretrained`` would write of the parameters, so whatever reads
checkpoints reads modules. Buffers are not part of it, and tied weights are in it once,
under the first of their names, as transformers keeps them in files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ..checkpoint.entry import shorten, show_name
from ..checkpoint.folder import Checkpoint, Shard, collect_tensors
from ..checkpoint.header import Header, encode_header, header_length, parse_header
from ..checkpoint.sidefile import SideFile
from ..checkpoint.source import ByteSource, Progress, ignore_progress
from ..errors import CheckpointError
from ..formats import RANKED
from ..names import SINGLE_FILE
from .sharing import Span, find_obstacles
from .weights import Weights, find_obstacle, name_format


def open_module(module: torch.nn.Module, kept: Sequence[Span] = ()) -> Checkpoint:
    """Return a module's parameters as a checkpoint; no weight is read.

    Parameters
    ----------
    module : torch.nn.Module
        On any device. Where it has a ``config`` as transformers' models do, that is
        the checkpoint's.
    kept : sequence of Span
        What must not change if this module is edited: see ``list_kept``.

    Raises
    ------
    CheckpointError
        If a parameter has no shape yet, or a format that files do not know.
    """
    with torch._C.DisableTorchFunctionSubclass():  # to look at subclasses, whatever they redefine
        source = ModuleSource(module, kept)
    shard = Shard(filename=SINGLE_FILE, header=source.header, source=source)
    return Checkpoint(
        location=_Memory(source.where),
        shards=(shard,),
        tensors=collect_tensors([shard]),
        indexed=False,
        config=_find_config(module),
        side_files=(),
        document_bytes=0,
    )


def _find_config(module: torch.nn.Module) -> Mapping[str, Any]:
    to_dict = getattr(getattr(module, "config", None), "to_dict", None)
    config = to_dict() if callable(to_dict) else {}
    return config if isinstance(config, dict) else {}


class ModuleSource:
    """The bytes of a module's parameters, a ``ByteSource``.

    Parameters
    ----------
    module : torch.nn.Module
    kept : sequence of Span
        As for ``open_module``.
    """

    def __init__(self, module: torch.nn.Module, kept: Sequence[Span] = ()) -> None:
        self.where = f"{type(module).__name__} in memory"
        parameters = _list_parameters(module, self.where)
        self._obstacles = find_obstacles(parameters, kept)
        self._weights = {
            name: Weights(name, parameter)
            for name, parameter in parameters.items()
            if name_format(parameter.dtype) in RANKED and name not in self._obstacles
        }
        self.header = _make_header(parameters, self.where)
        self.nbytes = self.header.file_bytes
        self._names = list(self.header.tensors)
        self._begins = [
            self.header.data_start + entry.begin for entry in self.header.tensors.values()
        ]

    def check_accessible(self, names: Collection[str]) -> None:
        """Raise CheckpointError if the elements of one of these parameters cannot be had."""
        found = {name: text for name, text in self._obstacles.items() if name in names}
        if found:
            plural = "s" if len(found) > 1 else ""
            lines = [f"{self.where}: {len(found)} parameter{plural} of the region out of reach:"]
            lines += shorten([f"  {show_name(name)}: {text}" for name, text in found.items()])
            lines.append(
                "next step: load the whole model as ordinary tensors, restore the files of its "
                "checkpoint instead (shardrestore.restore), or leave those out with --exclude"
            )
            raise CheckpointError("\n".join(lines))

    def devices(self) -> list[str]:
        """Return the devices on which parameters are, but for processors, as torch names them."""
        places = {weights.device for weights in self._weights.values()}
        return sorted(str(place) for place in places if place.type != "cpu")

    def weights(self, name: str) -> Weights:
        """Return a parameter that is floating and accessible."""
        return self._weights[name]

    def codes(self, offset: int, nbytes: int) -> torch.Tensor | None:
        """Return bytes of one parameter as they lie in memory, not copied.

        Parameters
        ----------
        offset, nbytes : int
            As for ``read_into``; whole elements of one parameter.

        Returns
        -------
        torch.Tensor, 1-D, of int16 or int32, or None
            On the parameter's device; None if it is not contiguous.
        """
        weights, start, elements = self._find(offset, nbytes)
        return weights.codes(start, elements)

    def _find(self, offset: int, nbytes: int) -> tuple[Weights, int, int]:
        # Of parameters that begin at one offset all but the last are empty.
        number = bisect_right(self._begins, offset) - 1
        name = self._names[number]
        entry = self.header.tensors[name]
        size = entry.nbytes // entry.elements
        return self._weights[name], (offset - self._begins[number]) // size, nbytes // size

    @property
    def on_disk(self) -> bool:
        """True: nothing has to be brought here."""
        return True

    def fetch(self, advance: Progress = ignore_progress) -> Path:
        """Raise CheckpointError: there is no file."""
        raise CheckpointError(f"{self.where}: has no file")

    def expect(self, offset: int, nbytes: int, block_bytes: int, check: Callable[[], None]) -> None:
        """Do nothing: it is in memory already."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with whole elements of one parameter."""
        codes = Weights.read(*self._find(offset, len(buffer)))
        np.copyto(np.frombuffer(buffer, codes.dtype), codes)

    def identity(self) -> dict[str, Any]:
        """Return its size in bytes."""
        return {"bytes": self.nbytes}

    def check_unchanged(self) -> None:
        """Do nothing: that weights are trained meanwhile shows in the counts."""

    def close(self) -> None:
        """Do nothing."""


class _Memory:
    """No place with files."""

    folder = Path()
    remark = ""

    def __init__(self, where: str) -> None:
        self.where = where

    def identity(self) -> dict[str, Any]:
        return {"path": self.where}

    def names(self) -> list[str]:
        return []

    def has(self, name: str) -> bool:
        return False

    def read(self, name: str) -> bytes:
        raise CheckpointError(f"{self.where}: has no file {name}")

    def open(self, names: Collection[str]) -> list[ByteSource]:
        raise CheckpointError(f"{self.where}: has no files")

    def side_files(self) -> tuple[SideFile, ...]:
        return ()

    def explain_missing(self, name: str) -> str:
        return "there are no files"

    def close(self) -> None:
        pass


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


def _make_header(parameters: Mapping[str, torch.Tensor], where: str) -> Header:
    entries = []
    for name, parameter in parameters.items():
        dtype = name_format(parameter.dtype)
        if dtype is None:
            raise CheckpointError(
                f"{where}: parameter {show_name(name)} is {parameter.dtype}, a format that "
                "checkpoints do not have"
            )
        entries.append((name, dtype, tuple(parameter.shape)))
    prefix = encode_header(entries, None)
    # Of a wrapped tensor that is as many bytes as it would have in a file.
    file_bytes = len(prefix) + sum(p.numel() * p.element_size() for p in parameters.values())
    length = header_length(prefix[:8], file_bytes, where)
    return parse_header(prefix[8 : 8 + length], file_bytes, where)
