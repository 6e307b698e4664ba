"""The metadata of a target's card: what is passed on, and that nothing in it does harm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.output.card import FIELDS, output_name, parse_card, read_card
from tests.support.examples import examples

GOOD = {"license": "mit", "language": ("en", "no"), "pipeline_tag": "text-generation"}
LINES = ["---", "license: mit", "language:", "- en", "- no", "pipeline_tag: text-generation"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("beginning", ["", "\ufeff", "\n\n"])
@pytest.mark.parametrize("last", ["---", "---  "])
def test_metadata_are_read_however_lines_end(ending: str, beginning: str, last: str) -> None:
    text = beginning + ending.join([*LINES, last, "", "# Model", "license: other", ""])
    assert parse_card(text.encode()) == GOOD


def test_words_that_yaml_takes_for_something_else_stay_texts() -> None:
    text = b"---\nlanguage: [no, on, y, 1.0]\nlicense: 2024-01-01\n---\n"
    assert parse_card(text) == {"language": ("no", "on", "y", "1.0"), "license": "2024-01-01"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Model\n",
        "license: mit\n",
        "---\nlicense: mit\n",  # no end
        "--- \n---\n",
        "---\n---\n",
        "---\n- license: mit\n---\n",
        "---\n  license: mit\n---\n",
        "---\n{license: mit}\n---\n",
        "text\n---\nlicense: mit\n---\n",
        "---\nlicense:\n---\n",
        "---\nlicense: null\n---\n",
        "---\nlicense: {name: mit}\n---\n",
        "---\nlicense: [[mit]]\n---\n",
        "---\nlicense: []\n---\n",
        "---\nlicense: [mit\n---\n",
        '---\nlicense: "a\\nb"\n---\n',
        '---\nlicense: "\\u001b[2J"\n---\n',
        '---\nlicense: "\\UFFFFFFFF"\n---\n',
        "---\nlicense: &a [*a]\n---\n",
        "---\nlicense: *a\n---\n",
        "---\nlicense: " + "x" * 201 + "\n---\n",
        "---\nlicense: [" + "x, " * 201 + "]\n---\n",
        "---\nlicense: " + "[" * 10_000 + "\n---\n",
        "---\nLICENSE: mit\n---\n",
    ],
)
def test_odd_documents_count_as_none(text: str) -> None:
    assert parse_card(text.encode()) == {}


def test_an_odd_entry_costs_itself_alone_and_the_last_of_two_counts() -> None:
    text = b"---\nlicense: [\nlanguage: en\nmodel-index:\n  - {\nlanguage: de\ntags: [x]\n---\n"
    assert parse_card(text) == {"language": "de"}


def test_bytes_that_are_no_utf8_are_read_as_far_as_they_are() -> None:
    assert parse_card(b"---\nlicense: mit\ntags: \xff\xfe\n---\n\xff") == {"license": "mit"}


def test_thousands_of_results_before_a_licence_are_skipped(tmp_path: Path) -> None:
    results = "".join(f"  - {{value: {number}}}\n" for number in range(30_000))
    (tmp_path / "README.md").write_text(f"---\nmodel-index:\n{results}license: mit\n---\n")
    assert read_card(tmp_path / "README.md") == {"license": "mit"}


def test_only_the_beginning_of_an_endless_card_is_read(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(b"---\nlicense: mit\n")
    with open(path, "r+b") as file:
        file.truncate(1 << 40)
    assert read_card(path) == {}


def test_merge_keys_do_not_grow() -> None:
    """Of 2^60 keys, had they been followed."""
    merges = "".join(f"  a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
    started = time.process_time()
    parse_card(f"---\nlicense:\n  a0: &a0 {{x: y}}\n{merges}---\n".encode())
    assert time.process_time() - started < 30  # not: will it ever end


@examples(75)
@given(
    st.sampled_from(sorted(FIELDS)),
    st.text("[]{}\"'&*!|>%@`#:,- \n\r\tab0?<\\~\u2028\x07é", max_size=60),
)
def test_whatever_an_entry_holds_the_answer_is_texts_or_nothing(key: str, value: str) -> None:
    for found in parse_card(f"---\n{key}: {value}\n---\n".encode()).values():
        for text in (found,) if isinstance(found, str) else found:
            assert text.isprintable()
            assert 0 < len(text) <= 200


@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_no_error(text: bytes) -> None:
    parse_card(b"---\nlicense: " + text)
    parse_card(b"---\n" + text + b"\n---\n")


@given(st.lists(st.from_regex(r"(README|readme)(\.target){0,3}\.md", fullmatch=True), unique=True))
def test_cards_move_aside_without_taking_the_place_of_another(names: list[str]) -> None:
    moved = list(map(output_name, names))
    assert len({*moved}) == len(names)
    assert "readme.md" not in map(str.lower, moved)


@pytest.mark.parametrize("name", ["LICENSE", "docs/README.md", "README", "README.md.bak"])
def test_other_files_keep_their_names(name: str) -> None:
    assert output_name(name) == name
