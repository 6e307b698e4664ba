"""Who may read and write what, refused in the words and with the codes of the Hub.

The Hub does not tell strangers whether a repository is private or missing: without a token
both are 401, with one both are 404. A gated one is described to everybody, and its files are
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.hub.messages import Request
from tests.support.hub.repository import Commit, Repository
from tests.support.hub.routing import Refusal

if TYPE_CHECKING:
    from tests.support.hub.hub import Hub


def identify(hub: Hub, request: Request) -> str | None:
    """Return the user whose token the request carries, or None where there is none."""
    if request.token is None:
        return None
    user = hub.tokens.get(request.token, hub.everyone)
    if user is None:
        raise Refusal(401, None, "Invalid credentials in Authorization header")
    return user


def require_user(hub: Hub, request: Request) -> str:
    user = identify(hub, request)
    if user is None:
        raise Refusal(401, "RepoNotFound", "Invalid username or password.")
    return user


def find_repository(hub: Hub, request: Request, id: str) -> Repository:
    """Return a repository that the request may know of."""
    user = identify(hub, request)
    repository = hub.repositories.get(id)
    if repository is None or (repository.private and not hub.lets_read(user, id)):
        if user is None:
            raise Refusal(401, "RepoNotFound", "Invalid username or password.")
        raise Refusal(404, "RepoNotFound", "Repository not found")
    return repository


def find_commit(repository: Repository, revision: str) -> Commit:
    commit = repository.resolve(revision)
    if commit is None:
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit


def check_gate(hub: Hub, request: Request, repository: Repository) -> None:
    """Refuse the files of a gated repository to those who have not been let in."""
    user = identify(hub, request)
    if not repository.gated or hub.lets_read(user, repository.id):
        return
    if user is None:
        raise Refusal(
            401,
            "GatedRepo",
            f"Access to model {repository.id} is restricted. You must have access to it and be "
            "authenticated to access it. Please log in.",
        )
    raise Refusal(
        403,
        "GatedRepo",
        f"Access to model {repository.id} is restricted and you are not in the authorized list. "
        f"Visit {hub.url}/{repository.id} to ask for access.",
    )


def find_writable(
    hub: Hub, request: Request, id: str, *, as_pull_request: bool = False
) -> Repository:
    """Return a repository that the request may change; anybody may open pull requests."""
    user = require_user(hub, request)
    repository = find_repository(hub, request, id)
    if not as_pull_request and not hub.lets_write(user, id):
        raise Refusal(
            403,
            None,
            "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request",
        )
    return repository
