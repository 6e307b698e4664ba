"""The routes that reading takes: what a model is, which files it has, and the files."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.support.hub.access import (
    check_gate,
    find_commit,
    find_repository,
    find_writable,
    identify,
)
from tests.support.hub.blobs import Blob, describe_file, is_lfs
from tests.support.hub.messages import Request, Response, answer, serve_range
from tests.support.hub.repository import Commit
from tests.support.hub.routing import Refusal, Router

if TYPE_CHECKING:
    from tests.support.hub.hub import Hub

READING = Router()

DATE = "2025-01-01T00:00:00.000Z"
"""Of everything: nothing in this Hub depends on when it happened."""


@READING.route("GET", "/{id}/resolve/{revision}/{path}")
def resolve(hub: Hub, request: Request, id: str, revision: str, path: str) -> Response:
    """A file, or with `Hub.redirects` the signed address of its content on the storage server."""
    repository = find_repository(hub, request, id)
    check_gate(hub, request, repository)
    commit = find_commit(repository, revision)
    headers = {"X-Repo-Commit": commit.sha}
    blob = commit.files.get(path)
    if blob is None:
        refusal = Refusal(404, "EntryNotFound", "Entry not found")
        refusal.response.headers.update(headers)
        raise refusal
    if not is_lfs(path, blob.size_bytes):
        return serve_range(request, blob, {**headers, "ETag": f'"{blob.git_oid}"'})
    headers["X-Linked-Size"] = str(blob.size_bytes)
    headers["X-Linked-Etag"] = headers["ETag"] = f'"{blob.sha256}"'
    if hub.redirects:
        location = hub.sign(f"/{id}/{blob.sha256}/{path}")
        return Response(status=302, headers={**headers, "Location": location})
    return serve_range(request, blob, headers)


@READING.route("GET", "/api/models/{id}")
@READING.route("GET", "/api/models/{id}/revision/{revision}")
def info(hub: Hub, request: Request, id: str, revision: str = "main") -> Response:
    repository = find_repository(hub, request, id)
    commit = find_commit(repository, revision)
    siblings: list[dict[str, Any]] = []
    for path, blob in sorted(commit.files.items()):
        siblings.append({"rfilename": path})
        if request.query.get("blobs"):
            entry = describe_file(path, blob)
            siblings[-1].update(size=entry["size"], blobId=entry["oid"])
            if "lfs" in entry:
                lfs = {"size": blob.size_bytes, "sha256": blob.sha256}
                siblings[-1]["lfs"] = {**lfs, "pointerSize": len(blob.pointer)}
    return answer(
        {
            "id": id,
            "modelId": id,
            "author": repository.namespace,
            "sha": commit.sha,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": repository.private,
            "gated": "manual" if repository.gated else False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
        }
    )


@READING.route("GET", "/api/models/{id}/refs")
def refs(hub: Hub, request: Request, id: str) -> Response:
    repository = find_repository(hub, request, id)

    def describe(prefix: str, shas: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": n, "ref": prefix + n, "targetCommit": sha} for n, sha in shas.items()]

    document = {
        "branches": describe("refs/heads/", repository.branches),
        "converts": [],
        "tags": describe("refs/tags/", repository.tags),
    }
    if request.query.get("include_prs"):
        numbers = {str(number): sha for number, sha in repository.pull_requests.items()}
        document["pullRequests"] = describe("refs/pr/", numbers)
    return answer(document)


@READING.route("GET", "/api/models/{id}/tree/{revision}")
@READING.route("GET", "/api/models/{id}/tree/{revision}/{path}")
def tree(hub: Hub, request: Request, id: str, revision: str, path: str = "") -> Response:
    """Files and folders, in pages of `Hub.page_size` with a ``Link`` to the next one."""
    commit = find_commit(find_repository(hub, request, id), revision)
    entries = list_folder(commit, path, recursive=request.query.get("recursive") in ("true", "1"))
    if path and not entries:
        raise Refusal(404, "EntryNotFound", f"{path} does not exist on {revision!r}")
    first = int(base64.b64decode(request.query.get("cursor", "")) or 0)
    last = first + hub.page_size
    headers = {}
    if last < len(entries):
        query = {**request.query, "cursor": base64.b64encode(str(last).encode()).decode()}
        headers["Link"] = f'<{hub.url}{request.path}?{urlencode(query)}>; rel="next"'
    expand = request.query.get("expand") in ("true", "1")
    return answer([describe_entry(commit, p, expand=expand) for p in entries[first:last]], headers)


@READING.route("POST", "/api/models/{id}/paths-info/{revision}")
def paths_info(hub: Hub, request: Request, id: str, revision: str) -> Response:
    commit = find_commit(find_repository(hub, request, id), revision)
    form = request.form()
    known = {*commit.files, *list_folders(commit)}
    expand = form.get("expand") in (["true"], ["True"], ["1"])
    paths = [path for path in form.get("paths", []) if path in known]
    return answer([describe_entry(commit, path, expand=expand) for path in paths])


@READING.route("GET", "/api/models/{id}/auth-check/write")
def check_write(hub: Hub, request: Request, id: str) -> Response:
    find_writable(hub, request, id)
    return answer({})


@READING.route("GET", "/api/whoami-v2")
def whoami(hub: Hub, request: Request) -> Response:
    user = identify(hub, request)
    if user is None:
        raise Refusal(401, None, "Invalid username or password.")
    token = {"displayName": "loopback", "role": "read" if user in hub.readers_only else "write"}
    orgs = [{"name": name, "roleInOrg": "write"} for name in hub.namespaces(user)]
    return answer(
        {
            "type": "user",
            "name": user,
            "fullname": user,
            "orgs": orgs,
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def list_folders(commit: Commit) -> set[str]:
    """Return all folders of a commit, which git knows only by the files in them."""
    folders: set[str] = set()
    for path in commit.files:
        while path := path.rpartition("/")[0]:
            folders.add(path)
    return folders


def list_folder(commit: Commit, folder: str, *, recursive: bool) -> list[str]:
    """Return the paths of files and folders in a folder, and of those in these."""
    prefix = f"{folder}/" if folder else ""
    inside = (p for p in {*commit.files, *list_folders(commit)} if p.startswith(prefix))
    return sorted(p for p in inside if recursive or "/" not in p.removeprefix(prefix))


def describe_entry(commit: Commit, path: str, *, expand: bool) -> dict[str, Any]:
    blob = commit.files.get(path)
    if blob is None:
        folder = Blob(f"tree {path}".encode())
        entry: dict[str, Any] = {"type": "directory", "path": path, "size": 0}
        entry["oid"] = folder.git_oid
    else:
        entry = describe_file(path, blob)
    if expand:
        entry["lastCommit"] = {"id": commit.sha, "title": commit.message, "date": DATE}
    return entry
