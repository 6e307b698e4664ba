"""What is said of names that are tied, or should be: errors and notes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from ..checkpoint.config import says_tied
from ..checkpoint.entry import show_name
from ..checkpoint.model import Model
from ..notes import Note
from .filter import Filter
from .problems import Problem
from .regions import is_input_embedding, is_output_head
from .ties import Apart, Ties


def refuse_untied(target: Model, ties: Ties) -> dict[str, Problem]:
    """Return heads that differ from their embedding although the configuration ties them."""
    if not says_tied(target.config):
        return {}
    return {
        apart.name: Problem(
            name=apart.name,
            kind="tied",
            text=f"differs from {show_name(apart.original)} near element {apart.element}, "
            f"although config.json of {target.where} ties them",
        )
        for apart in ties.apart
        if apart.is_head
    }


def explain_untied(problems: Sequence[Problem]) -> str:
    """Return the message that refuses heads which differ from their embedding."""
    lines = [f"{show_name(problem.name)} {problem.text}" for problem in problems]
    return "\n".join(lines) + ": correct tie_word_embeddings, or leave both out with --exclude"


def note_apart(target: Model, ties: Ties, taken: Collection[str]) -> Iterator[Note]:
    """Say what differs although its name says that it does not, and nothing else decides."""
    for apart in ties.apart:
        decided = apart.is_head and says_tied(target.config) is not None
        if not decided and (apart.name in taken or apart.original in taken):
            yield Note(kind="untied", text=_describe_apart(apart))


def _describe_apart(apart: Apart) -> str:
    names = f"{show_name(apart.name)} differs from {show_name(apart.original)}"
    if not apart.is_head:
        return f"{names} near element {apart.element}, whose copy its name makes it: both count."
    return (
        f"{names} near element {apart.element}, and the target's config.json does not say whether "
        "they are tied: both count. A library that ties them loads one of the two in the place of "
        "both: set tie_word_embeddings to false there if they are not tied."
    )


def note_patterns(
    leaders: Mapping[str, str], admitted: Filter, taken: Collection[str]
) -> Iterator[Note]:
    """Say where patterns would part what is tied."""
    for name, leader in leaders.items():
        if admitted.admits_name(name) == admitted.admits_name(leader):
            continue
        names = f"{show_name(name)} is tied to {show_name(leader)}"
        if name in taken:
            text = (
                f"{names}, and is restored with it although --include or --exclude leave it out: "
                "leave out both, or neither."
            )
        elif admitted.admits_name(name):
            text = f"{names}, and is left out with it although --include or --exclude admit it."
        else:
            continue
        yield Note(kind="tied", text=text)


def note_silence(target: Model, twins: Mapping[str, str]) -> Iterator[Note]:
    """Say that weights are taken for tied against the configuration's word.

    `twins` maps further names of tied weights to the first.
    """
    if says_tied(target.config) is not False:
        return
    for name, leader in twins.items():
        if is_output_head(name) and is_input_embedding(leader):
            yield Note(
                kind="tied",
                text=f"{show_name(name)} is equal to {show_name(leader)} in every "
                "byte, although the target's config.json says that the head is not tied: they "
                "count once, and stay equal.",
            )
