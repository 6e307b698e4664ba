"""What an entry of the option table holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from .checks import Check


class Required:
    """The default of what cannot be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyword:
    """An option as Python takes it: a keyword argument."""

    default: object
    check: Check
    """Refuses a value that cannot be meant."""
    text: str
    """What it does; commands say the same unless they have a text of their own."""
    more: str = ""
    """What the documentation in Python adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An option as some commands take it; values that are left out come from the keyword."""

    commands: tuple[str, ...]
    text: str = ""
    more: str = ""
    """What the help of these commands adds."""
    names: tuple[str, ...] = ()
    """As they are typed; ``--max-memory`` for ``max_memory`` if left out."""
    positional: bool = False
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    default: object = Required
    shown_default: str | None = None
    """What help says about a default that is chosen later."""
    negates: bool = False
    """Whether giving it means False, as with ``--no-report``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandArgument:
    """An argument of one command, complete."""

    keyword: str
    """What the command's function calls it."""
    in_python: bool
    """Whether it is a keyword of ``Options`` too."""
    names: tuple[str, ...]
    """Empty if it is positional."""
    kind: type
    """``bool``, ``int``, ``float`` or ``str``; of the items, if there may be several."""
    several: bool
    metavar: str | None
    choices: tuple[str, ...]
    default: object
    """``Required`` if it cannot be left out."""
    shown_default: str | None
    negates: bool
    text: str


def complete(
    name: str, annotation: Any, keyword: Keyword | None, argument: Argument
) -> CommandArgument:
    """Return an argument, completed from its keyword and its type."""
    kind, several = _find_kind(annotation)
    default = argument.default
    if default is Required and keyword is not None:
        default = keyword.default
    names = argument.names or (f"--{name.replace('_', '-')}",)
    texts = (argument.text or (keyword.text if keyword else ""), argument.more)
    return CommandArgument(
        keyword=name,
        in_python=keyword is not None,
        names=() if argument.positional else names,
        kind=kind,
        several=several,
        metavar=argument.metavar,
        choices=argument.choices,
        default=default,
        shown_default=argument.shown_default,
        negates=argument.negates,
        text=" ".join(filter(None, texts)),
    )


def _find_kind(annotation: Any) -> tuple[type, bool]:
    """Return how a value of a Python type is typed, and whether there may be several."""
    members = get_args(annotation) if get_origin(annotation) is not Sequence else (annotation,)
    members = members or (annotation,)
    for member in members:
        if get_origin(member) is Sequence:
            return get_args(member)[0], True
    if str not in members:
        for kind in (bool, int):
            if kind in members:
                return kind, False
    return str, False
