"""Commands from the option table: its entries become typer's, and typed text becomes values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from shardrestore import CommandArgument, Required, command_arguments

from .outcome import reports_errors


def takes_options(
    *, describe_kept: Callable[[Mapping[str, Any]], str] = lambda options: ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a function the arguments of the command of its name.

    The function gets every value under its keyword, in the form that the Python API takes.

    Parameters
    ----------
    describe_kept : callable
        As for ``reports_errors``.
    """

    def make_command(function: Callable[..., None]) -> Callable[..., None]:
        arguments = command_arguments(function.__name__)

        @wraps(function)
        def call(**typed: Any) -> None:
            function(**{one.keyword: read_value(one, typed[one.keyword]) for one in arguments})

        command = reports_errors(call, describe_kept=describe_kept)
        parameters = [_make_parameter(argument) for argument in arguments]
        annotations = {one.name: one.annotation for one in parameters}
        vars(command).update(__signature__=inspect.Signature(parameters))
        command.__annotations__ = annotations
        return command

    return make_command


def _make_parameter(argument: CommandArgument) -> inspect.Parameter:
    """Return an argument as typer reads it from a function's signature."""
    kind: Any = argument.kind
    if argument.several:
        kind = list[str]
    elif argument.choices:
        kind = Literal[argument.choices]
    if argument.default is None and not argument.several:
        kind = kind | None
    shown: Any = typer.Option(
        *argument.names,
        metavar=argument.metavar,
        help=argument.text,
        show_default=argument.shown_default or True,
    )
    if not argument.names:
        shown = typer.Argument(metavar=argument.metavar, help=argument.text)
    default = argument.default
    if default is Required:
        default = inspect.Parameter.empty
    elif argument.several:
        default = write_several(default)
    elif argument.negates:
        default = not default
    return inspect.Parameter(
        argument.keyword,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, shown],
    )


def write_several(values: Any) -> list[str]:
    """Return values, or a single one, as they would be typed."""
    if isinstance(values, str):
        return [values]
    return [value if isinstance(value, str) else f"{value:g}" for value in values or ()]


def read_value(argument: CommandArgument, typed: Any) -> Any:
    """Return what was typed as the Python API takes it.

    Raises
    ------
    typer.BadParameter
        If it is wrong usage.
    """
    if argument.negates:
        return not typed
    if argument.several and not typed:
        return argument.default
    if argument.several and argument.kind is float:
        return _read_numbers(argument, typed)
    if argument.several and argument.choices:
        return _read_choices(argument, typed)
    return typed


def _read_choices(argument: CommandArgument, texts: list[str]) -> list[str]:
    """Return the choices of ``--region a,b --region c``."""
    choices = [part.strip() for text in texts for part in text.split(",")]
    for choice in choices:
        if choice not in argument.choices:
            raise typer.BadParameter(
                f"{choice!r} is not one of {', '.join(argument.choices)}",
                param_hint=f"'{argument.names[0]}'",
            )
    return choices


def _read_numbers(argument: CommandArgument, texts: list[str]) -> list[float]:
    """Return the numbers of ``-k 1,3 -k 5``."""
    try:
        return [float(part) for text in texts for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"{','.join(texts)}: expected numbers, such as 10 or 1,3,5",
            param_hint=f"'{argument.names[0]}'",
        ) from error
