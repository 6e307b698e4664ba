from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.resume.stage import Driver, driving
from tests.support.runs import scratch
from tests.support.scene import Scene


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    """A process with everything imported, from which runs are forked."""
    with driving() as started:
        yield started


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty folder, in memory if possible."""
    with scratch() as folder:
        yield folder


@pytest.fixture
def scene(root: Path) -> Scene:
    """A good tiny pair of bfloat16 models and no output, in a folder of their own."""
    return Scene.make(root)
