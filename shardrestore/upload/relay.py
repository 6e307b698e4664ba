"""Shards that go to the Hub one by one while their model is written: the disk holds one.

What is on the Hub is always ahead of what the journal says of it, as data on disk is: the
Hub confirms an object, then the journal says so and is on disk, then the shard is deleted.
Objects show nowhere until one commit names them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..hub.destination import Destination
from ..hub.upload import Upload
from ..machine.progress import Observer
from ..output.acceptance import check_accepted
from ..output.staging import Move, Staging
from ..output.uploaded import write_uploaded
from ..plan.layout import OutputShard
from ..runs.pushed import Pushed
from ..runs.recovery import Recovery
from .contents import list_files, make_public, weigh
from .pushing import commit_model


class Relay:
    """Sends each complete shard to the Hub, deletes it here, and commits all at the end.

    Parameters
    ----------
    destination : Destination
        Repository and branch; created if missing, when pass 2 begins.
    public : bool
        Who may see a repository that is created.
    observer : Observer
    """

    one_by_one = True

    def __init__(self, destination: Destination, *, public: bool, observer: Observer) -> None:
        self.identity = {
            "delete_after_upload": {"repository": destination.id, "branch": destination.branch}
        }
        self.seconds = 0.0
        self.pushed: Pushed | None = None
        """What has been committed, once it is settled."""
        self._destination = destination
        self._public = public
        self._observer = observer
        self._upload: Upload | None = None

    def resume(self, recovery: Recovery) -> None:
        """Ask the Hub whether it still has what it has confirmed: it may drop such objects."""
        sent = list(recovery.uploaded.values())
        if not sent or recovery.commit is not None:
            return
        lost = self._open().find_lost(sent)
        if lost:
            names = ", ".join(file.name for file in lost)
            self._observer.note(
                f"{self._destination.id} no longer has {names}: made and sent again"
            )
            recovery.forget(lost)

    def begin(self, shards: Sequence[OutputShard], staging: Staging, recovery: Recovery) -> None:
        """Open the repository; finish what an earlier run has not sent, or not deleted."""
        for name in recovery.uploaded:
            staging.drop(name)
        with self._timed():
            remark = self._open().remark
        if remark and not recovery.uploaded:  # otherwise it is this run that has made it
            self._observer.note(remark)
        waiting = [shards[number] for number in recovery.finished]
        waiting = [shard for shard in waiting if shard.filename not in recovery.uploaded]
        if waiting:
            self._observer.begin("push", sum(shard.nbytes for shard in waiting))
            try:
                for shard in waiting:
                    self.take(shard, staging, recovery)
            finally:
                self._observer.end()

    def take(self, shard: OutputShard, staging: Staging, recovery: Recovery) -> None:
        """Send a shard, note that the Hub has confirmed it, delete it."""
        with self._timed():
            path = staging.folder / shard.filename
            check_accepted(path)
            sent = self._open().send_object(shard.filename, path, self._observer.advance)
            recovery.note_uploaded(sent)
            staging.drop(shard.filename)

    def is_settled(self, recovery: Recovery) -> bool:
        """Whether the commit has been made and confirmed."""
        return recovery.commit is not None

    def settle(self, moves: Sequence[Move], staging: Staging, recovery: Recovery) -> None:
        """Commit everything at once, have the Hub confirm it, and note where the weights are."""
        pushed = recovery.commit
        if pushed is None:
            with self._timed():
                pushed = self._commit(moves, staging, recovery)
                recovery.note_commit(pushed)
        self.pushed = replace(pushed, seconds=self.seconds)

    def _commit(self, moves: Sequence[Move], staging: Staging, recovery: Recovery) -> Pushed:
        sent = list(recovery.uploaded.values())
        # What will be in the folder: of files that are there, those that stay.
        leaving = {source for source, _ in moves}
        staying = {
            name: path for name, path in list_files(staging.output).items() if name not in leaving
        }
        contents = make_public(staying | list_files(staging.folder))
        # Opened anew: the branch may have gone on while shards were sent.
        upload = Upload(self._destination, public=self._public)
        done = commit_model(upload, staging.output, contents, self._observer, sent)
        uploaded = upload.confirm(done, [file.name for file in sent])
        write_uploaded(staging.folder, uploaded)
        sent_bytes = sum(file.nbytes for file in sent)
        return Pushed(
            output=staging.output,
            repository=self._destination.id,
            revision=self._destination.branch,
            commit=done.id,
            url=done.url,
            files=len(contents) + len(sent),
            pushed_bytes=sum(weigh(contents).values()) + sent_bytes,
            deleted_bytes=sent_bytes,
        )

    def _open(self) -> Upload:
        if self._upload is None:
            self._upload = Upload(self._destination, public=self._public)
        return self._upload

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started
