from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.tree import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A good tiny pair of bfloat16 models and no output, in a folder of their own."""
    return Scene.make(tmp_path)
