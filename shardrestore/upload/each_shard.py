"""Shards that go to the Hub one by one while their model is written: the disk holds one.

What is on the Hub is always ahead of what the journal says of it, as data on disk is: the
Hub confirms an object, then the journal says so and is on disk, then the shard is deleted.
Objects show nowhere until one commit names them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..hub.destination import Destination
from ..hub.upload import Upload
from ..machine.progress import Observer
from ..machine.stopwatch import Stopwatch
from ..names import UPLOADED_FILE
from ..output.acceptance import check_accepted
from ..output.publication import Move
from ..output.staging import Staging
from ..output.uploaded import UploadedFile, write_uploaded
from ..plan.layout import OutputShard
from ..runs.workspace import Workspace
from .contents import list_files, make_public, weigh
from .log import note_commit, note_uploaded, read_commit, read_uploaded_shards
from .pushed import Pushed
from .pushing import commit_model


class UploadEachShard:
    """Sends each complete shard to the Hub, deletes it here, and commits all at the end.

    Parameters
    ----------
    destination : Destination
        Repository and branch; created if missing, when pass 2 begins.
    public : bool
        Who may see a repository that is created.
    observer : Observer
    watch : Stopwatch
        Measures the phase ``upload``.
    """

    one_by_one = True
    files: Sequence[str] = (UPLOADED_FILE,)

    def __init__(
        self, destination: Destination, *, public: bool, observer: Observer, watch: Stopwatch
    ) -> None:
        self.identity: Mapping[str, object] = {
            "delete_after_upload": {"repository": destination.id, "branch": destination.branch}
        }
        self.pushed: Pushed | None = None
        """What has been committed, once ``commit`` has returned."""
        self._destination = destination
        self._public = public
        self._observer = observer
        self._watch = watch
        self._upload: Upload | None = None

    def held(self, workspace: Workspace) -> Mapping[str, str]:
        """Return the SHA-256 of each shard that the Hub has confirmed, by its name."""
        return {name: file.sha256 for name, file in read_uploaded_shards(workspace).items()}

    def check(self, workspace: Workspace) -> None:
        """Ask the Hub whether it still has what it has confirmed: it may drop such objects."""
        sent = list(read_uploaded_shards(workspace).values())
        if not sent or self.is_committed(workspace):
            return
        with self._watch.phase("upload"):
            lost = [file.name for file in self._open().find_lost(sent)]
        if lost:
            self._observer.note(
                f"{self._destination.id} no longer has {', '.join(lost)}: made and sent again"
            )
            workspace.note_lost(lost)

    def begin(self, workspace: Workspace) -> None:
        """Open the repository; finish what an earlier run has not sent, or not deleted."""
        sent = read_uploaded_shards(workspace)
        for name in sent:
            workspace.first.drop(name)
        with self._watch.phase("upload"):
            remark = self._open().remark
        if remark and not sent:  # otherwise it is this run that has made it
            self._observer.note(remark)
        waiting = [workspace.shards[number] for number in workspace.finished()]
        if waiting:
            self._observer.begin("push", sum(shard.nbytes for shard in waiting))
            try:
                for shard in waiting:
                    self.take(shard, workspace)
            finally:
                self._observer.end()

    def take(self, shard: OutputShard, workspace: Workspace) -> None:
        """Send a shard, note that the Hub has confirmed it, delete it."""
        with self._watch.phase("upload"):
            path = workspace.first.folder / shard.filename
            check_accepted(path)
            sent = self._open().send_object(shard.filename, path, self._observer.advance)
            note_uploaded(workspace.journal, sent)
            workspace.first.drop(shard.filename)

    def is_committed(self, workspace: Workspace) -> bool:
        """Whether the commit has been made and confirmed."""
        return read_commit(workspace) is not None

    def commit(self, moves: Sequence[Sequence[Move]], workspace: Workspace) -> None:
        """Commit everything at once, have the Hub confirm it, and note where the weights are."""
        pushed = read_commit(workspace)
        if pushed is None:
            with self._watch.phase("upload"):
                sent = list(read_uploaded_shards(workspace).values())
                pushed = self._commit(moves[0], workspace.first, sent)
                note_commit(workspace.journal, pushed)
        self.pushed = replace(pushed, seconds=self._watch.seconds("upload"))

    def _commit(
        self, moves: Sequence[Move], staging: Staging, sent: Sequence[UploadedFile]
    ) -> Pushed:
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
