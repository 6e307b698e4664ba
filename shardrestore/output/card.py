"""Model cards: what of a target's metadata outlives a restoration, and where its card goes.

A card is ``README.md``. It may begin with metadata, YAML between two lines ``---``, which
anyone may have written. A restored model has a card of its own, to which a few of the
target's facts are passed on; the target's card is kept beside it under another name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from ..checkpoint.source import LocalFile

FIELDS = frozenset(
    {"base_model", "language", "license", "license_link", "license_name", "pipeline_tag"}
)
"""Metadata that is passed on."""

Metadata = Mapping[str, str | tuple[str, ...]]

_HEAD_BYTES = 1 << 20
"""Beginning of a card that is read: the largest metadata on the Hub, thousands of benchmark
results of an embedding model, are smaller."""

_ENTRY_CHARACTERS = 1 << 14
"""Longest entry that is parsed; PyYAML takes 0.5 s for the worst of this length, brackets."""

_TEXTS, _TEXT_CHARACTERS = 200, 200
"""Most values of an entry, and the longest; a multilingual model lists 100 languages."""

_CARD_NAME = re.compile(r"(README(?:\.target)*)(\.md)", re.IGNORECASE)
_KEY = re.compile(r"(\w+)[ \t]*:(?:[ \t]|$)")


def output_name(name: str) -> str:
    """Return the name that a side file gets beside a restored model.

    It is its own, except for cards. One that is the card of a target's target moves on by
    one: no name is ever taken twice, so nothing is lost.

    Examples
    --------
    >>> [output_name(name) for name in ("LICENSE", "README.md", "README.target.md")]
    ['LICENSE', 'README.target.md', 'README.target.target.md']
    """
    card = _CARD_NAME.fullmatch(name)
    return f"{card[1]}.target{card[2]}" if card else name


def read_card(path: Path) -> Metadata:
    """Return those metadata of a card that are passed on; see ``parse_card``.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    with closing(LocalFile(path)) as source:
        text = bytearray(min(source.nbytes, _HEAD_BYTES))
        source.read_into(0, memoryview(text))
    return parse_card(bytes(text))


def parse_card(text: bytes) -> Metadata:
    r"""Return those metadata of a card that are passed on.

    Whatever is not as it should be counts as absent: metadata that do not end, an entry
    that is no YAML, a value that is neither a short printable text nor a list of such.

    Examples
    --------
    >>> parse_card(b"---\nlicense: mit\nlanguage:\n- no\ndatasets: x\n---\n# Model\n")
    {'license': 'mit', 'language': ('no',)}
    """
    metadata: dict[str, str | tuple[str, ...]] = {}
    for key, entry in _split_entries(text.decode("utf-8-sig", "replace")).items():
        value = _parse_entry(key, entry)
        if value is not None:
            metadata[key] = value
    return metadata


def _split_entries(text: str) -> dict[str, str]:
    """Return the text of each entry that is wanted; of several with one key, the last.

    A new one begins wherever a line does with a key. So the others, megabytes perhaps,
    need not be parsed, and an error in one entry costs that entry alone.
    """
    first, *lines = re.split(r"\r\n|\r|\n", text.lstrip())
    ends = [number for number, line in enumerate(lines) if line.rstrip(" \t") == "---"]
    if first.rstrip(" \t") != "---" or not ends:
        return {}
    starts = [(n, key[1]) for n, line in enumerate(lines[: ends[0]]) if (key := _KEY.match(line))]
    stops = [*(n for n, _ in starts[1:]), ends[0]][: len(starts)]
    return {
        key: "\n".join(lines[start:stop])
        for (start, key), stop in zip(starts, stops, strict=True)
        if key in FIELDS
    }


def _parse_entry(key: str, entry: str) -> str | tuple[str, ...] | None:
    import yaml

    if len(entry) > _ENTRY_CHARACTERS:
        return None
    try:
        # Texts, lists and mappings only. SafeLoader would make False of the Norwegian `no`,
        # and its merge keys (`<<`) grow exponentially.
        document = yaml.load(entry, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        return None
    value = document.get(key) if isinstance(document, dict) else None
    if isinstance(value, list):
        texts = tuple(value)
        return texts if 0 < len(texts) <= _TEXTS and all(map(_is_text, texts)) else None
    return value if _is_text(value) else None


def _is_text(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= _TEXT_CHARACTERS
        and value.isprintable()
        and value not in ("null", "~")
    )
