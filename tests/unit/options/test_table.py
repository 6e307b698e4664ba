"""One table of options: the commands, the documents and the checks agree with it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer.main

import shardrestore
from shardrestore import formats
from shardrestore.errors import RequestError
from shardrestore.options.option import Argument, Keyword
from shardrestore.options.table import (
    DTYPES,
    GROUPS,
    MODULE_DEFAULTS,
    REGIONS,
    STRATEGIES,
    ModuleOptions,
    Options,
    ScanOptions,
    VerifyOptions,
    check_options,
    command_arguments,
    read_entries,
    read_keywords,
)
from shardrestore.pairing import regions
from shardrestore.selection import cut
from shardrestore_cli.main import app
from shardrestore_cli.reference import write_reference

ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").exists())
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_the_document_is_what_the_table_says() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == write_reference(), "run `make docs`"


def test_the_document_names_every_argument_of_every_command() -> None:
    sections = write_reference().split("\n## ")[1:]
    assert [section.partition("\n")[0] for section in sections] == list(COMMANDS)
    for section, command in zip(sections, COMMANDS.values(), strict=True):
        options = [one for one in command.params if one.param_type_name == "option"]
        for name in (name for one in options for name in one.opts if name != "--help"):
            assert f"{name} " in section or f"{name}`" in section or f"{name}," in section


def test_every_command_takes_what_the_table_says_and_nothing_else() -> None:
    for name, command in COMMANDS.items():
        keywords = [one.keyword for one in command_arguments(name)]
        assert [one.name for one in command.params if one.name != "help"] == keywords
        assert len(set(keywords)) == len(keywords), "a keyword has two entries for a command"


def test_every_entry_names_commands_that_exist() -> None:
    for group in GROUPS:
        for _, *entry in read_entries(group).values():
            for part in entry:
                assert isinstance(part, (Keyword, Argument))
                if isinstance(part, Argument):
                    assert set(part.commands) <= set(COMMANDS)


def test_choices_are_those_that_the_library_knows() -> None:
    assert regions.REGIONS == REGIONS
    assert cut.STRATEGIES == STRATEGIES
    assert tuple(formats.CASTS) == DTYPES


@pytest.mark.parametrize("group", [Options, ScanOptions, VerifyOptions, ModuleOptions])
def test_every_default_passes_its_check(group: type) -> None:
    assert set(check_options({}, group)) == set(read_keywords(group))


def test_an_option_of_another_group_is_unknown() -> None:
    with pytest.raises(TypeError, match="unknown option: region, resume"):
        check_options({"region": "mlp", "resume": True}, ScanOptions)
    with pytest.raises(RequestError, match="seed 'x': expected a whole number"):
        check_options({"seed": "x"}, Options)


@pytest.mark.parametrize(
    ("function", "group", "defaults"),
    [
        (shardrestore.restore, Options, {}),
        (shardrestore.plan, Options, {}),
        (shardrestore.sweep, Options, {}),
        (shardrestore.sweep_targets, Options, {}),
        (shardrestore.restore_to_hub, Options, {}),
        (shardrestore.scan, ScanOptions, {}),
        (shardrestore.verify, VerifyOptions, {}),
        (shardrestore.restore_module, ModuleOptions, MODULE_DEFAULTS),
        (shardrestore.restored, ModuleOptions, MODULE_DEFAULTS),
    ],
)
def test_help_shows_every_option_with_its_default(
    function: Any, group: type, defaults: dict[str, object]
) -> None:
    parameters = inspect.signature(function).parameters
    text = inspect.getdoc(function) or ""
    for name, keyword in read_keywords(group).items():
        default = defaults.get(name, keyword.default)
        assert parameters[name].default == default
        assert f"\n{name} : " in text
        assert f"default {default!r}\n" in text
    assert max(map(len, text.splitlines())) <= 100
