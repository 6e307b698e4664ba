"""What a user must know of a restoration that goes on nevertheless: notes.

A fault is an error and stops; a figure is one of a table. A note is in between: it is found
where something was opened, paired or counted, and travels with the result into the plan, the
summary, ``--json``, the record, the page and the card. It depends on inputs and options alone,
so that a resumed run says the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that must not be missed."""

    kind: str
    """A short word that programs may compare: it stays while the text is improved."""
    text: str
    """One sentence: what, the numbers and, where there is one, the next step.

    It calls the models base and target and names no folder: cards and pages are shared.
    """


def unite_notes(*parts: Iterable[Note]) -> tuple[Note, ...]:
    """Return all notes, each once, in the order in which they were found."""
    return tuple(dict.fromkeys(note for part in parts for note in part))


def parse_notes(value: Any) -> tuple[Note, ...]:
    """Read the ``notes`` of a document; one that was written before there were any has none.

    Raises
    ------
    ValueError
        With what was expected, if it is anything else.
    """
    entries = [] if value is None else value
    if not isinstance(entries, list) or not all(map(_is_note, entries)):
        raise ValueError("a list of notes, each with the texts kind and text")
    return tuple(Note(kind=entry["kind"], text=entry["text"]) for entry in entries)


def _is_note(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(key), str) for key in ("kind", "text")
    )
