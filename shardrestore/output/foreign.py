"""Files in a model's folder that are no part of the model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..checkpoint.links import LinkRule
from ..checkpoint.sidefile import find_files
from ..names import RECORD_FILE


def find_foreign_files(folder: Path, expected: Collection[str]) -> list[str]:
    """Return the files in a model's folder that do not belong to it, in order of name.

    Hidden ones are nobody's. Models in folders of their own, such as those of a sweep, are not
    looked into.

    Parameters
    ----------
    folder : Path
    expected : collection of str
        Names of those that belong to it.
    """
    names = {file.name for file in find_files(folder, LinkRule(homes=None))}
    models = tuple(
        name.removesuffix(RECORD_FILE) for name in names if name.endswith(f"/{RECORD_FILE}")
    )
    return sorted(
        name
        for name in names.difference(expected)
        if not name.startswith(models) and not any(map(_is_hidden, name.split("/")))
    )


def _is_hidden(part: str) -> bool:
    return part.startswith(".")
