"""Where on the Hub something is written: a repository and a branch, and whether one may."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import HubError, RequestError
from .failure import explained_push
from .repository import parse_repository

DEFAULT_BRANCH = "main"

_NO_BRANCH = re.compile(r"^$|^[-/.]|[/.]$|\.lock(/|$)|\.\.|//|/\.|@\{|^(@|HEAD)$|[\s~^:?*\[\\]")
"""What git-check-ref-format(1) forbids, and any blanks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A branch of a model repository."""

    id: str
    """``namespace/name``."""
    branch: str

    @property
    def namespace(self) -> str:
        """The user or organisation that owns it."""
        return self.id.partition("/")[0]


def parse_destination(repository: object, revision: object) -> Destination:
    """Return the destination that a user names.

    Raises
    ------
    RequestError
        If it cannot be one.
    """
    found = parse_repository(repository) if isinstance(repository, str) else None
    if found is None or "/" not in found.id:
        raise RequestError(
            f"repository {repository!r}: expected ORG/NAME, such as acme/restored: letters, "
            "digits, '-', '_' and '.', at most 96, without '--' and '..'"
        )
    if found.revision is not None:
        raise RequestError(
            f"repository {repository}: name the branch by --revision {found.revision}"
        )
    return Destination(id=found.id, branch=_parse_branch(revision))


def _parse_branch(revision: object) -> str:
    if revision is None:
        return DEFAULT_BRANCH
    if isinstance(revision, str) and revision.isprintable() and not _NO_BRANCH.search(revision):
        return revision
    raise RequestError(
        f"revision {revision!r}: expected the name of a branch, as git allows: k-10 or sweeps/k10, "
        "without blanks"
    )


def check_writable(destination: Destination) -> None:
    """Refuse a destination that may not be written, as far as that is known before.

    Nothing is created. A repository that does not exist is judged by its namespace.

    Raises
    ------
    HubError
        If there is no token, or it does not allow to write.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    where = destination.id
    if constants.is_offline_mode():
        raise HubError(f"{where}: HF_HUB_OFFLINE forbids to push: unset it")
    if get_token() is None:
        raise HubError(
            f"{where}: there is no token to push with: log in with `hf auth login`, or set HF_TOKEN"
        )
    with explained_push(where):
        api = HfApi()
        user = api.whoami()
        _check_role(user, destination)
        try:
            api.auth_check(destination.id, write=True)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            _check_namespace(user, destination)


def _check_role(user: Mapping[str, Any], destination: Destination) -> None:
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise HubError(
            f"{destination.id}: your token may only read: log in with `hf auth login` by one that "
            "may write"
        )


def _check_namespace(user: Mapping[str, Any], destination: Destination) -> None:
    """Refuse to create a repository where the user may create none."""
    orgs = [org for org in user.get("orgs", ()) if org.get("roleInOrg") != "read"]
    names = [str(user["name"]), *(str(org["name"]) for org in orgs)]
    if destination.namespace.lower() not in map(str.lower, names):
        raise HubError(
            f"{destination.id}: there is no such repository, and {destination.namespace} is "
            "neither you nor an organisation in which you may create one: choose one of "
            f"{', '.join(names)}, or log in as somebody else with `hf auth login`"
        )
