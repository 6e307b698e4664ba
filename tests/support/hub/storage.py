"""The second server: where LFS content is kept, reached by signed links and without a token.

It stands for the CDN and the object store of the Hub. That it is on another port makes it another
origin, to which a client must not send its token.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.support.hub.blobs import EMPTY, Blob
from tests.support.hub.messages import Request, Response, serve_range
from tests.support.hub.routing import Router

if TYPE_CHECKING:
    from tests.support.hub.hub import Hub

STORAGE = Router()


@STORAGE.route("GET", "/{id}/{oid}/{path}")
def fetch(hub: Hub, request: Request, id: str, oid: str, path: str) -> Response:
    blob = hub.repositories[id].find_object(oid)
    if not is_signed(hub, request):
        return deny(403, "AccessDenied", "Request has expired")
    if blob is None:
        return deny(404, "NoSuchKey", "The specified key does not exist.")
    return serve_range(request, blob, {"ETag": f'"{blob.sha256}"'})


@STORAGE.route("PUT", "/{id}/{oid}")
def put(hub: Hub, request: Request, id: str, oid: str) -> Response:
    if not is_signed(hub, request):
        return deny(403, "AccessDenied", "Request has expired")
    if request.body.sha256 != oid:
        return deny(400, "XAmzContentSHA256Mismatch", f"Not {oid} but {request.body.sha256}")
    hub.repositories[id].objects[oid] = request.body
    return Response(headers={"ETag": f'"{oid}"'}, body=EMPTY)


def sign_path(path: str, key: str, expires: int) -> str:
    """Return a path with the query that lets everyone who has it in until it expires."""
    path = quote(path)
    return f"{path}?Expires={expires}&Signature={_digest(path, key, expires)}"


def is_signed(hub: Hub, request: Request) -> bool:
    expires = int(request.query.get("Expires", 0))
    signature = _digest(request.path, hub.signing_key, expires)
    return expires > time.time() and request.query.get("Signature") == signature


def deny(status: int, code: str, message: str) -> Response:
    """Return an error as object stores tell it: in XML."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(
        status=status, headers={"Content-Type": "application/xml"}, body=Blob(body.encode())
    )


def _digest(path: str, key: str, expires: int) -> str:
    return hashlib.sha256(f"{key}\n{path}\n{expires}".encode()).hexdigest()
