"""What an unfinished run keeps, so that it can be resumed.

In the hidden folder of its first output: the journal, and the profile of its scan.
In those of all outputs: the shards that are complete; but those that the Hub has
confirmed, of which the journal alone tells.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from ..checkpoint.folder import Checkpoint
from ..documents import to_json
from ..errors import OutputError, ProfileError
from ..names import JOURNAL_FILE, SCAN_FILE
from ..output.admission import exists
from ..output.staging import Move, Staging
from ..output.uploaded import UploadedFile
from ..passes.profiled import remember
from ..passes.restore import Restored, ShardResult
from ..passes.scan import Scan
from ..profile.file import Profile
from ..selection.histogram import Histogram
from .journal import JOURNAL_FORMAT, Journal, find_difference
from .pushed import Pushed
from .session import Session


class Recovery:
    """The journal of a run, and what it says has been done.

    Parameters
    ----------
    session : Session
    stagings : sequence of Staging
        One for each output. What an earlier run left in them is kept if this run
        may go on with it, and removed otherwise.
    identity : mapping
        What must be the same for a run to go on besides inputs and options, as JSON values.

    Raises
    ------
    OutputError
        If an unfinished run of other inputs or options is to be resumed.
    """

    def __init__(
        self,
        session: Session,
        stagings: Sequence[Staging],
        identity: Mapping[str, object],
    ) -> None:
        self._session = session
        self._stagings = stagings
        self._identity = identity
        self._journal = Journal(stagings[0].folder / JOURNAL_FILE)
        self._names = [shard.filename for shard in session.work.shards]
        self.resumes = self._journal.identity is not None
        self.has_scan = False
        """Whether the scan is kept, whole."""
        self._refuse_other_sweeps()
        if self.resumes:
            self._check_identity()
        if self.moves is None:
            for staging in stagings:
                staging.refuse_replaced()
            self._clear()

    def _refuse_other_sweeps(self) -> None:
        """Refuse an output whose unfinished run is kept with another one than our first."""
        first = self._stagings[0].output.name
        for staging in self._stagings:
            identity = Journal(staging.folder / JOURNAL_FILE).identity
            kept_with = (identity or {}).get("first", staging.output.name)
            if identity is not None and kept_with != first:
                raise OutputError(
                    f"{staging.output}: holds part of an unfinished run that is kept with "
                    f"{kept_with}: repeat the command it was started with, or start anew with "
                    "--overwrite, without --resume"
                )

    def _check_identity(self) -> None:
        difference = find_difference(self._journal.identity, self._describe())
        if difference:
            raise OutputError(
                f"{self._stagings[0].output}: holds an unfinished run of other inputs or options: "
                f"{difference}: repeat the command it was started with, or start anew with "
                "--overwrite, without --resume"
            )

    def _clear(self) -> None:
        done = [self._names[number] for number in self.finished]
        for staging in self._stagings:
            staging.clear(keep=[*done, JOURNAL_FILE, SCAN_FILE] if self.resumes else [])

    def _describe(self) -> dict[str, Any]:
        session, request = self._session, self._session.request
        return {
            "format": JOURNAL_FORMAT,
            "base": _identify(session.base),
            "target": _identify(session.target),
            "models": [
                request.record(goal.region.name, goal.strategy, goal.percent)
                for goal in session.work.goals
            ],
            "checksum": request.checksum,
            **self._identity,
        }

    @property
    def begun(self) -> bool:
        """Whether there is anything to go on with."""
        return self._journal.identity is not None

    @property
    def finished(self) -> dict[int, ShardResult]:
        """What was done in each shard that is complete: in all outputs, or on the Hub."""
        numbers, uploaded = {name: n for n, name in enumerate(self._names)}, self.uploaded
        with self._reading():
            return {
                numbers[name]: [_decode(part) for part in parts]
                for name, parts in self._journal.find("shard")
                if name in uploaded or self._is_staged(numbers[name])
            }

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Name the journal if a line of it cannot be meant."""
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise OutputError(
                f"{self._journal.path}: damaged: start anew with --overwrite, without --resume"
            ) from error

    def _is_staged(self, number: int) -> bool:
        """Whether a shard of which the journal tells is still there, in every output."""
        shard = self._session.work.shards[number]
        paths = [staging.folder / shard.filename for staging in self._stagings]
        return all(path.is_file() and path.stat().st_size == shard.nbytes for path in paths)

    @property
    def moves(self) -> list[list[Move]] | None:
        """The renames that publish each output; None before all of them are prepared."""
        published = self._journal.publication
        if published is None:
            return None
        with self._reading():
            prepared = [[_parse_move(*move) for move in moves] for moves in published]
            if len(prepared) < len(self._stagings):  # more, if outputs have been tidied up already
                raise ValueError("an output is missing")
            return prepared

    @property
    def uploaded(self) -> dict[str, UploadedFile]:
        """Shards that the Hub has confirmed, in order; not those that it has lost since."""
        files: dict[str, UploadedFile] = {}
        with self._reading():
            for line in self._journal.lines:
                if "uploaded" in line:
                    sent = UploadedFile.parse(line["uploaded"])
                    files[sent.name] = sent
                for name in line.get("lost", ()):
                    files.pop(name, None)
            order = {name: n for n, name in enumerate(self._names)}
            return dict(sorted(files.items(), key=lambda item: order[item[0]]))

    @property
    def commit(self) -> Pushed | None:
        """What ``note_commit`` has noted; None before."""
        found = self._journal.find("commit")
        if not found:
            return None
        with self._reading():
            return Pushed.parse(self._stagings[0].output, found[-1])

    def find_scan(self) -> Profile | None:
        """Open what an earlier run has scanned; None if there is nothing, or it is damaged."""
        path = self._stagings[0].folder / SCAN_FILE
        if self.resumes and exists(path):
            with suppress(ProfileError):
                profile = Profile(path)
                self.has_scan = True
                return profile
        return None

    def note_scan(self, scan: Scan) -> None:
        """Keep a scan, so that it is not repeated."""
        session, lead = self._session, self._stagings[0]
        pairs = {segment.pair.name: segment.pair for segment in scan.segments}
        inputs = {"base": session.base.identity(), "target": session.target.identity()}
        remember(
            lead.unfinished_path(SCAN_FILE),
            scan,
            list(pairs.values()),
            inputs,
            session.request.scoring,
        )
        lead.complete(SCAN_FILE)
        self.has_scan = True

    def begin(self) -> None:
        """Write who runs: from here on it can be resumed.

        In the other outputs, that their run is kept with the first.
        """
        for staging in self._stagings[1:]:
            Journal(staging.folder / JOURNAL_FILE).begin({"first": self._stagings[0].output.name})
        self._journal.begin(self._describe())

    def note_shard(self, number: int, result: ShardResult) -> None:
        """Note that a shard is complete and on disk in all outputs."""
        self._journal.append({"shard": [self._names[number], [_encode(part) for part in result]]})

    def note_uploaded(self, file: UploadedFile) -> None:
        """Note that the Hub has confirmed a shard: it may leave the disk."""
        self._journal.append({"uploaded": to_json(file)})

    def forget(self, files: Sequence[UploadedFile]) -> None:
        """Note that the Hub has lost shards: they are made again, and what follows on them."""
        prepared = self.moves is not None
        self._journal.append({"lost": [file.name for file in files]})
        if prepared:
            self._clear()

    def note_publish(self, moves: Sequence[Sequence[Move]]) -> None:
        """Note that everything is on disk, or on the Hub, and what is left are renames.

        And before them, for shards on the Hub, the commit.
        """
        self._journal.append({"publish": moves})

    def note_commit(self, pushed: Pushed) -> None:
        """Note that the Hub has confirmed the commit that holds the model."""
        self._journal.append({"commit": pushed.document()})


def _identify(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what must be the same for a run to go on: weights, and what lies beside them."""
    shards = {
        shard.filename: {**shard.source.identity(), "header_sha256": shard.header.sha256()}
        for shard in checkpoint.shards
    }
    side_files = {file.name: file.nbytes for file in checkpoint.side_files}
    return {"shards": shards, "side_files": side_files}


def _parse_move(source: object, target: object) -> Move:
    if not (isinstance(source, str) and isinstance(target, str)):
        raise TypeError("not a rename")
    return source, target


def _encode(part: Restored) -> dict[str, Any]:
    """Return what was done for one cut in one shard as JSON values."""
    document: dict[str, Any] = {"selected": part.selected}
    if part.scores is not None:
        for kind, counts in (("exact", part.scores.exact), ("binned", part.scores.binned)):
            bins = np.flatnonzero(counts)
            document[kind] = [_pack(bins.astype(np.uint16)), _pack(counts[bins])]
    return document


def _decode(document: Mapping[str, Any]) -> Restored:
    part = Restored(selected=dict(document["selected"]))
    if "exact" in document:
        part.scores = Histogram.empty()
        for kind, counts in (("exact", part.scores.exact), ("binned", part.scores.binned)):
            bins, values = document[kind]
            counts[_unpack(bins, np.uint16)] = _unpack(values, np.uint64)
    return part


def _pack(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _unpack(text: str, dtype: Any) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype)
