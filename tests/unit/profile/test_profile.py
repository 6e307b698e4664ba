"""Profiles on disk: read back as written, and refused when anything about them is not right."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import shardrestore
from shardrestore import ProfileError
from shardrestore.checkpoint.header import encode_header
from shardrestore.granularity import Granularity
from shardrestore.profile.contents import Contents, ProfiledTensor
from shardrestore.profile.file import Profile, Tallies, write_profile
from shardrestore.scoring import Scoring
from shardrestore.selection.histogram import SparseHistogram
from tests.support import oracle
from tests.support.checkpoints import (
    Layout,
    Stored,
    read_tree,
    store,
    write_checkpoint,
)
from tests.support.examples import examples
from tests.support.runs import BUDGET, PROFILE, scratch

Q = "model.layers.0.self_attn.q_proj.weight"
K = "model.layers.0.self_attn.k_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
EMPTY = "model.layers.1.mlp.empty.weight"
NORM = "model.norm.weight"
IDS = "model.embeddings.position_ids"


def make_pair(folder: Path) -> None:
    """Write a pair with scores of both kinds, an empty tensor, and one that has no score."""
    rng = np.random.default_rng(5)
    base, target = {}, {}
    sizes = {Q: ("BF16", 700), K: ("BF16", 60), UP: ("F32", 300), DOWN: ("F16", 90)}
    for name, (dtype, size) in sizes.items():
        values = rng.choice(np.array([0.0, 0.5, 0.25, -2.0, 1.5]), size)
        base[name] = store(values, dtype)
        target[name] = store(values * rng.choice(np.array([1.0, 1.25, 0.9]), size), dtype)
    base[EMPTY] = target[EMPTY] = store(np.empty((0, 4)), "F32")
    base[NORM] = target[NORM] = store([1.0, 2.0])
    target[IDS] = Stored("I64", (3,), bytes(24))
    write_checkpoint(folder / "base", base, Layout(2, 1))
    write_checkpoint(folder / "target", target, Layout(2, 1), {"config.json": b"{}"})


def scan(folder: Path, output: str = PROFILE, **options: Any) -> Path:
    shardrestore.scan(
        folder / "base", folder / "target", folder / output, max_memory=BUDGET, **options
    )
    return folder / output


def restore(folder: Path, profile: Path | None = None, **options: Any) -> dict[str, bytes]:
    """Restore into a folder that is removed again; return what was written."""
    output = folder / "output"
    try:
        shardrestore.restore(
            folder / "base", folder / "target", output,
            percent=30, profile=profile, max_memory=BUDGET, **options,
        )  # fmt: skip
        return read_tree(output)
    finally:
        shutil.rmtree(output, ignore_errors=True)


@pytest.fixture(scope="module")
def pair() -> Iterator[Path]:
    """A pair that tests only read, and its profile."""
    with scratch() as folder:
        make_pair(folder)
        scan(folder)
        yield folder


@pytest.fixture
def own_pair(pair: Path) -> Iterator[Path]:
    """A copy of the pair and its profile, to be spoilt."""
    with scratch() as folder:
        shutil.copytree(pair, folder, dirs_exist_ok=True)
        yield folder


@pytest.fixture(scope="module")
def good(pair: Path) -> bytes:
    return (pair / PROFILE).read_bytes()


def check_message(error: pytest.ExceptionInfo[ProfileError], path: Path, says: str) -> None:
    """One line that names the file, and says what is wrong with it."""
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert re.search(says, message), message


def assert_unreadable(path: Path, says: str = "") -> None:
    with pytest.raises(ProfileError) as error:
        Profile(path).close()
    check_message(error, path, says)


# Round trip


@dataclass
class Histograms:
    """A store in memory."""

    histograms: list[SparseHistogram]

    def get(self, number: int) -> SparseHistogram:
        return self.histograms[number]

    def close(self) -> None:
        pass


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
SHAPES = st.lists(st.integers(0, 19), max_size=3).map(tuple)


@st.composite
def contents(draw: st.DrawFn) -> Contents:
    names = sorted(draw(st.sets(TEXTS, max_size=5)))
    dtypes = st.sampled_from(["BF16", "F16", "F32"])
    return Contents(
        segment_elements=61,
        inputs={
            role: draw(st.dictionaries(TEXTS, JSON, max_size=3)) for role in ("base", "target")
        },
        scoring=Scoring(
            cast=draw(st.sampled_from([None, "BF16", "F16", "F32"])),
            renames=tuple(draw(st.lists(TEXTS, max_size=2))),
        ),
        tensors=tuple(
            ProfiledTensor(
                name=name,
                shape=draw(SHAPES),
                dtypes=(draw(dtypes), draw(dtypes)),
                exact=draw(st.booleans()),
            )
            for name in names
        ),
        unpaired=draw(st.dictionaries(TEXTS, TEXTS, max_size=2)),
    )


def histogram_of(elements: int, rng: np.random.Generator) -> SparseHistogram:
    bins, counts = np.unique(rng.choice([0, 9, 500, 32767], elements), return_counts=True)
    return SparseHistogram(bins=bins.astype(np.uint16), counts=counts.astype(np.uint32))


@examples(25)
@given(contents(), st.integers(0, 99))
def test_a_profile_is_read_back_as_it_was_written(written: Contents, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with scratch() as folder:
        sizes = [elements for _, elements in written.segments()]
        store_ = Histograms([histogram_of(elements, rng) for elements in sizes])
        tallies = Tallies(
            *(), **{name: np.array([int(rng.integers(0, elements + 1)) for elements in sizes], int)
                    for name in ("zero_base", "nonfinite", "overflows")},
        )  # fmt: skip
        write_profile(folder / "p", written, store_, tallies)
        with Profile(folder / "p", Granularity(segment_elements=61)) as found:
            assert found.contents == written
            assert found.segments == len(sizes) == sum(1 for _ in written.segments())
            for name in ("zero_base", "nonfinite", "overflows"):
                assert np.array_equal(getattr(found.tallies, name), getattr(tallies, name))
            for number, histogram in enumerate(store_.histograms):
                read = found.get(number)
                assert np.array_equal(read.bins, histogram.bins)
                assert np.array_equal(read.counts, histogram.counts)
        with safetensors.safe_open(folder / "p", "np") as file:
            assert set(file.keys()) == {
                *("ends", "zero_base", "nonfinite", "overflows", "counts", "bins")
            }


def test_other_tools_can_read_the_counts_and_they_are_the_oracles(pair: Path) -> None:
    arrays = safetensors.numpy.load_file(pair / PROFILE)
    with safetensors.safe_open(pair / PROFILE, "np") as file:
        contents = json.loads(file.metadata()["shardrestore_profile"])
    expected = oracle.expect(
        oracle.load(pair / "base"), oracle.load(pair / "target"),
        percent=1, region="all", exclude=[IDS],
    )  # fmt: skip
    assert [tensor[0] for tensor in contents["tensors"]] == list(expected.scores)
    assert contents["unpaired"].keys() <= {IDS}
    scored = [name for name, scores in expected.scores.items() if scores.size]
    begins = [0, *arrays["ends"][:-1]]
    for name, begin, end in zip(scored, begins, arrays["ends"], strict=True):
        keys = oracle._rising(expected.scores[name]) >> 16
        bins, counts = np.unique(keys, return_counts=True)
        assert np.array_equal(arrays["bins"][begin:end], bins)
        assert np.array_equal(arrays["counts"][begin:end], counts)
    zero_base = [np.count_nonzero(oracle.load(pair / "base")[n].values() == 0) for n in scored]
    assert arrays["zero_base"].tolist() == zero_base
    assert not arrays["nonfinite"].any()
    assert not arrays["overflows"].any()


# Damage


@examples(38)
@given(data=st.data())
def test_a_profile_cut_off_anywhere_is_refused(good: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(good) - 1))
    with scratch() as folder:
        (folder / "p").write_bytes(good[:length])
        assert_unreadable(folder / "p")


@examples(75)
@given(data=st.data())
def test_a_profile_with_one_bit_flipped_anywhere_is_refused(
    good: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(good)
    damaged[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with scratch() as folder:
        (folder / "p").write_bytes(damaged)
        assert_unreadable(folder / "p")


def test_every_byte_of_a_profile_counts(good: bytes) -> None:
    with scratch() as folder:
        for position in range(len(good)):
            damaged = bytearray(good)
            damaged[position] ^= 1 << position % 7
            (folder / "p").write_bytes(damaged)
            assert_unreadable(folder / "p")


def test_bytes_after_the_end_of_a_profile_are_refused(good: bytes, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(good + b"\0")
    assert_unreadable(tmp_path / "p", "1 trailing bytes.*scan again")


def other_safetensors(path: Path) -> None:
    safetensors.numpy.save_file({"ends": np.zeros(3, np.int64)}, path, {"sha256": "0"})


def same_arrays_without_text(path: Path) -> None:
    arrays = {name: np.zeros(1, np.int64) for name in ("ends", "zero_base", "nonfinite")}
    arrays |= {"overflows": arrays["ends"], "counts": np.zeros(1, np.uint32)}
    safetensors.numpy.save_file(arrays | {"bins": np.zeros(1, np.uint16)}, path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_bytes(b""), "0 bytes are too short"),
        (lambda path: path.write_bytes(b"PK\3\4" * 99), "profile"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs"),
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("gone"), "No such file"),
        (lambda path: path.symlink_to(path), "[Ss]ymbolic links"),
        (other_safetensors, "no profile.*shardrestore scan"),
        (same_arrays_without_text, "no profile.*shardrestore scan"),
    ],
    ids=["missing", "empty", "zip", "git_lfs", "folder", "fifo", "dangling", "loop", "others",
         "without_text"],
)  # fmt: skip
def test_a_file_that_is_no_profile_is_refused(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / "p")
    assert_unreadable(tmp_path / "p", says)


def test_a_model_is_no_profile(pair: Path) -> None:
    (shard, *_) = sorted((pair / "target").glob("*.safetensors"))
    assert_unreadable(shard, "a safetensors file, but no profile")


def test_a_profile_that_cannot_be_opened_or_read_is_refused(pair: Path) -> None:
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with mock.patch.object(os, "open", side_effect=denied):
        assert_unreadable(pair / PROFILE, "cannot be opened: Permission denied")
    broken = OSError(errno.EIO, os.strerror(errno.EIO))
    with mock.patch.object(os, "preadv", side_effect=broken):
        assert_unreadable(pair / PROFILE, "Input/output error")
    with Profile(pair / PROFILE) as profile, mock.patch.object(os, "preadv", side_effect=broken):
        with pytest.raises(ProfileError) as error:
            profile.get(0)
        check_message(error, pair / PROFILE, "Input/output error")


def test_refused_profiles_are_closed(pair: Path, good: bytes, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(good[:-1] + b"\xff")
    before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    for path in (tmp_path / "p", pair / "base", tmp_path / "none"):
        assert_unreadable(path)
    after = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    assert len(after) == len(before)


# Forgery: consistent to the last byte, and nonsense

ORDER = ("ends", "zero_base", "nonfinite", "overflows", "counts", "bins")
SPELLED = {"int64": "I64", "uint32": "U32", "uint16": "U16", "int32": "I32", "uint8": "U8"}


def forge(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Path:
    """Change a profile's arrays and JSON, and give it the hash that fits.

    A text or bytes under the name ``text`` replaces the JSON as a whole.
    """
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "np") as file:
        contents = json.loads(file.metadata()["shardrestore_profile"])
    change(arrays, contents)
    text = contents.get("text") or json.dumps(contents, separators=(",", ":"))
    arrays = {name: arrays[name] for name in (*ORDER, *arrays) if name in arrays}
    data = b"".join(array.tobytes() for array in arrays.values())
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass") + data).hexdigest()
    header = encode_header(
        [(name, SPELLED[str(array.dtype)], array.shape) for name, array in arrays.items()],
        {"shardrestore_profile": text, "sha256": digest},
    )
    path.write_bytes(header + data)
    return path


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail instead of filling the memory for ever."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError

    usual = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)


def assert_run_refuses(folder: Path, says: str, **options: Any) -> None:
    """Run from the folder's profile: one line, and nothing written."""
    before = read_tree(folder)
    with pytest.raises(ProfileError) as error, within(2):
        restore(folder, folder / PROFILE, **options)
    check_message(error, folder / PROFILE, says)
    assert read_tree(folder) == before


def test_forging_without_a_change_changes_nothing(own_pair: Path, good: bytes) -> None:
    assert forge(own_pair / PROFILE, lambda arrays, contents: None).read_bytes() == good


def put(name: str, at: Any, value: int) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    def change(arrays: dict[str, Any], contents: dict[str, Any]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][at] = value

    return change


def array(name: str, make: Callable[[Any], Any]) -> Callable[..., object]:
    return lambda arrays, contents: arrays.update({name: make(arrays[name])})


def swap_bins(arrays: dict[str, Any], contents: dict[str, Any]) -> None:
    """Swap the first segment's first two bins and their counts: the same histogram, unsorted."""
    for name in ("bins", "counts"):
        arrays[name] = arrays[name].copy()
        arrays[name][:2] = arrays[name][1::-1]


NO_FIT = "its arrays do not fit its tensors: scan again"
NO_SENSE = r"make no sense: scan again"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(put("counts", 0, 1_000_000), NO_SENSE, id="counts_beyond_the_elements"),
        pytest.param(put("counts", 0, 1), NO_SENSE, id="counts_below_the_elements"),
        pytest.param(put("counts", slice(None), 0), NO_SENSE, id="no_counts"),
        pytest.param(put("counts", slice(None), 2**32 - 1), NO_SENSE, id="largest_counts"),
        pytest.param(swap_bins, NO_SENSE, id="bins_descending"),
        pytest.param(put("bins", slice(0, 2), 0), NO_SENSE, id="a_bin_twice"),
        pytest.param(put("bins", slice(None), 0xFFFF), NO_SENSE, id="bins_of_no_score"),
        pytest.param(put("ends", 0, -1), NO_FIT, id="an_end_below_zero"),
        pytest.param(put("ends", slice(None), -(2**63)), NO_FIT, id="ends_far_below_zero"),
        pytest.param(put("ends", 1, 0), NO_FIT, id="ends_descending"),
        pytest.param(put("ends", -1, 2**62), NO_FIT, id="an_end_beyond_the_bins"),
        pytest.param(array("ends", lambda a: a[:-1]), NO_FIT, id="too_few_ends"),
        pytest.param(array("ends", lambda a: a[:0]), NO_FIT, id="no_ends"),
        pytest.param(array("zero_base", lambda a: a[:-1]), NO_FIT, id="too_few_zero_bases"),
        pytest.param(array("overflows", lambda a: np.append(a, a)), NO_FIT, id="twice_as_many"),
        pytest.param(array("bins", lambda a: a[:-1]), NO_FIT, id="fewer_bins_than_counts"),
        pytest.param(array("counts", lambda a: a[:-1]), NO_FIT, id="fewer_counts_than_bins"),
        pytest.param(
            array("ends", lambda a: a.astype(np.int32)), "no profile", id="ends_of_another_format"
        ),
        pytest.param(
            lambda arrays, contents: arrays.update(more=np.zeros(1, np.uint8)), "no profile",
            id="an_array_more",
        ),
        pytest.param(lambda arrays, contents: arrays.pop("bins"), "no profile", id="no_bins"),
        pytest.param(put("zero_base", 0, -1), "scan again", id="zero_bases_below_zero"),
        pytest.param(put("zero_base", 0, 10**6), "scan again", id="more_zero_bases_than_elements"),
        pytest.param(put("nonfinite", 0, -1), "scan again", id="nonfinite_below_zero"),
        pytest.param(put("nonfinite", 0, 10**6), "scan again", id="more_nonfinite_than_weights"),
        pytest.param(put("overflows", 0, -(2**63)), "scan again", id="overflows_below_zero"),
    ],
)  # fmt: skip
def test_arrays_that_make_no_sense_are_refused(
    own_pair: Path, change: Callable[..., object], says: str
) -> None:
    forge(own_pair / PROFILE, change)
    assert_run_refuses(own_pair, says, allow_nonfinite=True)


def text(value: str) -> Callable[..., object]:
    return lambda arrays, contents: contents.update(text=value)


def key(*path: Any, to: object) -> Callable[..., object]:
    """Replace a value in the JSON."""

    def change(arrays: dict[str, Any], contents: dict[str, Any]) -> None:
        *outer, last = path
        inner: Any = contents
        for step in outer:
            inner = inner[step]
        inner[last] = to

    return change


def without(*path: Any) -> Callable[..., object]:
    def change(arrays: dict[str, Any], contents: dict[str, Any]) -> None:
        *outer, last = path
        inner: Any = contents
        for step in outer:
            inner = inner[step]
        del inner[last]

    return change


KIND = "incomplete or of another kind: scan again"
RECORD = r"its record of the \w+ is damaged: scan again"
SHARD = ("inputs", "target", "shards", 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(text("{"), "no JSON: scan again", id="no_json"),
        pytest.param(text('{"format": 1'), "no JSON", id="cut_off"),
        pytest.param(text("[" * 100_000), "no JSON", id="nested_deeply"),
        pytest.param(text('{"format":' * 50_000), "no JSON", id="nested_deeply_in_objects"),
        pytest.param(text(f'{{"format": 1{"0" * 5000}}}'), "no JSON", id="a_number_of_5000_digits"),
        pytest.param(text("[]"), "name no format", id="a_list"),
        pytest.param(text("null"), "name no format", id="null"),
        pytest.param(text("1"), "name no format", id="a_number"),
        pytest.param(text('"format"'), "name no format", id="a_text"),
        pytest.param(text("{}"), "name no format", id="nothing"),
        pytest.param(text('{"format": 1}'), "segments have None", id="a_format_alone"),
        pytest.param(key("format", to=3), "its format is 3, .* reads 1 and 2", id="another_format"),
        pytest.param(key("format", to=None), "its format is None", id="no_format"),
        pytest.param(key("format", to="1"), "its format is '1'", id="format_is_text"),
        pytest.param(key("format", to=[[]] * 999), "its format is", id="format_is_a_list"),
        pytest.param(key("segment_elements", to=61), "segments have 61", id="other_segments"),
        pytest.param(key("segment_elements", to="x"), "segments have 'x'", id="segments_of_text"),
        *(
            pytest.param(without(name), KIND, id=f"no_{name}")
            for name in ("inputs", "dtype", "rename", "tensors", "unpaired")
        ),
        *(
            pytest.param(key(name, to=7), KIND, id=f"{name}_is_a_number")
            for name in ("inputs", "dtype", "rename", "tensors", "unpaired")
        ),
        pytest.param(without("inputs", "base"), KIND, id="no_base"),
        pytest.param(key("inputs", "base", to=[1]), KIND, id="base_is_a_list"),
        pytest.param(key("rename", to=[7]), KIND, id="rename_of_numbers"),
        pytest.param(key("unpaired", to={"a": 1}), KIND, id="unpaired_for_a_number"),
        pytest.param(key("tensors", 0, to=[]), KIND, id="a_tensor_without_values"),
        pytest.param(key("tensors", 0, to="abcde"), KIND, id="a_tensor_of_text"),
        pytest.param(key("tensors", 0, 0, to=None), KIND, id="a_tensor_without_a_name"),
        pytest.param(key("tensors", 0, 1, to=7), KIND, id="a_shape_that_is_a_number"),
        pytest.param(key("tensors", 0, 1, to=[-60]), KIND, id="a_negative_shape"),
        pytest.param(key("tensors", 0, 1, to=[60.0]), KIND, id="a_shape_of_floats"),
        pytest.param(key("tensors", 0, 1, to=[True]), KIND, id="a_shape_of_booleans"),
        pytest.param(key("tensors", 0, 2, to=0), KIND, id="a_dtype_that_is_a_number"),
        pytest.param(key("tensors", 0, 4, to=1), KIND, id="exactness_that_is_a_number"),
        pytest.param(key("tensors", 0, 1, to=[10**30]), NO_FIT, id="a_tensor_beyond_all_measure"),
        pytest.param(key("tensors", to=[]), NO_FIT, id="no_tensors"),
        pytest.param(key("tensors", 0, 0, to="a"), "has no counts of", id="another_tensor"),
        pytest.param(key("tensors", 0, 0, to="x"), "canonical order", id="out_of_order"),
        pytest.param(key("tensors", 0, 0, to=Q), "canonical order", id="a_tensor_twice"),
        pytest.param(key("inputs", "base", to={}), RECORD, id="an_empty_record"),
        pytest.param(key("inputs", "base", "shards", to=7), RECORD, id="shards_is_a_number"),
        pytest.param(key("inputs", "base", "shards", to=[7]), RECORD, id="shards_of_numbers"),
        pytest.param(key("inputs", "base", "shards", to={"a": 1}), RECORD, id="shards_by_name"),
        pytest.param(key("inputs", "base", "shards", to=[]), "was not there", id="no_shards"),
        pytest.param(key(*SHARD, "name", to=[]), RECORD, id="a_name_that_is_a_list"),
        pytest.param(key(*SHARD, "name", to=None), "was not there|damaged", id="no_name"),
        pytest.param(key(*SHARD, "bytes", to=None), RECORD, id="a_size_that_is_null"),
        pytest.param(key(*SHARD, "bytes", to="many"), RECORD, id="a_size_that_is_text"),
        pytest.param(key(*SHARD, "bytes", to=10**4000), "bytes", id="a_size_beyond_all_measure"),
        pytest.param(key(*SHARD, "header_sha256", to=7), RECORD, id="a_hash_that_is_a_number"),
        pytest.param(key(*SHARD, "header_sha256", to={}), RECORD, id="a_hash_that_is_an_object"),
        pytest.param(without("inputs", "base", "sample_sha256"), RECORD, id="no_sample"),
        pytest.param(key("inputs", "base", "sample_sha256", to=[]), "", id="sample_is_a_list"),
    ],
)  # fmt: skip
def test_contents_of_another_kind_are_refused(
    own_pair: Path, change: Callable[..., object], says: str
) -> None:
    forge(own_pair / PROFILE, change)
    assert_run_refuses(own_pair, says)


@pytest.mark.parametrize(
    "change",
    [
        key("dtype", to="auto\n\x1b[31m"),
        key("rename", to=["x=\n\x1b[31m"]),
        key("inputs", "base", to={"shards": [], "path": "a\n\x1b[31m"}),
        key(*SHARD, to={"name": "part-0-of-2.safetensors", "bytes": 1, "path": "a\n"}),
        key(*SHARD, "header_sha256", to="\n\x1b[31m"),
        key("format", to="\n\x1b[31m"),
    ],
    ids=["dtype", "rename", "path", "size", "hash", "format"],
)
def test_what_a_forged_profile_says_cannot_break_the_message(
    own_pair: Path, change: Callable[..., object]
) -> None:
    """No line of its own, no colour: nothing that looks like somebody else's words."""
    forge(own_pair / PROFILE, change)
    with pytest.raises(ProfileError) as error:
        restore(own_pair, own_pair / PROFILE)
    assert str(error.value).isprintable()


# Other weights, other options


def rewrite(folder: Path, side: str, change: Callable[[dict[str, Stored]], object]) -> None:
    tensors = oracle.load(folder / side)
    change(tensors)
    shutil.rmtree(folder / side)
    write_checkpoint(folder / side, dict(sorted(tensors.items())), Layout(2, 1))


def resize(folder: Path) -> None:
    rewrite(folder, "target", lambda tensors: tensors.update({IDS: Stored("I64", (4,), bytes(32))}))


def rename_metadata(folder: Path) -> None:
    (path, *_) = sorted((folder / "base").glob("*.safetensors"))
    data = path.read_bytes()
    assert b'"pt"' in data
    path.write_bytes(data.replace(b'"pt"', b'"tp"', 1))


def change_tensor(folder: Path, name: str, first: int = 0, end: int | None = None) -> None:
    """Change bytes of one tensor of the target; nothing of any header."""
    for path in (folder / "target").glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        start = 8 + int.from_bytes(data[:8], "little")
        entry = json.loads(data[8:start]).get(name)
        if entry:
            begin, stop = (start + offset for offset in entry["data_offsets"])
            for at in range(begin + first, stop if end is None else begin + end):
                data[at] ^= 0x11
            path.write_bytes(data)
            return
    raise LookupError(name)


def swap(folder: Path) -> None:
    (folder / "base").rename(folder / "x")
    (folder / "target").rename(folder / "base")
    (folder / "x").rename(folder / "target")


def reshard(folder: Path) -> None:
    tensors = oracle.load(folder / "target")
    shutil.rmtree(folder / "target")
    write_checkpoint(folder / "target", tensors)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (resize, r"another target .*had [\d,]+ bytes, it has [\d,]+\. It was made of"),
        (rename_metadata, "another base .*the header of .* had SHA-256 .{12}…, it has .{12}…"),
        (
            partial(change_tensor, name=K),
            "another target .*the weights differ: a sample of 1,024 bytes",
        ),
        (swap, "another base"),
        (reshard, "another target .*model.safetensors was not there"),
    ],
)
def test_a_profile_of_other_weights_is_refused_and_told_apart(
    own_pair: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(own_pair)
    assert_run_refuses(own_pair, f"was made of {says}")
    assert_run_refuses(own_pair, "name that one, or scan again", region="all", exclude=[IDS])


def test_a_pair_of_the_same_layout_swapped_is_told_apart_by_its_weights(own_pair: Path) -> None:
    rewrite(own_pair, "target", lambda tensors: tensors.pop(IDS))
    rewrite(own_pair, "base", lambda tensors: None)
    scan(own_pair, overwrite=True)
    swap(own_pair)
    assert_run_refuses(own_pair, "was made of another base .*: the weights differ")


@pytest.mark.parametrize(
    ("made", "asked", "says"),
    [
        ({}, {"dtype": "bf16"}, "--dtype auto, this run has bf16"),
        ({"dtype": "fp32"}, {}, "--dtype fp32, this run has auto"),
        ({"dtype": "bf16"}, {"dtype": "fp16"}, "--dtype bf16, this run has fp16"),
        ({}, {"rename": ["x=y"]}, "--rename none, this run has x=y"),
        ({"rename": ["x=y"]}, {}, "--rename x=y, this run has none"),
        ({"rename": ["x=y", "z=y"]}, {"rename": ["z=y", "x=y"]}, "x=y z=y, this run has z=y x=y"),
        ({"rename": ["x=y z=w"]}, {"rename": ["x=y", "z=w"]}, "--rename"),
    ],
)  # fmt: skip
def test_a_profile_made_with_other_options_is_refused(
    own_pair: Path, made: dict[str, Any], asked: dict[str, Any], says: str
) -> None:
    scan(own_pair, overwrite=True, **made)
    assert_run_refuses(own_pair, f"was made with .*{says}", **asked)


@pytest.mark.parametrize(
    "options", [{"dtype": "bf16"}, {"rename": ["x=y", "z=w"]}, {"dtype": "fp32", "rename": ["x=y"]}]
)
def test_a_profile_made_with_the_same_options_is_accepted(
    own_pair: Path, options: dict[str, Any]
) -> None:
    scan(own_pair, overwrite=True, **options)
    fresh = restore(own_pair, region="all", exclude=[IDS], **options)
    assert restore(own_pair, own_pair / PROFILE, region="all", exclude=[IDS], **options) == fresh


@pytest.mark.parametrize("left_out", [{"exclude": ["k_proj"]}, {"include": ["mlp"]}])
def test_a_run_that_needs_a_tensor_that_was_not_scanned_is_refused(
    own_pair: Path, left_out: dict[str, Any]
) -> None:
    scan(own_pair, overwrite=True, **left_out)
    assert_run_refuses(own_pair, f"has no counts of {K}, which is in the region: scan again")
    assert_run_refuses(own_pair, "has no counts of", region="attention")
    assert_run_refuses(own_pair, "has no counts of", region=["mlp", "attention"][1:])
    profile = own_pair / PROFILE
    for options in ({"region": "mlp"}, {"exclude": ["k_proj"], "include": ["mlp"]}):
        assert restore(own_pair, profile, **options) == restore(own_pair, **options)


def test_filters_of_a_run_need_not_be_those_of_its_profile(own_pair: Path) -> None:
    for options in ({"exclude": ["k_proj"]}, {"include": ["up|q_"]}, {"region": "attention"}):
        assert restore(own_pair, own_pair / PROFILE, **options) == restore(own_pair, **options)


def test_inputs_may_have_moved_and_side_files_changed(own_pair: Path) -> None:
    fresh = restore(own_pair)
    elsewhere = own_pair / "else" / "where"
    elsewhere.mkdir(parents=True)
    for side in ("base", "target"):
        shutil.copytree(own_pair / side, elsewhere / side)
        shutil.rmtree(own_pair / side)
    (elsewhere / "target" / "notes.txt").write_text("mine")
    found = restore(elsewhere, own_pair / PROFILE)
    weights = partial(filter, lambda name: name.endswith((".safetensors", ".tsv")))
    assert [found[name] for name in weights(found)] == [fresh[name] for name in weights(fresh)]


def test_a_change_that_the_sample_misses_is_no_silent_success(own_pair: Path) -> None:
    """Pass 2 counts what it restores: the count no longer fits."""
    change_tensor(own_pair, Q, end=100)  # of 1,400 bytes; the sample is in the middle
    before = read_tree(own_pair)
    with pytest.raises(shardrestore.ShardRestoreError, match="profile"):
        restore(own_pair, own_pair / PROFILE)
    assert read_tree(own_pair) == before
