"""How a repository is named: ``org/name``, ``org/name@revision``, ``hf://…``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import RequestError
from .endpoint import show_endpoint, without_password

HUB_ADDRESS = "hf://"
"""Beginning of the path that names a repository at a commit in records."""

_LIKE_A_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+(@.+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A model repository, at a revision."""

    id: str
    """``namespace/name``."""
    revision: str | None
    """Branch, tag, commit or ``refs/pr/N`` as it was asked for; None for the default branch."""

    @property
    def name(self) -> str:
        """The last part of its id, with the revision: unambiguous as the name of a folder."""
        name = self.id.partition("/")[2]
        return name if self.revision is None else f"{name}@{self.revision.replace('/', '-')}"

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"


def looks_like_repository(text: str) -> bool:
    """Whether a text may name a repository as well as a path: ``org/name``."""
    return _LIKE_A_REPOSITORY.fullmatch(text) is not None


def parse_repository(text: str) -> Repository | None:
    """Return the repository that a text names; None if it can only be a path.

    Raises
    ------
    RequestError
        If it is an address on the Hub, but not of a model's repository.

    Examples
    --------
    >>> parse_repository("acme/sft@refs/pr/1")
    Repository(id='acme/sft', revision='refs/pr/1')
    """
    from huggingface_hub import constants, parse_hf_uri

    address = text.startswith((constants.HF_PROTOCOL, "https://", "http://"))
    if not address and not looks_like_repository(text):
        return None
    try:
        uri = parse_hf_uri(
            text if address else constants.HF_PROTOCOL + text, endpoint=constants.ENDPOINT
        )
    except ValueError as error:  # ``HfUriError``, and what urllib says of "http://[x"
        if not address:
            return None
        shown = without_password(text)
        reason = str(error).replace(text, shown).replace(constants.ENDPOINT, show_endpoint())
        raise RequestError(f"{shown}: not an address on the Hub: {reason}") from error
    if uri.type != "model":
        raise RequestError(f"{without_password(text)}: a {uri.type} on the Hub, not a model")
    if uri.path_in_repo:
        raise RequestError(
            f"{without_password(text)}: names {uri.path_in_repo!r} inside {uri.id}: name the "
            "repository alone; in a revision write %2F for a slash"
        )
    return Repository(id=uri.id, revision=uri.revision)
