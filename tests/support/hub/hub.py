"""The loopback Hub: repositories, users, faults and a log, served on two ports of 127.0.0.1."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.hub.faults import ArmedFault, Fault
from tests.support.hub.messages import Request, Response
from tests.support.hub.reading import READING
from tests.support.hub.repository import Files, Repository
from tests.support.hub.routing import Router
from tests.support.hub.server import Server
from tests.support.hub.storage import STORAGE, sign_path
from tests.support.hub.writing import WRITING

ROUTES = Router.merge(READING, WRITING)


class Hub:
    """What huggingface.co is to the client, as far as models go, on this machine.

    >>> with Hub() as hub:
    ...     repository = hub.create("acme/base", {"config.json": b"{}"})
    ...     hub.fail(Fault(path="config", status=503, times=1))

    Parameters
    ----------
    redirects
        Whether LFS files are sent from `storage`, to which ``resolve`` then redirects.
    page_size
        Entries of a tree in one page.
    everyone
        The user that unknown tokens belong to; by default they are refused.
    port
        Of the Hub; any free one by default.
    """

    def __init__(
        self,
        *,
        redirects: bool = False,
        page_size: int = 1000,
        everyone: str | None = None,
        port: int = 0,
    ) -> None:
        self.redirects = redirects
        self.page_size = page_size
        self.everyone = everyone
        self.repositories: dict[str, Repository] = {}
        self.tokens: dict[str, str] = {}
        """User by token."""
        self.readers_only: set[str] = set()
        """Users whose token may only read."""
        self.log: list[Request] = []
        """Requests to both servers, each noted before its answer is sent."""
        self.signing_key = "0"
        self.link_seconds = 3600
        """For how long links to `storage` are good."""
        self.server = Server("hub", self, self._answer, port)
        self.storage = Server("storage", self, self._answer_storage)
        self._readers: set[tuple[str, str]] = set()
        self._writers: set[tuple[str, str]] = set()
        self._faults: list[ArmedFault] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="loopback-hub-")
        self.folder = Path(self._folder.name)
        self.server.start()
        self.storage.start()
        return self

    def stop(self) -> None:
        """Close both servers, even if they are; what has been uploaded is gone."""
        self.server.stop()
        self.storage.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def create(
        self, id: str, files: Files | Path, *, private: bool = False, gated: bool = False
    ) -> Repository:
        """Create a repository of files, or of all files of a folder, on ``main``."""
        repository = Repository(id=id, private=private, gated=gated)
        repository.commit(files, message="initial commit")
        self.repositories[id] = repository
        return repository

    def allow(self, user: str, where: str, *, write: bool = False) -> None:
        """Let a user into a repository or a namespace; all own that of their name."""
        self._readers.add((user, where))
        if write:
            self._writers.add((user, where))

    def lets_read(self, user: str | None, id: str) -> bool:
        """Tell whether a user may see a private repository, or the files of a gated one."""
        return user is not None and self._is_among(self._readers, user, id)

    def lets_write(self, user: str, where: str) -> bool:
        """Tell whether a user may write to a repository or namespace."""
        return self._is_among(self._writers, user, where)

    def namespaces(self, user: str) -> list[str]:
        """Return the organisations in which a user may create repositories."""
        return sorted(where for who, where in self._writers if who == user and "/" not in where)

    def _is_among(self, grants: set[tuple[str, str]], user: str, where: str) -> bool:
        namespace = where.partition("/")[0]
        return user == namespace or not grants.isdisjoint({(user, where), (user, namespace)})

    def sign(self, path: str) -> str:
        """Return the address of a path on the storage server, good for `link_seconds`."""
        expires = int(time.time()) + self.link_seconds
        return self.storage.url + sign_path(path, self.signing_key, expires)

    def expire_links(self) -> None:
        """Make the storage server refuse all links that were handed out so far."""
        self.signing_key += "0"

    def fail(self, fault: Fault) -> ArmedFault:
        """Let a fault strike from now on; of several, the one that was added first."""
        armed = ArmedFault(fault)
        with self._lock:
            self._faults.append(armed)
        return armed

    def heal(self) -> None:
        """Take all faults away."""
        with self._lock:
            self._faults.clear()

    def find_fault(self, request: Request) -> Fault | None:
        with self._lock:
            return next((armed.fault for armed in self._faults if armed.strikes(request)), None)

    def note(self, request: Request) -> None:
        with self._lock:
            self.log.append(request)

    def requests(
        self, path: str = "", *, method: str | None = None, server: str | None = None
    ) -> list[Request]:
        """Return the requests so far whose path the regular expression is found in."""
        with self._lock:
            log = list(self.log)
        return [
            request
            for request in log
            if re.search(path, request.path)
            and method in (None, request.method)
            and server in (None, request.server)
        ]

    def bytes_sent(self, path: str = "") -> int:
        """Return how many bytes of the files whose path matches have been sent."""
        return sum(r.sent_bytes for r in self.requests(path, method="GET"))

    def forget(self) -> None:
        """Empty the log."""
        with self._lock:
            self.log.clear()

    def environment(self, folder: Path, token: str | None = None) -> dict[str, str]:
        """Return the environment of a child process to which this is the Hub.

        Its cache and token lie in the folder, where those of the fixture `hub_client` do if it
        is ``tmp_path``; nothing of the caller's own set-up of the Hub is handed down.
        """
        own = ("HF_", "HUGGING", "TRANSFORMERS_")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(own) and "proxy" not in name.lower()
        }
        variables = client_environment(self.url, folder / "huggingface")
        if token is not None:
            variables["HF_TOKEN"] = token
        return kept | variables

    def _answer(self, request: Request) -> Response:
        return ROUTES.answer(self, request)

    def _answer_storage(self, request: Request) -> Response:
        return STORAGE.answer(self, request)


def client_environment(url: str, home: Path) -> dict[str, str]:
    """Return the variables that point huggingface_hub at an address, read when it is imported."""
    return {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": "127.0.0.1",
    }
