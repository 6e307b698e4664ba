"""huggingface_hub in this process, turned to the loopback Hub and back again.

It reads its variables when it is imported, which has happened long before a test runs. What it
reads later are attributes, and these are what counts, as of version 2.4:

- ``constants.ENDPOINT`` and ``HUGGINGFACE_CO_URL_TEMPLATE``, which has to begin with it: every
  address, from ``HfApi()``, ``hf_hub_url`` and ``HfFileSystem``. ``hf_api.api``, whose methods
  are the functions at the top level, keeps the endpoint it was made with.
- ``constants.HF_URL_HOSTS`` and ``_http._HUB_ORIGINS``: hosts whose addresses name repositories,
  and those that get the token after a redirect.
- ``constants.HF_HUB_CACHE`` and its kin: where files go; the cache manager has a copy.
- ``constants.HF_TOKEN_PATH``, ``HF_STORED_TOKENS_PATH``, ``HF_HUB_DISABLE_IMPLICIT_TOKEN`` and,
  read from the environment every time, ``HF_TOKEN``: who one is.
- ``constants.HF_HUB_OFFLINE``: asked before every request.
- ``constants.HF_HUB_DISABLE_XET``: the loopback Hub speaks plain HTTP alone.
- ``constants.HF_HUB_DISABLE_TELEMETRY``: with telemetry, versions of other packages and a
  registry on the Hub are looked up for the user agent.
- The session shared by all calls has read the proxies when it was made, and keeps connections
  open: it is closed before and after. The instances that HfFileSystem remembers are forgotten.

The variables are set as well, for what a test starts without giving it an environment.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants, hf_api
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from tests.support.hub.hub import Hub, client_environment

_http = importlib.import_module("huggingface_hub.utils._http")
_cache_manager = importlib.import_module("huggingface_hub.utils._cache_manager")

PUSHES = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""Mark of tests that upload LFS files in this process: huggingface_hub 2.4 uses a deprecated
argument of httpx2, and warnings are errors here."""

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class HubClient:
    """What a test may change about huggingface_hub while it is turned to the loopback Hub."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.cache = home / "hub"
        """Empty at first."""
        self._patch = patch

    def log_in(self, token: str) -> None:
        self._patch.setenv("HF_TOKEN", token)
        huggingface_hub.HfFileSystem.clear_instance_cache()

    def log_out(self) -> None:
        for name in TOKEN_VARIABLES:
            self._patch.delenv(name, raising=False)
        huggingface_hub.HfFileSystem.clear_instance_cache()

    def go_offline(self) -> None:
        self._patch.setattr(constants, "HF_HUB_OFFLINE", True)
        self._patch.setenv("HF_HUB_OFFLINE", "1")

    def go_online(self) -> None:
        self._patch.setattr(constants, "HF_HUB_OFFLINE", False)
        self._patch.delenv("HF_HUB_OFFLINE", raising=False)


@contextmanager
def turned_client(hub: Hub, home: Path) -> Iterator[HubClient]:
    """Turn huggingface_hub to a Hub, with an empty cache in ``home`` and nobody logged in."""
    bars_disabled = are_progress_bars_disabled()
    with pytest.MonkeyPatch.context() as patch:
        client = HubClient(home, patch)
        _turn_constants(patch, hub.url, client)
        for name, value in client_environment(hub.url, home).items():
            patch.setenv(name, value)
        client.log_out()
        client.go_online()
        for name in PROXY_VARIABLES:
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        disable_progress_bars()
        huggingface_hub.close_session()
        try:
            yield client
        finally:
            huggingface_hub.close_session()
            huggingface_hub.HfFileSystem.clear_instance_cache()
            if not bars_disabled:
                enable_progress_bars()


def _turn_constants(patch: pytest.MonkeyPatch, url: str, client: HubClient) -> None:
    address = urlsplit(url)
    values = {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": constants.HF_URL_HOSTS | {address.hostname},
        "HF_HOME": str(client.home),
        "HF_HUB_CACHE": str(client.cache),
        "HUGGINGFACE_HUB_CACHE": str(client.cache),
        "HF_ASSETS_CACHE": str(client.home / "assets"),
        "HF_TOKEN_PATH": str(client.home / "token"),
        "HF_STORED_TOKENS_PATH": str(client.home / "stored_tokens"),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    for name, value in values.items():
        patch.setattr(constants, name, value)
    patch.setattr(hf_api.api, "endpoint", url)
    patch.setattr(_cache_manager, "HF_HUB_CACHE", str(client.cache))
    origin = (address.scheme, address.hostname, address.port)
    patch.setattr(_http, "_HUB_ORIGINS", _http._HUB_ORIGINS | {origin})
