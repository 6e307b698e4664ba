"""``SHA256SUMS``: what coreutils read and write, byte for byte."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.errors import CheckpointError
from shardrestore.output.checksum import encode_checksums, hash_file, parse_checksums

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0")
    | st.sampled_from("\\\n\r *")
    | st.sampled_from([chr(0xDC80 + byte) for byte in range(128)]),
    min_size=1,
).filter(lambda name: os.fsdecode(os.fsencode(name)) == name)
CHECKSUMS = st.dictionaries(NAMES, st.binary(min_size=32, max_size=32).map(bytes.hex))


@given(CHECKSUMS)
def test_what_is_written_is_read_back(checksums: dict[str, str]) -> None:
    assert parse_checksums(encode_checksums(checksums), "here") == checksums


@given(CHECKSUMS)
def test_every_name_has_one_line_in_order(checksums: dict[str, str]) -> None:
    lines = encode_checksums(checksums).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(checksums)
    assert list(parse_checksums(encode_checksums(checksums), "")) == sorted(checksums)


@given(st.binary(max_size=300))
def test_any_bytes_are_checksums_or_an_error_that_says_where(text: bytes) -> None:
    try:
        parse_checksums(text, "here")
    except CheckpointError as error:
        assert str(error).startswith("here: line ")  # noqa: PT017


@pytest.mark.parametrize("nbytes", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_of_any_size_has_its_hash(tmp_path: Path, nbytes: int) -> None:
    content = os.urandom(nbytes)
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_hash_can_be_stopped_before_each_block(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    calls: list[None] = []
    hash_file(tmp_path / "file", lambda: calls.append(None))
    assert len(calls) == 3


@pytest.mark.parametrize(
    "line",
    ["nonsense", "ab" * 31 + "  short", "ab" * 32 + " one space", "ab" * 32 + "  ", "ab" * 32],
)
def test_a_line_that_is_none_is_named_by_its_number(line: str) -> None:
    text = f"{'cd' * 32}  good\n{line}\n".encode()
    with pytest.raises(CheckpointError, match=r"^SUMS: line 2 is no checksum and name$"):
        parse_checksums(text, "SUMS")
