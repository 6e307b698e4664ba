"""Fixtures of tests that need a Hub.

Tests in other folders import them by name:
``from tests.hub.conftest import hub, hub_client  # noqa: F401``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.hub.client import HubClient, turned_client


@pytest.fixture
def hub() -> Iterator[Hub]:
    """An empty loopback Hub; child processes find it with `Hub.environment`."""
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub_client(hub: Hub, tmp_path: Path) -> Iterator[HubClient]:
    """huggingface_hub in this process, turned to `hub`: see `tests.hub.client`."""
    with turned_client(hub, tmp_path / "huggingface") as client:
        yield client
