"""The header parser agrees with safetensors on every file, one exception aside.

Each test writes a file, opens it with ``safetensors.safe_open``, and demands the same
verdict and the same content from ``parse_header``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shardrestore.checkpoint.header import (
    encode_header,
    header_length,
    parse_header,
)
from shardrestore.errors import CheckpointError
from tests.support.examples import examples
from tests.support.headers import (
    ACCEPTED,
    BITS,
    REFUSED,
    REPEATED_NAMES,
    Verdict,
    composed,
    contents,
    entry,
    framed,
    ignored,
    numbers,
    pair,
    repeats_a_name,
    rewritten,
)

Judge: TypeAlias = Callable[[bytes], tuple[Verdict, Verdict]]


def ours(file: bytes) -> Verdict:
    """Read a file as a caller does: eight bytes, the header, and the size."""
    try:
        length = header_length(file[:8], len(file), "f.safetensors")
        header = parse_header(file[8 : 8 + length], len(file), "f.safetensors")
    except CheckpointError as error:
        return str(error)
    assert header.file_bytes == len(file)
    begins = [entry.begin for entry in header.tensors.values()]
    assert begins == sorted(begins)
    return contents(header)


def theirs(path: Path) -> Verdict:
    try:
        with safe_open(path, "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            tensors = {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
            return tensors, file.metadata()
    except (SafetensorError, OSError) as error:
        return str(error)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Both verdicts on a file, which must agree unless a tensor name is given twice."""
    path = tmp_path_factory.mktemp("header") / "f.safetensors"

    def verdicts(file: bytes) -> tuple[Verdict, Verdict]:
        path.write_bytes(file)
        mine, reference = ours(file), theirs(path)
        if isinstance(mine, str):
            assert mine.startswith("f.safetensors: ")
            assert mine.isprintable()
            assert len(mine) < 500
        if isinstance(mine, str) and not isinstance(reference, str):
            assert repeats_a_name(file), (mine, reference)
        else:
            assert isinstance(mine, str) == isinstance(reference, str), (mine, reference)
            assert isinstance(mine, str) or mine == reference
        return mine, reference

    return verdicts


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_safetensors_accepts_is_accepted(case: str, judge: Judge) -> None:
    mine, _ = judge(ACCEPTED[case])
    assert not isinstance(mine, str)


@pytest.mark.parametrize("case", REFUSED)
def test_what_safetensors_refuses_is_refused_with_the_reason(case: str, judge: Judge) -> None:
    file, reason = REFUSED[case]
    mine, _ = judge(file)
    assert isinstance(mine, str)
    assert reason in mine


@pytest.mark.parametrize("case", REPEATED_NAMES)
def test_a_repeated_tensor_name_is_refused_though_safetensors_accepts_it(
    case: str, judge: Judge
) -> None:
    """The one deliberate difference: which of the two entries is meant is ambiguous."""
    mine, reference = judge(REPEATED_NAMES[case])
    assert not isinstance(reference, str)
    assert isinstance(mine, str)
    assert "tensor 'a' is " in mine
    assert "given twice" in mine or case == "first_entry_broken"


@pytest.mark.parametrize("length", [100_000_000, 100_000_001])
def test_a_header_may_have_100_000_000_bytes_and_no_more(length: int, tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    raw = b"{}".ljust(length)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw)
    accepted = not isinstance(theirs(path), str)
    assert accepted == (length == 100_000_000)
    if accepted:
        assert parse_header(raw, 8 + length, "f").file_bytes == 8 + length
    else:
        with pytest.raises(CheckpointError, match="beyond the 100000000"):
            parse_header(raw, 8 + length, "f")


def test_long_and_unprintable_names_are_cut_and_escaped(judge: Judge) -> None:
    mine, _ = judge(framed(f'{{"\\n\\u001b{"x" * 10_000}":{entry("17")}}}', 4))
    assert isinstance(mine, str)
    assert "tensor '\\n\\x1bxxx" in mine
    assert "xxx... has dtype 17" in mine


def test_tensors_are_in_file_order_with_their_places() -> None:
    file = pair("4,8", "0,4", 8)
    header = parse_header(file[8:-8], len(file), "f")
    assert [(n, e.begin, e.end, e.nbytes, e.elements) for n, e in header.tensors.items()] == [
        ("b", 0, 4, 4, 4),
        ("a", 4, 8, 4, 4),
    ]
    assert header.data_start == len(file) - 8
    assert header.raw == file[8:-8]
    assert header.sha256() == hashlib.sha256(file[:-8]).hexdigest()


# Hypothesis: mutations of valid files.


@examples(120)
@given(file=rewritten())
def test_files_with_edited_bytes_get_the_verdict_of_safetensors(file: bytes, judge: Judge) -> None:
    judge(file)


@examples(120)
@given(file=composed())
def test_files_with_edited_json_get_the_verdict_of_safetensors(file: bytes, judge: Judge) -> None:
    judge(file)


@examples(80)
@given(text=numbers)
def test_numbers_get_the_verdict_of_safetensors(text: str, judge: Judge) -> None:
    judge(ignored(text))


@examples(40)
@given(file=st.binary(max_size=40) | st.binary(max_size=40).map(framed))
def test_any_bytes_get_the_verdict_of_safetensors(file: bytes, judge: Judge) -> None:
    judge(file)


# Encoding.

names = st.text(max_size=12).filter(lambda name: name != "__metadata__")
shapes = st.lists(st.integers(0, 5), max_size=4).map(lambda dims: (*dims, 8))
tensor_lists = st.lists(
    st.tuples(names, st.sampled_from(sorted(BITS)), shapes),
    max_size=5,
    unique_by=lambda tensor: tensor[0],
)
texts = st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


@examples(40)
@given(tensors=tensor_lists, metadata=texts)
def test_an_encoded_header_says_what_it_was_given(
    tensors: list[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str] | None, judge: Judge
) -> None:
    encoded = encode_header(tensors, metadata)
    assert len(encoded) % 8 == 0
    header = parse_header(encoded[8:], 8 + len(encoded[8:]) + total_bytes(tensors), "f")
    mine, reference = judge(encoded + bytes(header.file_bytes - len(encoded)))
    expected = {name: (dtype, shape) for name, dtype, shape in tensors}
    assert mine == reference == (expected, metadata)


def total_bytes(tensors: list[tuple[str, str, tuple[int, ...]]]) -> int:
    return sum(int(np.prod(shape)) * BITS[dtype] // 8 for _, dtype, shape in tensors)


def test_an_encoded_header_has_the_bytes_that_safetensors_writes() -> None:
    arrays: dict[str, np.ndarray[Any, Any]] = {
        'b\u00e9"\\/\n\x01\x7f': np.zeros((2, 3), np.float64),
        "a": np.zeros(5, np.float32),
        "z": np.zeros((), np.int32),
        "c": np.zeros((0, 4), np.uint8),
    }
    file = save(arrays, {"format": "pt\u2028"})
    raw = file[8 : 8 + header_length(file[:8], len(file), "f")]
    header = parse_header(raw, len(file), "f")
    in_order = [(name, entry.dtype, entry.shape) for name, entry in header.tensors.items()]
    assert encode_header(in_order, header.metadata) == file[: header.data_start]


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        pytest.param([("a", "U8", (1,)), ("a", "U8", (1,))], "'a' is already taken", id="twice"),
        pytest.param([("__metadata__", "U8", (1,))], "is already taken", id="reserved"),
        pytest.param([("a", "F128", (1,))], "has dtype 'F128'", id="dtype"),
        pytest.param([("a", "F4", (3,))], "12 bits, no whole bytes", id="bits"),
        pytest.param([("a", "U8", (-1, -1))], "in shape", id="negative"),
        pytest.param([("a", "U8", (2**64,))], "over 2\\*\\*64", id="overflow"),
        pytest.param([("\ud800", "U8", (1,))], "half a surrogate pair", id="surrogate"),
    ],
)
def test_a_header_that_nobody_could_read_is_not_written(
    tensors: list[tuple[str, str, tuple[int, ...]]], reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        encode_header(tensors, None)
