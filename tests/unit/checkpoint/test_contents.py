"""What is said of a folder that is no model is safe to read, and its commands safe to paste."""

from __future__ import annotations

import ast
import re
import shlex

import pytest

from shardrestore.checkpoint.contents import Contents, by_folder, explain_absence

NAMES = ["$(touch x)", '"; touch x; "', "'; touch x; '", "`touch x`", "a b", "é"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("repository", [None, "acme/x"])
def test_a_name_in_a_command_is_no_command(name: str, repository: str | None) -> None:
    for file in (f"{name}.pt", f"{name}.safetensors", f"{name}/model.safetensors"):
        contents = Contents(where="given", folders=by_folder([file]), repository=repository)
        said = explain_absence(contents)
        words = shlex.split(
            re.sub(r"`(?=hf |ln )|(?<=/model\.safetensors)`|(?<=given)`", " ", said)
        )
        assert "touch" not in words
        code = next((word for word in words if word.startswith("import os")), "''")
        assert ast.parse(code)


@pytest.mark.parametrize("name", ["a\nerror: b", "\x1b]0;x\x07", "\udcff"])
def test_a_name_that_a_terminal_obeys_is_escaped(name: str) -> None:
    for file in (f"{name}.pt", f"{name}.safetensors", f"{name}/model.safetensors"):
        assert explain_absence(Contents(where="given", folders=by_folder([file]))).isprintable()
