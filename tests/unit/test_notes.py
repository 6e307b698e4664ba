"""Notes: read back strictly, united without repetition."""

from __future__ import annotations

from typing import Any

import pytest

from shardrestore.documents import to_json
from shardrestore.notes import Note, parse_notes, unite_notes

FIRST, SECOND = Note(kind="one", text="The first."), Note(kind="two", text="The second.")


def test_notes_are_read_back_as_they_were_written() -> None:
    assert parse_notes(to_json((FIRST, SECOND))) == (FIRST, SECOND)


def test_a_document_from_before_there_were_notes_has_none() -> None:
    assert parse_notes(None) == ()


@pytest.mark.parametrize(
    "value", [{}, "text", [None], ["text"], [{}], [{"kind": "x"}], [{"kind": 1, "text": "x"}]]
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a list of notes"):
        parse_notes(value)


def test_each_note_is_kept_once_in_the_order_in_which_it_was_found() -> None:
    assert unite_notes((SECOND,), (FIRST, SECOND), ()) == (SECOND, FIRST)
