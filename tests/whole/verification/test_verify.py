"""A clean model verifies; one that is not, in a single bit, is told apart and told where."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import shardrestore
from shardrestore.errors import CheckpointError, MemoryBudgetError
from shardrestore.granularity import Granularity
from tests.support import oracle
from tests.support.checkpoints import ITEM_TYPES, cases, layouts, store, write_checkpoint
from tests.support.damage import (
    BUDGET_BYTES,
    IDS,
    INDEX,
    NORM,
    RECORD,
    SIZE,
    UP,
    K,
    Q,
    Scene,
    copy_scene,
    edit_json,
    flip,
    read_header,
    write_at,
    write_header,
    write_pair,
)
from tests.support.examples import examples
from tests.support.library import GRANULARITIES, Library, cut_into

MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
FINE = Library(
    replace(
        cut_into(segment_elements=64, chunk_elements=16, block_bytes=200, copy_bytes=100), turns=3
    )
)
"""Tensors have several segments, blocks and chunks each; random keys follow the segments."""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="shardrestore-test-", dir=MEMORY_DISK) as folder:
        yield Path(folder)


# Random models


@st.composite
def models(draw: st.DrawFn) -> Callable[[Path, Library], Scene]:
    """Draw a pair and what is asked of it; return what writes it and restores from it."""
    case = draw(cases(nonfinite=None))
    files = draw(layouts()), draw(layouts())
    options = {
        "region": draw(st.sampled_from(list(oracle.REGIONS))),
        "exclude": ["^quantised"],
        "strategy": draw(st.sampled_from(["top", "top", "bottom", "random"])),
        "seed": draw(st.integers(0, 3)),
        "dtype": draw(st.sampled_from(["auto", "auto", "bf16", "fp16", "fp32"])),
        "approximate": draw(st.booleans()),
        "percent": draw(st.sampled_from([0.5, 1, 10, 33.3, 50, 77.7, 100])),
        "workers": draw(st.integers(1, 3)),
    }

    def make(root: Path, library: Library) -> Scene:
        write_checkpoint(root / "base", case.base, files[0])
        write_checkpoint(root / "target", case.target, files[1], case.side_files)
        try:
            library.restore(
                root / "base",
                root / "target",
                root / "output",
                allow_nonfinite=True,
                max_memory=BUDGET_BYTES,
                **options,
            )
        except shardrestore.RequestError:  # an empty region, or a percent of nothing
            assume(False)
        return Scene(root, library)

    return make


@examples(15)
@given(models(), GRANULARITIES, st.integers(1, 4), st.sampled_from(["cpu", "reference"]))
def test_what_was_just_restored_verifies(
    make: Callable[[Path, Library], Scene], granularity: Granularity, workers: int, kernels: str
) -> None:
    with scratch() as root:
        scene = make(root, Library(granularity, kernels))
        result = scene.verify(workers=workers)
    assert (result.problems, result.ok, result.differing_elements) == ((), True, 0)
    assert result.selected_elements > 0


@examples(15)
@given(models(), GRANULARITIES, st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(
    make: Callable[[Path, Library], Scene], granularity: Granularity, data: st.DataObject
) -> None:
    """A flip that leaves the index's meaning the same would need an escape in a name."""
    with scratch() as root:
        scene = make(root, Library(granularity))
        files = [path for path in (*scene.shards, scene.output / INDEX) if path.exists()]
        path = data.draw(st.sampled_from(files))
        at = data.draw(st.integers(0, path.stat().st_size - 1))
        hit = [
            (n, p) for n, p in scene.places() if p.path == path and 0 <= at - p.offset < p.nbytes
        ]
        flip(path, at, data.draw(st.integers(0, 7)))
        result = scene.verify()
    assert not result.ok
    assert str(path) in result.problems[0]
    if hit:
        ((name, place),) = hit
        element = (at - place.offset) // np.dtype(ITEM_TYPES[place.dtype]).itemsize
        assert len(result.problems) == result.differing_elements == 1
        assert f"tensor {name}: element {element} is 0x" in result.problems[0]


# One pair, spoilt in every way


def restore(root: Path, **options: Any) -> shardrestore.Restoration:
    options = {"percent": 40, "region": "transformer", "max_memory": BUDGET_BYTES} | options
    return FINE.restore(root / "base", root / "target", root / "output", **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scene]:
    """Return a finished model of a strategy, made once."""
    made: dict[str, Scene] = {}

    def make(strategy: str) -> Scene:
        if strategy not in made:
            root = tmp_path_factory.mktemp(strategy)
            write_pair(root)
            restore(root, strategy=strategy)
            made[strategy] = Scene(root, FINE)
        return made[strategy]

    return make


@pytest.fixture
def scene(finished: Callable[[str], Scene], tmp_path: Path) -> Scene:
    return copy_scene(finished("top"), tmp_path)


def problems_of(scene: Scene, count: int = 1) -> str:
    """Verify, expect so many problems, return them as one text."""
    result = scene.verify()
    assert len(result.problems) == count, result.problems
    return "\n".join(result.problems)


@pytest.mark.parametrize("strategy", ["top", "bottom", "random"])
def test_the_pair_to_be_spoilt_is_clean_and_ties(
    finished: Callable[[str], Scene], strategy: str
) -> None:
    result = finished(strategy).verify()
    assert result.ok
    assert (result.region_elements, result.selected_elements) == (3 * SIZE, 480)
    assert (result.tensors, result.threshold is None) == (5, strategy == "random")
    if strategy == "top":
        assert 0 < result.ties_taken < result.ties


def test_a_bit_inside_the_region_is_neither_the_bases_nor_the_targets(scene: Scene) -> None:
    place, code = scene.place(Q), int(scene.codes(Q)[17])
    base, target = (int(scene.codes(Q, side)[17]) for side in ("base", "target"))
    flip(place.path, place.offset + 17 * 2, 3)
    assert problems_of(scene) == (
        f"{place.path}: tensor {Q}: element 17 is 0x{code ^ 8:04x} (base 0x{base:04x}, target "
        f"0x{target:04x}): neither the base's value nor the target's (1 element of this tensor "
        "wrong)"
    )


@pytest.mark.parametrize(("name", "size", "digits"), [(NORM, 2, 4), (IDS, 8, 16)])
def test_a_bit_outside_the_region_is_not_the_targets(
    scene: Scene, name: str, size: int, digits: int
) -> None:
    place = scene.place(name)
    content = place.path.read_bytes()
    code = int.from_bytes(content[place.offset + 9 * size :][:size], "little")
    flip(place.path, place.offset + 9 * size, 1)
    assert problems_of(scene) == (
        f"{place.path}: tensor {name}: element 9 is 0x{code ^ 2:0{digits}x} (target "
        f"0x{code:0{digits}x}): outside the region everything is the target's (1 element of this "
        "tensor wrong)"
    )


def test_wrong_elements_of_a_tensor_are_counted_and_the_first_is_told(scene: Scene) -> None:
    for element in (390, 31, 32, 200):
        scene.put(K, element, 0x1234)
    text = problems_of(scene)
    assert f"tensor {K}: element 31 is 0x1234 " in text
    assert text.endswith("(4 elements of this tensor wrong)")


@pytest.mark.parametrize("strategy", ["top", "random"])
def test_a_tied_head_repeats_what_its_embedding_gets(tmp_path: Path, strategy: str) -> None:
    rng = np.random.default_rng(1)
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    base, target = (
        {embedding: store(np.round(rng.normal(0, 1, (40, 8)), 1), "BF16")} for _ in range(2)
    )
    target[head] = target[embedding]
    write_checkpoint(tmp_path / "base", base)
    config = {"config.json": b'{"tie_word_embeddings": true}'}
    write_checkpoint(tmp_path / "target", target, side_files=config)
    restore(tmp_path, region="embedding", strategy=strategy)
    scene = Scene(tmp_path, FINE)
    result = scene.verify()
    assert (result.problems, result.region_elements, result.tensors) == ((), 320, 2)
    scene.put(head, 319, 0x1234)
    assert f"tensor {head}: element 319 is 0x1234 (base 0x" in problems_of(scene)


@pytest.mark.parametrize("at", range(9))
def test_a_bit_of_the_header_is_named_by_its_byte(scene: Scene, at: int) -> None:
    path = scene.shards[0]
    clean = scene.verify().tensors
    offset = at if at < 8 else 8 + read_header(path)[1] // 2
    flip(path, offset, 2)
    result = scene.verify()
    assert f"{path}: the header differs from the target's: byte {offset} " in result.problems[0]
    assert result.differing_elements == 0
    assert result.tensors < clean or len(result.problems) == 1


def test_swapped_tensors_are_found(scene: Scene) -> None:
    one, other = scene.place(Q), scene.place(K)
    content = {p: p.path.read_bytes()[p.offset : p.offset + p.nbytes] for p in (one, other)}
    write_at(one.path, one.offset, content[other])
    write_at(other.path, other.offset, content[one])
    text = problems_of(scene, 2)
    assert f"tensor {Q}: element 0" in text
    assert f"tensor {K}: element 0" in text


def element_of(scene: Scene, name: str, *, restored: bool) -> int:
    """Return an element that differs between the sides, and was restored or was not."""
    base, target, output = (scene.codes(name, side) for side in ("base", "target", "output"))
    return int(np.flatnonzero((base != target) & (output == (base if restored else target)))[3])


@pytest.mark.parametrize(
    ("strategy", "restored", "reason"),
    [
        ("top", False, "restored, although its score is below the threshold"),
        ("top", True, "not restored, although its score is above the threshold"),
        ("bottom", False, "restored, although its score is above the threshold"),
        ("bottom", True, "not restored, although its score is below the threshold"),
        ("random", False, "restored, although its random key is above the cut"),
        ("random", True, "not restored, although its random key is below the cut"),
    ],
)
def test_one_element_more_or_fewer_is_found(
    finished: Callable[[str], Scene], tmp_path: Path, strategy: str, restored: bool, reason: str
) -> None:
    scene = copy_scene(finished(strategy), tmp_path)
    element = element_of(scene, K, restored=restored)
    scene.put(K, element, scene.codes(K, "target" if restored else "base")[element])
    text = problems_of(scene)
    assert f"tensor {K}: element {element} is 0x" in text
    assert f": {reason} (1 element" in text


def test_tied_elements_that_changed_places_are_found(scene: Scene) -> None:
    """The count and every score stay right: only the even spread is not."""
    taken, left = (element_of(scene, UP, restored=restored) for restored in (True, False))
    scene.put(UP, taken, scene.codes(UP, "target")[taken])
    scene.put(UP, left, scene.codes(UP, "base")[left])
    text = problems_of(scene)
    assert f"element {min(taken, left)} is 0x" in text
    assert "although it ties and its turn has" in text
    assert "(2 elements of this tensor wrong)" in text


# Files


def test_a_stale_index_is_found(scene: Scene) -> None:
    names = [path.name for path in scene.shards]

    def change(document: dict[str, Any]) -> None:
        weight_map = document["weight_map"]
        weight_map[Q] = names[weight_map[Q] == names[0]]
        del weight_map[K]
        weight_map["another"] = names[0]
        document["metadata"]["total_size"] += 2

    edit_json(scene.output / INDEX, change)
    text = problems_of(scene, 4)
    assert f"{INDEX}: tensor another: said to be in {names[0]}, but no shard should have it" in text
    assert f"tensor {K}: not in the index" in text
    assert f"tensor {Q}: said to be in" in text
    assert "metadata.total_size is 3522, the tensors have 3520 bytes" in text


def test_white_space_in_the_index_is_no_problem(scene: Scene) -> None:
    path = scene.output / INDEX
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert scene.verify().ok


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"weight_map": {}}', b"\xff"])
def test_an_index_that_is_none_is_found(scene: Scene, content: bytes) -> None:
    (scene.output / INDEX).write_bytes(content)
    assert f"{INDEX}: not a valid index" in problems_of(scene)


def test_a_missing_index_is_found(scene: Scene) -> None:
    (scene.output / INDEX).unlink()
    assert f"{INDEX}: missing: the target has one" in problems_of(scene)


@pytest.mark.parametrize("left", [0, 5, 60, -1])
def test_a_truncated_shard_is_found_and_the_others_are_compared(scene: Scene, left: int) -> None:
    path = scene.shards[0]
    inside = sum(place.path == path for _, place in scene.places())
    path.write_bytes(path.read_bytes()[:left])
    result = scene.verify()
    assert re.search(f"{path}.*: its {inside} tensors were not compared", result.problems[-1])
    assert (result.tensors, result.differing_elements) == (5 - inside, 0)
    assert (result.region_elements, result.selected_elements) == (3 * SIZE, 480)


def test_trailing_bytes_are_found(scene: Scene) -> None:
    with open(scene.shards[1], "ab") as file:
        file.write(b"\0")
    assert "trailing bytes" in problems_of(scene)


@pytest.mark.parametrize("name", ["model.safetensors", "model-00009-of-00009.safetensors"])
def test_an_extra_shard_is_found(scene: Scene, name: str) -> None:
    shutil.copy(scene.shards[0], scene.output / name)
    assert f"{scene.output / name}: put there by neither" in problems_of(scene)


def test_a_missing_shard_is_found(scene: Scene) -> None:
    path = scene.shards[0]
    path.unlink()
    assert f"{path}: missing: its " in problems_of(scene)
    path.mkdir()
    assert f"{path}: not a file: its " in problems_of(scene)


def test_changed_metadata_are_found_and_the_tensors_still_compared(scene: Scene) -> None:
    write_header(scene.shards[0], lambda header: header["__metadata__"].update(note="winter"))
    assert "the header differs from the target's: byte " in problems_of(scene)
    assert scene.verify().tensors == 5


def test_a_single_file_must_not_have_an_index(tmp_path: Path) -> None:
    write_pair(tmp_path, shards=0)
    restore(tmp_path)
    scene = Scene(tmp_path, FINE)
    assert scene.verify().ok
    (scene.output / INDEX).write_text("{}")
    assert f"{scene.output / INDEX}: put there by neither" in problems_of(scene)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda h: h["__metadata__"].update(note="winter"), "metadata differ from the target's"),
        (lambda h: h.__setitem__("other", h.pop(NORM)), f"tensor {NORM}: missing, not compared"),
        (lambda h: h[NORM].update(dtype="BF16"), f"tensor {NORM}: is BF16 of shape [400], expec"),
        (lambda h: h[NORM].update(shape=[20, 20]), "of shape [20, 20], expected F16 of shape [40"),
    ],
)
def test_headers_of_a_cast_model_are_compared_by_meaning(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    write_pair(tmp_path)
    restore(tmp_path, dtype="fp16")
    scene = Scene(tmp_path, FINE)
    assert scene.verify().ok
    write_header(scene.place(NORM).path, change)
    assert problem in "\n".join(scene.verify().problems)


def test_a_bit_outside_the_region_of_a_cast_model_is_found(tmp_path: Path) -> None:
    write_pair(tmp_path, dtype="F32")
    restore(tmp_path, dtype="bf16")
    scene = Scene(tmp_path, FINE)
    place = scene.place(NORM)
    flip(place.path, place.offset + 399 * 2, 7)
    assert f"tensor {NORM}: element 399 is 0x" in problems_of(scene)


def test_a_wholly_wrong_model_gives_a_short_message(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(50)]
    for side in ("base", "target"):
        tensors = {name: oracle.Stored("BF16", (8,), rng.bytes(16)) for name in names}
        write_checkpoint(tmp_path / side, tensors)
    restore(tmp_path, allow_nonfinite=True)
    scene = Scene(tmp_path, FINE)
    (path,) = scene.shards
    _, start = read_header(path)
    write_at(path, start, bytes(50 * 16))
    result = scene.verify()
    assert len(result.problems) == 21
    assert result.problems[-1] == "and 30 more problems"
    assert result.differing_elements == 400
    path.write_bytes(path.read_bytes()[:start])
    assert len(scene.verify().problems) == 1


# The record


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("cut.threshold", 0.25, "threshold is 0.25, but tie_first_key"),
        ("cut.threshold", None, "threshold is None, but tie_first_key"),
        ("cut.region_elements", 1201, "region_elements is 1201, the region has 1200"),
        ("cut.selected_elements", 481, "selected_elements is 481, but 40 % of 1200 elements is 48"),
        ("options.percent", 31, "selected_elements is 480, but 31 % of 1200 elements is 372"),
        ("options.percent", 1e30, "selected_elements is 480, but 1e+30 %"),
        ("cut.ties", 0, "expected a number from 1 to ties, 0"),
        ("cut.ties", 300, "ties is 300, base and target have"),
        ("cut.ties_taken", 3, "elements lie beyond the cut and 3 ties are taken"),
        ("cut.ties_taken", 0, "ties_taken is 0, expected a number from 1"),
        ("cut.tie_first_key", 0x3F010000, "threshold is 0.5, but tie_first_key 1057030144 means"),
        ("options.strategy", "bottom", "although its score is"),
        ("options.region", "attention", "region_elements is 1200, the region has 800"),
        ("options.dtype", "fp16", "is BF16 of shape [400], expected F16 of shape [400]"),
    ],
)
def test_an_edited_record_does_not_fit(
    scene: Scene, path: str, value: object, problem: str
) -> None:
    scene.edit_record(path, value)
    result = scene.verify()
    assert problem in "\n".join(result.problems)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 3, "its format is 3, this version reads 1 and 2: verify it with the version"),
        ("cut", [], "damaged: cut is an array of 0, expected an object; copy it again"),
        ("cut.ties", "9", "damaged: cut.ties is '9', expected a whole number; copy it again"),
        ("cut.ties", True, "damaged: cut.ties is true, expected a whole number"),
        ("cut.ties", -1, "damaged: cut.ties is -1, expected a whole number from 0 to"),
        ("cut.ties", 10**40, "expected a whole number from 0 to"),
        ("cut.tie_keys", 0, "damaged: cut.tie_keys is 0, expected a number from 1 to"),
        ("cut.tie_first_key", 2**31, "expected a number from 1 to"),
        ("cut.threshold", "x", "damaged: cut.threshold is 'x', expected a number"),
        ("options.percent", float("nan"), "damaged: options.percent is nan, expected a number"),
        ("options.region", "norms", "damaged: options.region is 'norms', expected one of"),
        ("options.strategy", {}, "damaged: options.strategy is an object of 0, expected one"),
        ("options.seed", 3, "damaged: options.seed is 3, expected null"),
        ("options.include", ["("], "damaged: --include '('"),
        ("options.exclude", "x", "damaged: options.exclude is 'x', expected a list of texts"),
        ("base.path", None, "damaged: base.path is null, expected a text"),
        ("target.shards", [1], "damaged: target.shards is an array of 1, expected a list of obj"),
    ],
)
def test_a_damaged_record_is_refused(scene: Scene, path: str, value: object, message: str) -> None:
    scene.edit_record(path, value)
    with pytest.raises(CheckpointError) as error:
        scene.verify()
    assert str(error.value).startswith(f"{scene.output / RECORD}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged, not JSON"),
        (b"\xff\xfe", "damaged, not JSON"),
        (b"[" * 100_000, "damaged, not JSON"),
        (b"[]", "not a record of shardrestore"),
        (b'{"version": "1.0"}', "not a record of shardrestore"),
        (None, "missing: without it nothing says"),
    ],
)
def test_a_missing_or_foreign_record_is_refused(
    scene: Scene, content: bytes | None, message: str
) -> None:
    path = scene.output / RECORD
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: {message}"):
        scene.verify()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        Scene(tmp_path, FINE).verify()
    with pytest.raises(CheckpointError, match="name a folder"):
        FINE.verify("", max_memory_bytes=BUDGET_BYTES)


def test_a_sweep_is_verified_model_by_model(tmp_path: Path) -> None:
    write_pair(tmp_path)
    results = FINE.sweep(
        tmp_path / "base",
        tmp_path / "target",
        tmp_path / "output",
        percents=[10, 40],
        max_memory=BUDGET_BYTES,
    )
    with pytest.raises(CheckpointError, match="several models: name one of them, for example /"):
        Scene(tmp_path, FINE).verify()
    for result in results:
        assert FINE.verify(result.output, max_memory_bytes=BUDGET_BYTES).ok


def test_the_folder_of_several_targets_names_a_model_two_levels_down(tmp_path: Path) -> None:
    model = tmp_path / "sweep" / "sft" / "restore_mlp_top_10pct"
    model.mkdir(parents=True)
    (model / "shardrestore.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"several models.*{re.escape(str(model))}$"):
        FINE.verify(tmp_path / "sweep", max_memory_bytes=BUDGET_BYTES)


def test_the_folder_of_an_unfinished_run_is_told_apart_from_a_damaged_model(tmp_path: Path) -> None:
    (tmp_path / "output" / ".shardrestore-partial").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"unfinished run.*--resume"):
        FINE.verify(tmp_path / "output", max_memory_bytes=BUDGET_BYTES)


# The inputs


@pytest.fixture
def moved(tmp_path: Path) -> Scene:
    """A finished model whose inputs may be changed."""
    write_pair(tmp_path)
    restore(tmp_path)
    return Scene(tmp_path, FINE)


@pytest.mark.parametrize("role", ["base", "target"])
def test_an_input_that_moved_is_found_by_its_option(moved: Scene, role: str) -> None:
    (moved.root / role).rename(moved.root / "elsewhere")
    with pytest.raises(CheckpointError, match=f"no longer there.*pass --{role} with its folder"):
        moved.verify()
    assert moved.verify(**{role: moved.root / "elsewhere"}).ok


def test_another_checkpoint_is_refused(moved: Scene) -> None:
    with pytest.raises(CheckpointError, match=r"2 in the record; .* pass the folder that was"):
        moved.verify(target=moved.root / "base")


def test_an_input_whose_header_changed_in_one_bit_is_refused(moved: Scene) -> None:
    path = moved.root / "base" / "model.safetensors"
    flip(path, path.read_bytes().index(b"pt"), 0)
    with pytest.raises(CheckpointError) as error:
        moved.verify()
    assert f"base {moved.root / 'base'}: not the checkpoint of {moved.output / RECORD}: the " in (
        str(error.value)
    )
    assert len(re.findall("[0-9a-f]{64}", str(error.value))) == 2
    assert str(error.value).endswith("pass --base if it has moved")


def test_an_input_of_another_size_is_refused(moved: Scene) -> None:
    tensors = oracle.load(moved.root / "base") | {"more": oracle.Stored("U8", (1,), b"\0")}
    write_checkpoint(moved.root / "base", tensors)
    with pytest.raises(CheckpointError, match=r"model.safetensors has \d+ bytes, \d+ in the rec"):
        moved.verify()


def test_an_input_whose_weights_changed_shows_in_the_comparison(moved: Scene) -> None:
    path = moved.root / "base" / "model.safetensors"
    flip(path, path.stat().st_size - 1, 6)  # NORM is last, and outside the region
    assert moved.verify().ok
    header, start = read_header(path)
    flip(path, start + header[UP]["data_offsets"][0] + 1, 6)
    assert f"tensor {UP}: element 0 is 0x" in "\n".join(moved.verify().problems)


# Memory and threads


def test_a_budget_that_is_too_small_is_refused_with_both_numbers(scene: Scene) -> None:
    with pytest.raises(MemoryBudgetError, match=r"at least [\d,]+ MiB .* allows 1 MiB: raise it"):
        scene.verify(max_memory_bytes=1 << 20)


_MEASURE = """
import re, sys
from pathlib import Path
from shardrestore import restore
from shardrestore.errors import MemoryBudgetError
from shardrestore.synthetic import LlamaShape, write_pair
from shardrestore.verification.verify import verify_folder
root = Path(sys.argv[1])
shape = LlamaShape(num_hidden_layers=2, hidden_size=512, intermediate_size=2048,
                   num_attention_heads=8, num_key_value_heads=4, vocab_size=4096)
if not (root / "output").exists():
    write_pair(root, shape, shard_bytes=10_000_000)
    restore(root / "base", root / "target", root / "output")
else:
    try:
        verify_folder(root / "output", max_memory_bytes=64 << 20)
    except MemoryBudgetError as error:
        least = int(re.search(r"raise it to (\\d+)MiB", str(error))[1]) << 20
    result = verify_folder(root / "output", max_memory_bytes=least)
    assert result.ok
    print(least, result.peak_rss_bytes)
"""


def test_the_least_memory_that_is_asked_for_suffices(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MEASURE, str(tmp_path)]
    subprocess.run(command, check=True)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    least, peak = map(int, done.stdout.split())
    assert 0 < peak <= least


class _Counting:
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.total = self.done = 0

    def begin(self, stage: str, total_bytes: int) -> None:
        self.stages.append(stage)
        self.total = total_bytes

    def advance(self, nbytes: int) -> None:
        self.done += nbytes

    def end(self) -> None:
        self.stages.append("end")


def test_progress_adds_up_to_what_was_announced(scene: Scene) -> None:
    observer = _Counting()
    scene.verify(observer=observer)
    assert observer.stages == ["verify", "end"]
    assert observer.done == observer.total > 0
