"""Numbers and tables as people read them, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardrestore import Choice, DeviceFigures, Note, SideFileFigures


def format_bytes(nbytes: float) -> str:
    """Return a size in powers of 1000, as disks and files are labelled."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} B" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"


def format_device(device: DeviceFigures) -> str:
    """Return where a run computes, and why there if it was not asked for."""
    return f"{device.name}: {device.reason}" if device.reason else device.name


def describe_score(choice: Choice) -> list[tuple[str, str]]:
    """Return the fact that says what weights are ranked by, unless it is the default."""
    from shardrestore import SCORES

    if choice.score == next(iter(SCORES)):
        return []
    return [("score", f"{choice.score_label}, {SCORES[choice.score].definition}")]


def describe_files(files: SideFileFigures) -> list[tuple[str, str]]:
    """Return the facts that say what is copied of a target's other files, and what is not."""
    copied, left_out = files.copied, files.left_out
    facts = [("copies", _count(copied.files, copied.nbytes))]
    if left_out.parts:
        facts.append(("leaves out", _count(left_out.files, left_out.nbytes)))
        facts += [
            ("", f"{part.label}, {format_bytes(part.nbytes)}: {part.reason}")
            for part in left_out.largest
        ]
        more = len(left_out.parts) - len(left_out.largest)
        facts += [("", f"and {more:,} more")] if more else []
    return facts


def _count(files: int, nbytes: int) -> str:
    return f"{'1 file' if files == 1 else f'{files:,} files'}, {format_bytes(nbytes)}"


def format_mib(nbytes: int) -> str:
    """Return an amount of memory in MiB, rounded up."""
    return f"{-(-nbytes // (1 << 20)):,} MiB"


def format_share(share: float) -> str:
    """Return a share as a percentage; a small one is not rounded to zero."""
    if 0 < share < 0.0001:
        return f"{share * 100:.1g} %"
    return f"{share * 100:.2f} %"


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows with aligned columns: the first to the left, others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def format_facts(facts: Sequence[tuple[str, str]]) -> str:
    """Return labelled facts, one a line."""
    width = max(len(label) for label, _ in facts)
    return "\n".join(f"  {label:<{width}}  {text}" for label, text in facts)


def format_notes(notes: Sequence[Note]) -> str:
    """Return what must not be missed, marked."""
    return "\n".join(mark_note(note) for note in notes)


def mark_note(note: Note, models: Sequence[str] = ()) -> str:
    """Return a note in lines of 80 columns, with the models that it is of if they are given."""
    label = f"NOTE ({', '.join(models)})" if models else "NOTE"
    return textwrap.fill(
        f"{label}: {note.text}",
        80,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
