"""Functions that take a group of options, with every option in their signature and docstring."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args, get_origin

from .table import read_entries, read_keywords

Function = TypeVar("Function", bound=Callable[..., object])

_SECTION_AFTER_PARAMETERS = re.compile(r"\n\n *(?:Returns|Yields|Raises)\n")


def documents_options(group: type, **defaults: object) -> Callable[[Function], Function]:
    """Return a decorator that spells out ``**options``, for ``help()``.

    Parameters
    ----------
    group : type
        The options, a class of ``shardrestore.options.table``.
    **defaults
        Those that differ for this function.
    """

    def document(function: Function) -> Function:
        function.__doc__ = _list_options(function.__doc__ or "", group, defaults)
        vars(function)["__signature__"] = _spell_out(inspect.signature(function), group, defaults)
        return function

    return document


def _list_options(text: str, group: type, defaults: dict[str, object]) -> str:
    """Return a docstring whose parameters end with those of the group."""
    entries = []
    for name, keyword in read_keywords(group).items():
        kind = _describe_type(read_entries(group)[name][0])
        default = defaults.get(name, keyword.default)
        explanation = " ".join(filter(None, (keyword.text, keyword.more)))
        indent = " " * 8
        wrapped = textwrap.fill(explanation, 95, initial_indent=indent, subsequent_indent=indent)
        entries.append(f"    {name} : {kind}, default {default!r}\n{wrapped}")
    found = _SECTION_AFTER_PARAMETERS.search(text)
    if found is None:
        return text
    return f"{text[: found.start()]}\n" + "\n".join(entries) + text[found.start() :]


def _spell_out(
    signature: inspect.Signature, group: type, defaults: dict[str, object]
) -> inspect.Signature:
    """Return a signature with the keywords of the group in place of ``**options``."""
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(name, keyword.default),
            annotation=read_entries(group)[name][0],
        )
        for name, keyword in read_keywords(group).items()
    ]
    return signature.replace(parameters=parameters)


def _describe_type(annotation: Any) -> str:
    """Return a type as documentation names it: ``str or sequence of str``."""
    if get_origin(annotation) is Sequence:
        return f"sequence of {_describe_type(get_args(annotation)[0])}"
    if annotation is type(None):
        return "None"
    if members := get_args(annotation):
        if isinstance(get_origin(annotation), type) and len(members) == 1:
            return "path-like"
        return " or ".join(map(_describe_type, members))
    return str(annotation.__name__)
