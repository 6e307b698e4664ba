"""The routes that a push takes: create, preupload, LFS, commit; and changes to what there is."""

from __future__ import annotations

import base64
import json
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from tests.support.hub.access import find_commit, find_repository, find_writable, require_user
from tests.support.hub.blobs import Blob, is_lfs
from tests.support.hub.messages import Request, Response, answer
from tests.support.hub.routing import Refusal, Router

if TYPE_CHECKING:
    from tests.support.hub.hub import Hub

WRITING = Router()


@WRITING.route("POST", "/api/repos/create")
def create(hub: Hub, request: Request) -> Response:
    user = require_user(hub, request)
    asked = request.json()
    id = f"{asked.get('organization') or user}/{asked['name']}"
    namespace = id.partition("/")[0]
    document = {"url": f"{hub.url}/{id}", "name": id}
    if id in hub.repositories and hub.lets_read(user, id):
        message = "You already created this model repo"
        return with_status(409, {**document, "error": message})
    if not hub.lets_write(user, namespace):
        raise Refusal(
            403,
            None,
            f'You don\'t have the rights to create a model under the namespace "{namespace}"',
        )
    private = asked.get("private", False) or asked.get("visibility") == "private"
    hub.create(id, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
    return answer(document)


@WRITING.route("PUT", "/api/models/{id}/settings")
def change_settings(hub: Hub, request: Request, id: str) -> Response:
    repository = find_writable(hub, request, id)
    asked = request.json()
    if "private" in asked or "visibility" in asked:
        repository.private = asked.get("private", asked.get("visibility") == "private")
    if "gated" in asked:
        repository.gated = bool(asked["gated"])
    return answer({"private": repository.private, "gated": repository.gated})


@WRITING.route("POST", "/api/models/{id}/branch/{name}")
def create_branch(hub: Hub, request: Request, id: str, name: str) -> Response:
    repository = find_writable(hub, request, id)
    if name in repository.branches:
        raise Refusal(409, None, f"Reference already exists: refs/heads/{name}")
    start = find_commit(repository, request.json().get("startingPoint", "main"))
    repository.branch(name, start.sha)
    return answer({})


@WRITING.route("POST", "/api/models/{id}/tag/{revision}")
def create_tag(hub: Hub, request: Request, id: str, revision: str) -> Response:
    repository = find_writable(hub, request, id)
    tag = request.json()["tag"]
    if tag in repository.tags:
        raise Refusal(409, None, f"Tag reference exists already: refs/tags/{tag}")
    repository.tag(tag, find_commit(repository, revision).sha)
    return answer({})


@WRITING.route("POST", "/api/validate-yaml")
def validate_yaml(hub: Hub, request: Request) -> Response:
    return answer({"errors": [], "warnings": []})


@WRITING.route("POST", "/api/models/{id}/preupload/{revision}")
def preupload(hub: Hub, request: Request, id: str, revision: str) -> Response:
    """How each file is to be uploaded, and what is there already: the client skips equal ones."""
    repository = find_writable(
        hub, request, id, as_pull_request=opens_pull_request(request) or is_pull_request(revision)
    )
    commit = find_commit(repository, revision)
    files = []
    patterns = repository.files(commit.sha).get(".gitignore", b"").decode().split()
    for file in request.json()["files"]:
        path = file["path"]
        lfs = is_lfs(path, file["size"])
        old = commit.files.get(path)
        oid = None if old is None else old.sha256 if lfs else old.git_oid
        mode = "lfs" if lfs else "regular"
        ignored = any(fnmatch(path, pattern) for pattern in patterns)
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": ignored, "oid": oid})
    return answer({"files": files, "commitOid": commit.sha})


@WRITING.route("POST", "/{id}.git/info/lfs/objects/batch")
def start_upload(hub: Hub, request: Request, id: str) -> Response:
    """Where to put each LFS object; nowhere, if the repository has it already."""
    asked = request.json()
    # A pull request is prepared without naming a reference: read access is enough for it.
    reference = asked.get("ref", {}).get("name")
    repository = find_writable(
        hub, request, id, as_pull_request=reference is None or is_pull_request(reference)
    )
    objects = []
    for wanted in asked["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"]}
        if repository.find_object(wanted["oid"], wanted["size"]) is None:
            entry["actions"] = {
                "upload": {"href": hub.sign(f"/{id}/{wanted['oid']}")},
                "verify": {"href": f"{hub.url}/{id}.git/info/lfs/objects/verify"},
            }
        objects.append(entry)
    return answer({"transfer": "basic", "objects": objects})


@WRITING.route("POST", "/{id}.git/info/lfs/objects/verify")
def verify_upload(hub: Hub, request: Request, id: str) -> Response:
    repository = find_repository(hub, request, id)
    asked = request.json()
    blob = repository.objects.get(asked["oid"])
    if blob is None or blob.size_bytes != asked["size"]:
        raise Refusal(404, None, f"No object {asked['oid']} of {asked['size']} bytes")
    return answer({})


@WRITING.route("POST", "/api/models/{id}/commit/{revision}")
def commit(hub: Hub, request: Request, id: str, revision: str) -> Response:
    """One JSON document a line: what the commit is called, then each change of a file."""
    opens = opens_pull_request(request)
    repository = find_writable(hub, request, id, as_pull_request=opens or is_pull_request(revision))
    parent = find_commit(repository, revision)
    summary = ""
    changes: dict[str, Blob | None] = {}
    for line in request.body.read().splitlines():
        operation = json.loads(line)
        value = operation["value"]
        match operation["key"]:
            case "header":
                summary = value["summary"]
                if value.get("parentCommit", parent.sha) != parent.sha:
                    raise Refusal(412, None, "A commit has happened since. Please refresh.")
            case "file":
                changes[value["path"]] = Blob(base64.b64decode(value["content"]))
            case "lfsFile":
                blob = repository.find_object(value["oid"], value.get("size"))
                if blob is None:
                    raise Refusal(400, None, f"No object {value['oid']} has been uploaded")
                changes[value["path"]] = blob
            case "deletedFile":
                changes[value["path"]] = None
            case "deletedFolder":
                folder = value["path"].rstrip("/") + "/"
                changes.update((p, None) for p in parent.files if p.startswith(folder))
            case unknown:
                raise Refusal(400, None, f"Unknown operation {unknown}")
    document: dict[str, object] = {"success": True}
    if opens:
        revision = repository.pull_request()
        number = revision.removeprefix("refs/pr/")
        document["pullRequestUrl"] = f"{hub.url}/{id}/discussions/{number}"
    sha = repository.commit(changes, branch=revision, message=summary)
    return answer({**document, "commitOid": sha, "commitUrl": f"{hub.url}/{id}/commit/{sha}"})


def opens_pull_request(request: Request) -> bool:
    return request.query.get("create_pr") == "1"


def is_pull_request(revision: str) -> bool:
    return revision.startswith("refs/pr/")


def with_status(status: int, document: object) -> Response:
    response = answer(document)
    response.status = status
    return response
