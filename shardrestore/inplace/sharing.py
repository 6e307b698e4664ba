"""Which memory a module shares: what is edited must be of one parameter alone.

Parameters that are tied, of exactly one memory, are one parameter by the time this looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.parameter import is_lazy

from ..checkpoint.entry import show_name
from .weights import find_obstacle, memory_span


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """Memory from the first element of a tensor to its last."""

    device: str
    begin: int
    end: int
    """The address after it."""
    what: str
    """Whose it is, in words."""
    parameter: str = ""
    """The parameter to be worked on whose it is; empty if it is none's."""
    twin: bool = False
    """Whether it is a parameter of the base."""

    def overlaps(self, other: Span) -> bool:
        """Return whether both have an address in common."""
        return self.device == other.device and self.begin < other.end and other.begin < self.end


def list_kept(module: torch.nn.Module, base: torch.nn.Module | None) -> list[Span]:
    """Return memory that must not change when the parameters of a module do.

    Its buffers, and whatever is the base's.
    """
    with torch._C.DisableTorchFunctionSubclass():  # see ``open_module``
        kept = [*_spans_of(module.named_buffers(), "the buffer {}")]
        if base is not None:
            kept += _spans_of(base.named_parameters(), "{} of the base", twin=True)
            kept += _spans_of(base.named_buffers(), "the buffer {} of the base")
    return kept


def find_obstacles(parameters: Mapping[str, torch.Tensor], kept: Sequence[Span]) -> dict[str, str]:
    """Return the parameters that cannot be worked on by name, and why.

    Parameters
    ----------
    parameters : mapping
        A module's, each memory once.
    kept : sequence of Span
        What they must not share memory with.
    """
    found: dict[str, str] = {}
    spans = list(kept)
    for name, parameter in parameters.items():
        obstacle = find_obstacle(parameter)
        if obstacle is None:
            spans += _spans_of([(name, parameter)])
        else:
            found[name] = obstacle
    # Whatever overlaps with an earlier span does so with the one that reaches furthest.
    furthest: Span | None = None
    for span in sorted(spans):
        if furthest is not None and span.overlaps(furthest):
            for one, other in ((span, furthest), (furthest, span)):
                if one.parameter:
                    found[one.parameter] = _explain(one, other)
        if furthest is None or (span.device, span.end) > (furthest.device, furthest.end):
            furthest = span
    return found


def _spans_of(
    tensors: Iterable[tuple[str, torch.Tensor]], what: str = "", *, twin: bool = False
) -> Iterator[Span]:
    """Yield where tensors are: parameters to be worked on, unless `what` says otherwise."""
    for name, tensor in tensors:
        if not has_memory(tensor):
            continue
        begin, end = memory_span(tensor)
        yield Span(
            device=str(tensor.device),
            begin=begin,
            end=end,
            what=(what or "{}").format(show_name(name)),
            parameter="" if what else name,
            twin=twin,
        )


def has_memory(tensor: torch.Tensor) -> bool:
    """Whether a tensor has memory of its own that can be looked at."""
    return not (
        is_lazy(tensor)
        or tensor.device.type == "meta"
        or tensor.layout is not torch.strided
        or type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
        or not tensor.numel()
    )


def _explain(span: Span, other: Span) -> str:
    if other.twin and (span.begin, span.end) == (other.begin, other.end):
        return f"is {other.what}, in the same memory: it has nothing to be restored"
    if other.parameter:
        return f"shares memory with {other.what}, though not all: clone one"
    return f"shares memory with {other.what}, which would change with it: clone one"
