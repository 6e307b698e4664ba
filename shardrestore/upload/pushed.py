"""What an upload has achieved: a model on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..output.uploaded import check_count, check_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A model on the Hub."""

    output: Path
    """The folder it was uploaded from."""
    repository: str
    """Its id."""
    revision: str
    """The branch."""
    commit: str
    url: str
    """Address of the commit."""
    files: int
    """Files of the model that the commit holds, those that the Hub had already included."""
    pushed_bytes: int
    """Size of these files."""
    deleted_bytes: int
    """Size of the weight files that were deleted from the folder."""
    seconds: float = field(default=0.0, compare=False)
    """Time that this call has taken for it: to look, to send, to commit, to have it confirmed."""
    pushed_before: bool = False
    """Whether an earlier call has made the commit: nothing was left to be sent."""

    def document(self) -> dict[str, Any]:
        """Return what the journal keeps of it, as JSON values."""
        return {
            "repository": self.repository,
            "revision": self.revision,
            "commit": self.commit,
            "url": self.url,
            "files": self.files,
            "pushed_bytes": self.pushed_bytes,
            "deleted_bytes": self.deleted_bytes,
        }

    @classmethod
    def parse(cls, output: Path, document: Mapping[str, Any]) -> Pushed:
        """Return what ``document`` describes; a ``ValueError`` or its like if nothing."""
        return cls(
            output=output,
            repository=check_text(document["repository"]),
            revision=check_text(document["revision"]),
            commit=check_text(document["commit"]),
            url=check_text(document["url"]),
            files=check_count(document["files"]),
            pushed_bytes=check_count(document["pushed_bytes"]),
            deleted_bytes=check_count(document["deleted_bytes"]),
        )
