"""Where the heavy dependencies are imported, and which folders are installed."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.support.places import ROOT

SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in ("shardrestore", "cli")
    for path in ROOT.glob(f"{folder}/**/*.py")
)

HOMES = {
    "httpx2": ["shardrestore/hub/*.py"],
    "huggingface_hub": ["shardrestore/hub/*.py"],
    "numba": ["shardrestore/kernels/cpu.py"],
    "torch": [
        f"shardrestore/{place}.py"
        for place in (
            *("kernels/device", "kernels/fused", "kernels/gpu"),
            *("engine/gpu", "engine/gpu_blocks", "engine/streams", "machine/device"),
            "inplace/*",
        )
    ],
    "tqdm": ["cli/**/*.py"],
    "triton": ["shardrestore/kernels/fused.py"],
    "typer": ["cli/**/*.py"],
    "vl_convert": ["shardrestore/report/pictures.py"],
    "yaml": ["shardrestore/output/card.py"],
}
"""Each dependency and the files that may import it."""


def imported_packages(source: str) -> set[str]:
    """Name the top-level packages that ``source`` imports absolutely, wherever it does so."""
    return {name.partition(".")[0] for name in imported_modules(source)}


def imported_modules(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                names.add(module)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                names.add(module)
    return names


def importers(package: str) -> set[Path]:
    return {
        path
        for path in SOURCES
        if package in imported_packages((ROOT / path).read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn as nn", {"torch"}),
        ("def f():\n    from numba import njit", {"numba"}),
        ("if TYPE_CHECKING:\n    import typer", {"typer"}),
        ("importlib.import_module('torch.cuda')", {"torch"}),
        ("from .torch import x", set()),  # relative: a module of our own
        ("'import torch'", set()),  # only a string
    ],
)
def test_every_form_of_import_is_seen(source: str, expected: set[str]) -> None:
    assert imported_packages(source) == expected


@pytest.mark.parametrize("package", HOMES)
def test_a_dependency_is_imported_only_at_home(package: str) -> None:
    allowed = {path.relative_to(ROOT) for home in HOMES[package] for path in ROOT.glob(home)}
    assert importers(package) - allowed == set()


def test_pyproject_lists_every_package_of_the_tree() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
    import_names = {folder: name for name, folder in setuptools["package-dir"].items()}
    in_tree = {
        ".".join((import_names.get(top, top), *rest))
        for top, *rest in (path.parent.parts for path in SOURCES)
    }
    assert sorted(in_tree) == sorted(setuptools["packages"])


def test_every_package_has_an_init_file() -> None:
    folders = {path.parent for path in SOURCES}
    assert [
        folder for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()
    ] == []


TESTS = sorted(path.relative_to(ROOT) for path in ROOT.glob("tests/**/*.py"))


@pytest.mark.parametrize("place", ["support", "unit", "whole", "trouble"])
def test_what_tests_share_is_in_support(place: str) -> None:
    """No module imports a test module: helpers of two of them belong to ``tests/support``."""
    found = {
        (str(path), module)
        for path in TESTS
        if path.parts[1] == place
        for module in imported_modules((ROOT / path).read_text(encoding="utf-8"))
        if module.startswith("tests.") and ".test_" in module
    }
    assert found == set()
