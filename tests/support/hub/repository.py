"""A model repository: commits, and the branches, tags and pull requests that point at them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.hub.blobs import Blob, gather_folder, is_lfs

Files = Mapping[str, "bytes | Path | Blob | None"]
"""Files by path in the repository; None takes a file away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A state of all files."""

    sha: str
    """40 hexadecimal digits."""
    message: str
    files: Mapping[str, Blob]


@dataclass(slots=True, kw_only=True)
class Repository:
    """Files with a history, as git keeps them: every commit stays readable by its sha.

    >>> first = repo.commit({"config.json": b"{}"})
    >>> repo.tag("v1")
    >>> repo.commit({"config.json": None, "model.safetensors": Path("model.safetensors")})
    """

    id: str
    """``namespace/name``"""
    private: bool = False
    """Whether it looks missing to all who have not been let in."""
    gated: bool = False
    """Whether its files, though not its description, are for those who have been let in."""
    commits: dict[str, Commit] = field(default_factory=dict)
    """By sha, oldest first."""
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[int, str] = field(default_factory=dict)
    objects: dict[str, Blob] = field(default_factory=dict)
    """LFS content that has been uploaded, by SHA-256."""
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    def commit(
        self, files: Files | Path, *, branch: str = "main", message: str = "Update files"
    ) -> str:
        """Change files of a branch, which may be ``refs/pr/1``, and return the commit's sha.

        A folder stands for all files in it. A new branch starts where ``main`` is.
        """
        changes = gather_folder(files) if isinstance(files, Path) else files
        with self._lock:
            parent = self.resolve(branch) or self.resolve("main")
            content = dict(parent.files) if parent else {}
            for path, change in changes.items():
                if change is None:
                    content.pop(path, None)
                else:
                    content[path] = Blob.of(change)
            # Not of the content, which would have to be hashed: the number makes it unique.
            seed = f"{self.id}\n{len(self.commits)}\n{message}\n{sorted(content)}"
            sha = hashlib.sha1(seed.encode()).hexdigest()
            self.commits[sha] = Commit(sha=sha, message=message, files=content)
            self._point(branch, sha)
        return sha

    def branch(self, name: str, revision: str = "main") -> str:
        """Start a branch, or move it, and return the sha it points at."""
        sha = self.sha(revision)
        self.branches[name] = sha
        return sha

    def tag(self, name: str, revision: str = "main") -> str:
        """Set a tag and return the sha it points at."""
        sha = self.sha(revision)
        self.tags[name] = sha
        return sha

    def pull_request(self, number: int | None = None, files: Files | Path | None = None) -> str:
        """Open a pull request from ``main``, change files in it, and return its revision."""
        with self._lock:
            number = number or max(self.pull_requests, default=0) + 1
            self.pull_requests[number] = self.sha("main")
            if files is not None:
                self.commit(files, branch=f"refs/pr/{number}")
        return f"refs/pr/{number}"

    def resolve(self, revision: str) -> Commit | None:
        """Return the commit that a branch, a tag, ``refs/…`` or a sha names."""
        kind, _, name = revision.removeprefix("refs/").partition("/")
        sha: str | None = revision
        if revision in self.branches or revision in self.tags:
            sha = self.branches.get(revision) or self.tags.get(revision)
        elif revision.startswith("refs/pr/"):
            sha = self.pull_requests.get(int(name)) if name.isdigit() else None
        elif revision.startswith("refs/"):
            sha = {"heads": self.branches, "tags": self.tags}.get(kind, {}).get(name)
        return self.commits.get(sha or "")

    def sha(self, revision: str = "main") -> str:
        """Return the sha that a revision stands for."""
        commit = self.resolve(revision)
        if commit is None:
            raise LookupError(f"{self.id} has no revision {revision!r}")
        return commit.sha

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Return the content of all files, for comparing: not for large ones."""
        commit = self.commits[self.sha(revision)]
        return {path: blob.read() for path, blob in commit.files.items()}

    def find_object(self, sha256: str, size_bytes: int | None = None) -> Blob | None:
        """Return LFS content, uploaded or committed, by its hash.

        The size, where given, saves hashing files that cannot be the one.
        """
        if sha256 in self.objects:
            return self.objects[sha256]
        with self._lock:
            commits = list(self.commits.values())
        for commit in reversed(commits):
            for path, blob in commit.files.items():
                if (
                    is_lfs(path, blob.size_bytes)
                    and size_bytes in (None, blob.size_bytes)
                    and blob.sha256 == sha256
                ):
                    return blob
        return None

    def _point(self, branch: str, sha: str) -> None:
        if branch.startswith("refs/pr/"):
            self.pull_requests[int(branch.removeprefix("refs/pr/"))] = sha
        else:
            self.branches[branch.removeprefix("refs/heads/")] = sha
