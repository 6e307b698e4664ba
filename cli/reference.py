"""``docs/cli.md``, written from the commands and the option table: ``make docs``."""

from __future__ import annotations

import inspect
import sys

from shardrestore import CommandArgument, Required, command_arguments

from .main import app

HEAD = """\
# The command line

Made by `make docs` from the option table, `shardrestore/options/table.py`, which also gives the
commands their options and Python its keywords: change it there.

Exit status: 0 done; 1 a problem with data, disk or request, in one message; 2 wrong usage;
130 and 143 interrupted. Progress goes to stderr, results to stdout.
"""


def write_reference() -> str:
    """Return every command with its arguments, in Markdown."""
    callbacks = [command.callback for command in app.registered_commands]
    sections = [
        _describe_command(function.__name__, inspect.getdoc(function) or "")
        for function in callbacks
        if function is not None
    ]
    return "\n".join([HEAD, *sections])


def _describe_command(name: str, text: str) -> str:
    arguments = command_arguments(name)
    operands = [one.metavar for one in arguments if not one.names]
    required = [
        f"{one.names[0]} {one.metavar}"
        for one in arguments
        if one.names and one.default is Required
    ]
    options = ["[OPTIONS]"] if len(arguments) > len(operands) + len(required) else []
    usage = " ".join(["shardrestore", name, *filter(None, operands), *required, *options])
    lines = [f"## {name}", "", f"`{usage}`", "", text, ""]
    lines += ["| argument | default | in Python | what it does |", "|---|---|---|---|"]
    lines += [_describe_argument(argument) for argument in arguments]
    return "\n".join([*lines, ""])


def _describe_argument(argument: CommandArgument) -> str:
    value = argument.metavar or "|".join(argument.choices)
    typed = ", ".join(argument.names) or value
    if argument.names and value:
        typed = f"{typed} {value}"
    keyword = f"`{argument.keyword}{'=False' if argument.negates else ''}`"
    cells = (
        f"`{typed}`",
        _describe_default(argument),
        keyword if argument.in_python else "",
        argument.text,
    )
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _describe_default(argument: CommandArgument) -> str:
    if argument.default is Required:
        return "required"
    if argument.shown_default:
        return argument.shown_default
    if argument.kind is bool or argument.default in (None, ()):
        return ""
    if argument.several and not isinstance(argument.default, str):
        return ", ".join(f"`{one:g}`" for one in argument.default)  # type: ignore[attr-defined]
    return f"`{argument.default}`"


if __name__ == "__main__":
    sys.stdout.write(write_reference())
