"""Routes: which function answers a path, and errors that end a request early."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.support.hub.messages import Request, Response, refuse

if TYPE_CHECKING:
    from tests.support.hub.hub import Hub

Handler = Callable[..., Response]

FIELDS = {"id": r"[^/]+/[^/]+", "path": r".+", "oid": r"[0-9a-f]{64}"}
"""What the fields of a route match; all others stand for one part of the path."""


class Refusal(Exception):
    """Ends a request with an error."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.response = refuse(status, code, message)


class Router:
    """Routes of a server, tried in the order in which they were added."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []

    @classmethod
    def merge(cls, *routers: Router) -> Router:
        merged = cls()
        merged._routes = [route for router in routers for route in router._routes]
        return merged

    def route(self, method: str, template: str) -> Callable[[Handler], Handler]:
        """Let a function answer a path like ``/{id}/resolve/{revision}/{path}``.

        It is called with the hub, the request and the fields, percent-decoded. HEAD goes where
        GET does: the server leaves the body out.
        """
        pattern = re.sub(
            r"\{(\w+)\}",
            lambda name: f"(?P<{name[1]}>{FIELDS.get(name[1], '[^/]+')})",
            re.escape(template).replace(r"\{", "{").replace(r"\}", "}"),
        )

        def add(handler: Handler) -> Handler:
            self._routes.append((method, re.compile(pattern), handler))
            return handler

        return add

    def answer(self, hub: Hub, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        for routed, pattern, handler in self._routes:
            if routed == method and (match := pattern.fullmatch(request.path)):
                fields = {name: unquote(value) for name, value in match.groupdict().items()}
                try:
                    return handler(hub, request, **fields)
                except Refusal as refusal:
                    return refusal.response
        return refuse(404, None, f"the loopback Hub has no {request.method} {request.path}")
