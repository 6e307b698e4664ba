"""Inputs on the Hub, read whole and compared with the hashes that their commits list."""

from __future__ import annotations

from collections.abc import Sequence

from ..checkpoint.folder import Checkpoint
from ..hub.file import HubFile
from ..machine.executor import Control, Stage, running
from ..machine.progress import Observer
from ..machine.threads import ThreadExecutor


def hash_inputs(inputs: Sequence[Checkpoint], observer: Observer) -> int:
    """Compare the weights of inputs on the Hub with their hashes, one shard after the other.

    Returns
    -------
    int
        How many bytes were compared; those of local folders have no hash to compare with.

    Raises
    ------
    HubError
        If a shard is not what its commit lists.
    """
    sources = [shard.source for checkpoint in inputs for shard in checkpoint.shards]
    files = [source for source in sources if isinstance(source, HubFile)]
    nbytes = sum(file.nbytes for file in files)
    stage = Stage(name="inputs", open_worker=_Hasher, work=_Hasher.hash)

    def hang_up() -> None:
        for checkpoint in inputs:
            checkpoint.hang_up()

    observer.begin("inputs", nbytes)
    try:
        with running(ThreadExecutor(), stage, files, 1, observer, hang_up) as hashed:
            for _ in hashed:
                pass
    finally:
        observer.end()
    return nbytes


class _Hasher:
    """One worker that hashes files."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def hash(self, file: HubFile) -> None:
        """Compare a file with its hash."""
        file.hash_again(self._control.advance, self._control.check)
