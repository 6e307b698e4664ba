"""What every request of ours obeys, whichever function of huggingface_hub makes it.

Requests go to web servers alone, the token and the pages of a list to the Hub alone. Answers
come as they are, uncompressed, within limits of size and time; a server that asks to wait for
long is not obeyed in silence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from .endpoint import is_hub, show_endpoint, show_host
from .limits import Refused, current_limits, say_pause

if TYPE_CHECKING:
    import httpx2

LONGEST_WAIT_SECONDS = 300
"""What a server may ask to wait: the Hub counts requests over five minutes."""

NOTED_WAIT_SECONDS = 10
"""From here on a pause is worth a note: nothing moves meanwhile."""

_ANSWER_SECONDS = {"GET": 60.0, "HEAD": 60.0}
"""How long a server may be silent, where huggingface_hub would wait forever."""

_WORK_SECONDS = 600.0
"""The same for requests that have it work: a commit of many files takes minutes."""

_lock = threading.Lock()
_guarded_calls = 0


@contextmanager
def guarded() -> Iterator[None]:
    """Guard the requests of huggingface_hub's session meanwhile.

    Raises
    ------
    Refused
        In whatever call makes a request, or reads an answer, that may not be.
    """
    global _guarded_calls
    with _lock:
        _install()
        _guarded_calls += 1
    try:
        yield
    finally:
        with _lock:
            _guarded_calls -= 1


def _install() -> None:
    """Guard the session that there is, and those that follow it.

    After a failure to connect huggingface_hub makes a new one, and a server can bring that about.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils import _http

    _guard_client(get_session())
    factory = _http._GLOBAL_CLIENT_FACTORY
    if not isinstance(factory, _GuardedFactory):
        # Not by ``set_client_factory``: that closes the session, and others may be using it.
        _http._GLOBAL_CLIENT_FACTORY = _GuardedFactory(factory)


class _GuardedFactory:
    """Makes what another factory makes, guarded."""

    def __init__(self, factory: Callable[[], httpx2.Client]) -> None:
        self._factory = factory

    def __call__(self) -> httpx2.Client:
        client = self._factory()
        _guard_client(client)
        return client


def _guard_client(client: httpx2.Client) -> None:
    """Have a client ask before each request, of a redirection too, and after each answer."""
    hooks = client.event_hooks
    if _check_request not in hooks["request"]:
        client.event_hooks = {
            "request": [*hooks["request"], _check_request],
            "response": [_check_response, *hooks["response"]],
        }


def _check_request(request: httpx2.Request) -> None:
    if not _guarded_calls:
        return
    address = str(request.url)
    _check_scheme(address)
    if "Authorization" in request.headers and not is_hub(address):
        raise Refused(
            f"the Hub asks for the token to be sent to {show_host(address)}; it is sent to "
            f"{show_endpoint()} alone: {_advise_on_endpoint()}"
        )
    current_limits().check_time(show_host(address))
    request.headers["Accept-Encoding"] = "identity"
    usual = _ANSWER_SECONDS.get(request.method, _WORK_SECONDS)
    timeouts: dict[str, Any] = request.extensions.get("timeout", {})
    request.extensions = {
        **request.extensions,
        "timeout": {kind: timeouts.get(kind) or usual for kind in _TIMEOUTS},
    }


def _check_scheme(address: str) -> None:
    if urlsplit(address).scheme not in ("http", "https"):
        raise Refused(
            f"the server sends on to {show_host(address)}, which is no web address: "
            f"{_advise_on_endpoint()}"
        )


_TIMEOUTS = ("connect", "read", "write", "pool")


def _check_response(response: httpx2.Response) -> None:
    if not _guarded_calls:
        return
    from .bounded import BoundedStream

    host = show_host(str(response.url))
    if response.has_redirect_location:
        _check_scheme(urljoin(str(response.url), response.headers["Location"]))
    encoding = response.headers.pop("Content-Encoding", "identity")
    if encoding != "identity" and response.request.method != "HEAD" and response.is_success:
        raise Refused(
            f"{host} answers compressed ({encoding[:20]!r}), which was not asked for, so that a "
            f"small answer can fill the memory: {_advise_on_endpoint()}"
        )
    page = response.links.get("next", {}).get("url")
    if page is not None and not is_hub(page):
        raise Refused(
            f"the list of files goes on at {show_host(page)}, not at {show_endpoint()}: "
            f"{_advise_on_endpoint()}"
        )
    _look_at_wait(response, host)
    response.stream = BoundedStream(response.stream, current_limits(), host)  # type: ignore[arg-type]


def _look_at_wait(response: httpx2.Response, host: str) -> None:
    """Say that a server asks to wait, by either of the headers that are obeyed; refuse hours."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    if response.status_code < 400:
        return
    text = response.headers.get("Retry-After", "").strip()
    asked = int(text[:20]) if text.isascii() and text.isdecimal() else 0
    limits = parse_ratelimit_headers(response.headers)
    if limits is not None and response.status_code == 429 and limits.remaining == 0:
        asked = max(asked, limits.reset_in_seconds)
    if asked > LONGEST_WAIT_SECONDS:
        raise Refused(
            f"{host} answers {response.status_code} and asks to wait {asked:,} seconds, longer "
            f"than the {LONGEST_WAIT_SECONDS} that are waited: try again after that time"
        )
    if asked >= NOTED_WAIT_SECONDS:
        say_pause(f"{host} answers {response.status_code} and asks to wait {asked} seconds")


def _advise_on_endpoint() -> str:
    return "is it the right HF_ENDPOINT? If so, download the model otherwise and name its folder"
