"""What is brought to disk before the passes read it, and what they read from afar instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.folder import Checkpoint
from ..checkpoint.model import Model
from ..checkpoint.source import Fetchable
from ..hub.limits import saying
from ..machine.executor import Control, Stage, running
from ..machine.progress import Observer
from ..machine.stopwatch import Stopwatch
from ..machine.threads import ThreadExecutor
from .content import ContentCheck, Hashed

Need = tuple[Path, int]
"""A place and the bytes that it will take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """What two inputs lack on disk."""

    files: tuple[Fetchable, ...]
    """What is to be downloaded, the largest first."""
    needs: Mapping[str, Need]
    """Folder of the cache, and the bytes it will take, of each input by its address."""
    streams: bool
    """Whether weights are read from afar."""
    hashed: tuple[Hashed, ...]
    """What comes from the Hub, and is on disk when all is downloaded."""
    remarks: tuple[str, ...]
    """What the user should know of the inputs."""

    @property
    def nbytes(self) -> int:
        """Size of all files in bytes."""
        return sum(nbytes for _, nbytes in self.needs.values())

    def checking(self) -> ContentCheck:
        """Return what compares the files of the Hub with their hashes, once all are on disk."""
        return ContentCheck(self.hashed)

    def carry_out(self, at_once: int, observer: Observer, watch: Stopwatch) -> None:
        """Download everything.

        Parameters
        ----------
        at_once : int
            Files that are downloaded at once.
        observer : Observer
        watch : Stopwatch
            Measures the phase ``download``, if there is anything to download.

        Raises
        ------
        HubError
            What arrived before is kept where it is.
        """
        for remark in self.remarks:
            observer.note(remark)
        if not self.files:
            return

        observer.begin("download", self.nbytes)
        try:
            with watch.phase("download"):
                _fetch_all(self.files, at_once, observer)
        finally:
            observer.end()


def _fetch_all(files: Sequence[Fetchable], at_once: int, observer: Observer) -> None:
    """Fetch files on threads that are abandoned after a failure or an interruption.

    A download waits for its server as long as huggingface_hub has patience, a minute
    and more; a user who has pressed Ctrl-C does not. An abandoned one ends with its next
    bytes, or with the process.
    """
    executor = ThreadExecutor(abandons=True, advice="raise the limit (`ulimit -u`)")
    stage = Stage(name="download", open_worker=_Fetcher, work=_Fetcher.fetch)
    with running(executor, stage, files, at_once, observer) as fetched:
        for _ in fetched:
            pass


class _Fetcher:
    """One worker that downloads files."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def fetch(self, file: Fetchable) -> None:
        """Bring a file to disk."""
        with saying(self._control.note):
            file.fetch(self._control.advance)


def plan_downloads(
    base: Model, target: Model, streamed: frozenset[str], *, side_files: bool
) -> Downloads:
    """Find what is not on disk.

    Parameters
    ----------
    base, target : Model
        In memory there is nothing to download.
    streamed : frozenset of str
        Roles, ``base`` and ``target``, of what is not downloaded.
    side_files : bool
        Whether those of the target are needed.
    """
    files: list[Fetchable] = []
    needs: dict[str, Need] = {}
    hashed: list[Hashed] = []
    afar: list[str] = []
    inputs = {"base": base, "target": target}
    checkpoints = {role: one for role, one in inputs.items() if isinstance(one, Checkpoint)}
    for role, checkpoint in checkpoints.items():
        wanted: list[Fetchable] = [shard.source for shard in checkpoint.shards]
        if role in streamed:
            if not all(file.on_disk for file in wanted):
                afar.append(f"{role} {checkpoint.where}")
            wanted = [file for file in wanted if file.on_disk]
        if role == "target" and side_files:
            wanted += checkpoint.side_files.copied
        hashed += [file for file in wanted if isinstance(file, Hashed)]
        missing = [file for file in wanted if not file.on_disk]
        if missing:
            address = f"{role} {checkpoint.location.identity()['path']}"
            needs[address] = checkpoint.location.folder, sum(file.nbytes for file in missing)
            files += missing
    return Downloads(
        files=tuple(sorted(files, key=lambda file: -file.nbytes)),
        needs=needs,
        streams=bool(afar),
        hashed=tuple(hashed),
        remarks=(
            *(one.location.remark for one in checkpoints.values() if one.location.remark),
            *_remark_on_streams(afar),
        ),
    )


def _remark_on_streams(afar: Sequence[str]) -> Iterator[str]:
    if afar:
        yield (
            f"{', '.join(afar)}: weights are read from the Hub as they are needed, so they are not "
            "compared with their SHA-256: `shardrestore verify --inputs` does that"
        )


def unite_downloads(parts: Sequence[Downloads]) -> Downloads:
    """Return what several runs will download: what they share is downloaded once."""
    needs: dict[str, Need] = {}
    for part in parts:
        needs |= part.needs
    return Downloads(
        files=tuple(file for part in parts for file in part.files),
        needs=needs,
        streams=any(part.streams for part in parts),
        hashed=tuple(file for part in parts for file in part.hashed),
        remarks=tuple(remark for part in parts for remark in part.remarks),
    )
