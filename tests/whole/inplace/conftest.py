"""Every test in memory runs twice: by processors, and by torch as on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest

from shardrestore.inplace import edit
from shardrestore.machine.device import Device
from tests.support.modules import AS_ON_A_GPU


@pytest.fixture(autouse=True, scope="module", params=["processors", "torch"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Where the module is worked on; it stays in ordinary memory."""
    found = AS_ON_A_GPU if request.param == "torch" else Device()
    with mock.patch.object(edit, "find_resident_device", return_value=found):
        yield found
