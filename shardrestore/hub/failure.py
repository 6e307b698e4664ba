"""What went wrong on the way to the Hub, as one message with the next step.

Messages are our own: those of huggingface_hub and of servers quote addresses,
whose queries are signed, and may quote headers.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import HubError
from .endpoint import show_endpoint
from .guard import guarded
from .limits import Refused

_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    RecursionError,
)
"""What huggingface_hub raises over an answer that is no JSON, or of another form than a Hub's."""

_UNKNOWN_TOKEN = (
    "the Hub does not know your token (401): correct HF_TOKEN if it is set, or log in with "
    "`hf auth login`"
)
"""HF_TOKEN comes first: while it is set, huggingface_hub does not look at a log-in."""


@contextmanager
def explained(what: str, repository: str) -> Iterator[None]:
    """Guard what huggingface_hub does; turn whatever it raises into a ``HubError``.

    Parameters
    ----------
    what : str
        What is wanted, as the beginning of the message: ``"acme/base: config.json"``.
    repository : str
        Its id.
    """
    import httpx2
    from huggingface_hub.errors import (
        FileMetadataError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionResolutionError,
        XetDownloadError,
    )

    try:
        with guarded():
            yield
    except Refused as error:
        raise HubError(f"{what}: {error}") from error
    except (HfHubHTTPError, httpx2.HTTPStatusError) as error:
        raise HubError(f"{what}: {_explain_status(error, repository)}") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, RevisionResolutionError) as error:
        raise HubError(f"{what}: {_explain_absence()}") from error
    except (httpx2.TransportError, ConnectionError, TimeoutError) as error:
        raise HubError(f"{what}: {_explain_absence(type(error).__name__)}") from error
    except (FileMetadataError, XetDownloadError) as error:
        raise HubError(
            f"{what}: the Hub's answer cannot be used ({type(error).__name__}): try again, or "
            "download it with `hf download` and name the folder"
        ) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        full = "free some space, or set HF_HOME to a larger disk"
        advice = full if error.errno in (errno.ENOSPC, errno.EDQUOT) else "look at HF_HOME"
        raise HubError(f"{what}: the Hub's cache: {reason}: {advice}") from error
    except UnicodeEncodeError as error:
        raise HubError(
            f"{what}: cannot be asked for: the name, or the token, has a character that no request "
            "may carry: correct it, or log in anew with `hf auth login`"
        ) from error
    except (httpx2.RequestError, httpx2.InvalidURL, *_UNREADABLE) as error:
        raise HubError(f"{what}: {_explain_nonsense(error)}") from error


def is_unreachable(error: BaseException) -> bool:
    """Whether an error means that the Hub cannot be reached now, not that it says no."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, (OfflineModeIsEnabled, httpx2.TransportError))


def is_absence(error: HubError) -> bool:
    """Whether an error means that no such repository is known: its name may be a path."""
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionResolutionError,
    )

    cause = error.__cause__
    return not isinstance(cause, GatedRepoError) and isinstance(
        cause,
        (
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionResolutionError,
            httpx2.TransportError,
        ),
    )


def _explain_nonsense(error: BaseException) -> str:
    return (
        f"{show_endpoint()} answers what no Hub does ({type(error).__name__}): is it the "
        "right HF_ENDPOINT, and is there a proxy or a log-in page in between?"
    )


def _explain_status(error: Exception, repository: str) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = show_endpoint()
    if isinstance(error, GatedRepoError):
        return f"gated: request access at {endpoint}/{repository}, then log in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"no such revision: {endpoint}/{repository} lists branches and tags"
    if isinstance(error, RemoteEntryNotFoundError):
        return "no such file in that commit: was it moved or deleted?"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"no such repository on {endpoint} that you may read: correct the name, or log in with "
            "`hf auth login`, if it is private"
        )
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status == 429:
        return "the Hub asks to slow down (429): wait some minutes, or log in with `hf auth login`"
    if status == 401:
        return _UNKNOWN_TOKEN
    if status == 403:
        return (
            "the Hub refuses (403): your token does not allow this: log in with "
            "`hf auth login` with an account that may"
        )
    return f"the Hub answers {status or 'with an error'}: try again later"


def _explain_absence(reason: str = "") -> str:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return (
            "not in the cache, and HF_HUB_OFFLINE forbids to look elsewhere: unset it, or "
            "download it first"
        )
    reached = f"{show_endpoint()} cannot be reached"
    return f"not in the cache, and {reached}{reason and f' ({reason})'}: check the network"


@contextmanager
def explained_push(what: str) -> Iterator[None]:
    """Guard what huggingface_hub does while it writes; turn all it raises into a ``HubError``.

    Parameters
    ----------
    what : str
        What is written, as the beginning of the message: ``"acme/restored: README.md"``.
    """
    import httpx2

    try:
        with guarded():
            yield
    except (Refused, httpx2.HTTPError, OSError, RuntimeError, *_UNREADABLE) as error:
        # Uploads fail by a RuntimeError that wraps what has happened.
        wrapped = error.__cause__ if isinstance(error, RuntimeError) else None
        raise HubError(f"{what}: {_explain_push(wrapped or error)}") from error


def _explain_push(error: BaseException) -> str:
    import httpx2
    from huggingface_hub.errors import (
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    again = "what has been sent is not sent again: try again"
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids to push: unset it"
    if isinstance(error, RevisionNotFoundError):
        return "no such branch, and none can be made of that name: choose another --revision"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"no such repository on {show_endpoint()}, or your token does not allow to see it: "
            "correct the name, or log in with `hf auth login`"
        )
    if isinstance(error, (HfHubHTTPError, httpx2.HTTPStatusError)):
        return _explain_refused_push(error.response.status_code, again)
    if isinstance(error, (httpx2.HTTPError, ConnectionError, TimeoutError)):
        name = type(error).__name__
        return f"the connection to {show_endpoint()} failed ({name}): {again}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: cannot be read: {error.strerror}"
    if isinstance(error, _UNREADABLE) and not isinstance(error, ValueError):
        return _explain_nonsense(error)
    # What the Hub says of metadata or of an object: its own words, without an address.
    said = " ".join(str(error).split())[:300]
    return f"refused ({said}): correct it, then try again"


def _explain_refused_push(status: int, again: str) -> str:
    if status == 401:
        return _UNKNOWN_TOKEN
    if status == 403:
        return (
            "you may not write there (403): log in with `hf auth login` by a token that may, or "
            "choose another repository"
        )
    if status in (409, 412):
        return f"somebody else has changed it meanwhile ({status}): {again}"
    if status in (402, 413):
        return f"there is no room for it ({status}): look at your storage on the Hub"
    if status == 429:
        return f"the Hub asks to slow down (429): wait some minutes; {again}"
    if status >= 500:
        return f"the Hub answers {status}: wait some minutes; {again}"
    return f"the Hub refuses ({status}): correct repository and --revision"
