"""Which addresses are the Hub's own, and how addresses are shown: without names and passwords."""

from __future__ import annotations

from urllib.parse import urlsplit

_USUAL_PORTS = {"http": 80, "https": 443}


def is_hub(address: str) -> bool:
    """Whether an address is on the Hub itself: of the same scheme, host and port."""
    from huggingface_hub import constants

    return _origin(address) == _origin(constants.ENDPOINT)


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or _USUAL_PORTS.get(parts.scheme)


def show_endpoint() -> str:
    """Return the Hub's address, without the name and password that one of a company may have."""
    from huggingface_hub import constants

    return without_password(constants.ENDPOINT)


def without_password(address: str) -> str:
    """Return an address without the name and password that it may hold."""
    scheme, separator, place = address.partition("://")
    host, slash, path = place.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path


def show_host(address: str) -> str:
    """Return scheme and host of an address: what follows may hold a signature."""
    parts = urlsplit(address)
    return f"{parts.scheme}:{parts.netloc and '//'}{parts.netloc.rpartition('@')[2]}"[:200]
