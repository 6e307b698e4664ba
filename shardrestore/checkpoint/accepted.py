"""What is wrong about a checkpoint's files, and is accepted because libraries accept it: notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..names import INDEX_FILE, SINGLE_FILE
from ..notes import Note
from .entry import show_name
from .placement import Placement
from .weights import NAMED_WEIGHTS, WeightFiles


def note_accepted(
    role: str, found: WeightFiles, shards: Sequence[str], placement: Placement
) -> Iterator[Note]:
    """Say what was passed over, and in what an index is wrong.

    Parameters
    ----------
    role : str
        ``"base"`` or ``"target"``.
    found : WeightFiles
        As it was chosen.
    shards : sequence of str
        Files that were opened.
    placement : Placement
    """
    if found.passed_over is not None:
        yield Note(kind="passed-over", text=f"{role}: {_describe_choice(found)}")
    if found.index is None and len(shards) > 1:
        text = f"{role}: has no index; its {len(shards)} numbered shards are all read"
        yield Note(kind="no-index", text=text + _add(role, "the restored model gets an index"))
    yield from _note_stale(role, placement)
    if placement.copies:
        first = placement.copies[0]
        text = (
            f"{role}: tensors in two shards, with the same bytes: {len(placement.copies):,}, the "
            f"first {show_name(first.name)} in {show_name(first.home)} and {show_name(first.shard)}"
        )
        yield Note(kind="copies", text=text + _add(role, "the restored model has each once"))


def _describe_choice(found: WeightFiles) -> str:
    chosen, other = found.index or found.shards[0], found.passed_over or ""
    named = (chosen, other) != (SINGLE_FILE, INDEX_FILE)
    why = f"as its configuration says ({NAMED_WEIGHTS})" if named else "as transformers does"
    return f"{show_name(chosen)} is read, {why}, and {show_name(other)} beside it is not"


def _note_stale(role: str, placement: Placement) -> Iterator[Note]:
    for names, what in (
        (placement.absent, "that no shard has"),
        (placement.moved, "that are in another shard than it says"),
    ):
        if names:
            text = (
                f"{role}: its index is out of date, it names tensors {what}: {len(names):,}, the "
                f"first {show_name(names[0])}"
            )
            yield Note(kind="stale-index", text=text + _add(role, "the restored model's is right"))


def _add(role: str, of_output: str) -> str:
    return f"; {of_output}" if role == "target" else ""
