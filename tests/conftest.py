"""Fixtures for every test: a tiny pair of models, and a Hub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.examples import register_profiles
from tests.support.hub import Hub
from tests.support.hub.client import HubClient, turned_client
from tests.support.process.command import stop_server
from tests.support.scene import Scene

register_profiles()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A good tiny pair of bfloat16 models and no output, in a folder of their own."""
    return Scene.make(tmp_path)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """An empty loopback Hub; child processes find it with `Hub.environment`."""
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub_client(hub: Hub, tmp_path: Path) -> Iterator[HubClient]:
    """huggingface_hub in this process, turned to `hub`: see `tests.support.hub.client`."""
    with turned_client(hub, tmp_path / "huggingface") as client:
        yield client


def pytest_sessionfinish() -> None:
    stop_server()
