"""Serves folders as a Hub until interrupted.

The command is ``python -m tests.support.hub acme/base=path/to/folder``. Several folders may
be given, and branches of a repository as ``acme/sft@v1=path``. It prints the variables that
point a shell at it. Every token belongs to the user "me", who may push to ``me/…`` and to the
namespaces of what is served; what has been pushed is gone with the Hub.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import tempfile
import threading
from pathlib import Path

from tests.support.hub.blobs import gather_folder
from tests.support.hub.hub import Hub, client_environment


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.hub", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="NAMESPACE/NAME[@BRANCH]=FOLDER")
    parser.add_argument("--redirect", action="store_true", help="send files from a second server")
    parser.add_argument("--port", type=int, default=0, help="any free one by default")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        match = re.fullmatch(r"[^/=@]+/[^/=@]+(@[^=]+)?=(.+)", folder)
        if match is None or not Path(match[2]).is_dir():
            parser.error(f"{folder!r} is not NAMESPACE/NAME[@BRANCH]=FOLDER with a folder")
    return arguments


def add_folder(hub: Hub, argument: str) -> None:
    """Make a folder the whole content of a repository's branch."""
    name, _, folder = argument.partition("=")
    id, _, branch = name.partition("@")
    files = gather_folder(Path(folder).resolve())
    if id not in hub.repositories:
        hub.create(id, {} if branch else files)
    if branch:
        repository = hub.repositories[id]
        old = repository.commits[repository.branch(branch)].files
        repository.commit({**dict.fromkeys(old), **files}, branch=branch)


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up after itself
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="loopback-hub-client-") as folder,
        Hub(redirects=arguments.redirect, everyone="me", port=arguments.port) as hub,
    ):
        for argument in arguments.folders:
            add_folder(hub, argument)
        for id in hub.repositories:
            hub.allow("me", id.partition("/")[0], write=True)
        variables = client_environment(hub.url, Path(folder) / "huggingface")
        for name, value in {**variables, "HF_TOKEN": "hf_me"}.items():
            print(f"export {name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
