"""What the journal of a run says of its upload: objects that the Hub confirmed, the commit."""

from __future__ import annotations

from ..documents import to_json
from ..output.uploaded import UploadedFile
from ..runs.journal import Entry, Journal, ShardsLost
from ..runs.workspace import Workspace
from .pushed import Pushed


def note_uploaded(journal: Journal, file: UploadedFile) -> None:
    """Note that the Hub has confirmed a shard: it may leave the disk."""
    journal.note(Entry(key="uploaded", value=to_json(file)))


def note_commit(journal: Journal, pushed: Pushed) -> None:
    """Note that the Hub has confirmed the commit that holds the model."""
    journal.note(Entry(key="commit", value=pushed.document()))


def read_uploaded_shards(workspace: Workspace) -> dict[str, UploadedFile]:
    """Return the shards that the Hub has confirmed, in order, except those it has lost since.

    Raises
    ------
    OutputError
        If a line of the journal is damaged.
    """
    files: dict[str, UploadedFile] = {}
    order = {shard.filename: number for number, shard in enumerate(workspace.shards)}
    with workspace.journal.reading():
        for step in workspace.journal.steps():
            match step:
                case Entry(key="uploaded"):
                    file = UploadedFile.parse(step.value)
                    files[file.name] = file
                case ShardsLost():
                    for name in step.names:
                        files.pop(name, None)
        return dict(sorted(files.items(), key=lambda item: order[item[0]]))


def read_commit(workspace: Workspace) -> Pushed | None:
    """Return what the Hub has confirmed as committed; None if nothing.

    Raises
    ------
    OutputError
        If the line of the journal is damaged.
    """
    found = None
    with workspace.journal.reading():
        for step in workspace.journal.steps():
            match step:
                case Entry(key="commit"):
                    found = Pushed.parse(workspace.first.output, step.value)
    return found
