"""Whole runs in cases that random checkpoints seldom meet, and runs that fail halfway."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import shardrestore
from shardrestore.errors import CheckpointError, OutputError
from shardrestore.names import JOURNAL_FILE, STAGING_FOLDER
from shardrestore.output.staging import Staging
from tests.support import oracle
from tests.support.checkpoints import Layout, Stored, read_tree, store, write_checkpoint
from tests.support.library import Library, cut_into

Q = "model.layers.0.self_attn.q_proj.weight"
K = "model.layers.0.self_attn.k_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"
NORM = "model.norm.weight"
BUDGET = "16GiB"
USUAL = Library()
FINE = Library(cut_into(segment_elements=61, chunk_elements=16, block_bytes=200, copy_bytes=100))


def pair_of(dtypes: dict[str, str], size: int = 400, seed: int = 0) -> tuple[dict, dict]:
    """Ordinary weights and updates, the same numbers in every tensor of the region."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 0.02, size)
    target = base * (1 + rng.normal(0, 0.1, size))
    return tuple(
        {name: store(side, dtype) for name, dtype in dtypes.items()} for side in (base, target)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pair in three formats, sharded, with tensors that are copied."""
    base, target = pair_of({Q: "BF16", K: "F32", UP: "F16", NORM: "F32"})
    target["model.embeddings.position_ids"] = Stored("I64", (40,), bytes(320))
    write_checkpoint(tmp_path / "base", base)
    side_files = {"config.json": b'{"dtype": "float32"}', "tokenizer.json": b"{}" * 999}
    write_checkpoint(tmp_path / "target", target, Layout(2, 7), side_files)
    return tmp_path


def restore(
    folder: Path, output: str = "output", library: Library = USUAL, **options: Any
) -> shardrestore.Restoration:
    options = {"percent": 30, "workers": 2, "max_memory": BUDGET} | options
    return library.restore(folder / "base", folder / "target", folder / output, **options)


# One ranking over several formats


@pytest.mark.parametrize("strategy", ["top", "bottom"])
@pytest.mark.parametrize("approximate", [False, True])
def test_bfloat16_and_float32_scores_share_one_ranking(
    tmp_path: Path, strategy: str, approximate: bool
) -> None:
    """Cuts that fall into bins of both kinds, between and upon bfloat16 scores."""
    base, target = pair_of({Q: "BF16", K: "F32", UP: "BF16"})
    # Many equal scores, which both kinds hold exactly.
    base[UP], target[UP] = store([1.0] * 400, "BF16"), store([1.5] * 300 + [1.25] * 100, "BF16")
    base[NORM], target[NORM] = store([1.0] * 90), store([1.5] * 50 + [1.2500001] * 40)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target)
    # Between two and three percent lie the bins that both kinds fill most densely.
    percents = [0.1, 1, 2, 3, 5, 7.5, 10, 20, 25, 30, 33, 40, 45, 50, 60, 70, 80, 90, 99, 100]
    options = {"region": "all", "strategy": strategy, "approximate": approximate}
    results = FINE.sweep(
        tmp_path / "base",
        tmp_path / "target",
        tmp_path / "output",
        percents=percents,
        max_memory=BUDGET,
        **options,
    )
    for percent, result in zip(percents, results, strict=True):
        expected = oracle.expect(base, target, percent=percent, **options)
        assert oracle.load(result.output) == expected.tensors
        ties = result.figures.ties
        assert (ties.count, ties.taken) == (expected.ties, expected.ties_taken)
        assert result.threshold == expected.threshold


def test_the_float16_of_the_published_tool_is_not_repeated(tmp_path: Path) -> None:
    """There 1e-8 underflows, unchanged zeros become NaN and rank first."""
    base = {Q: store([0.0] * 50 + [1.0] * 50, "F16")}
    target = {Q: store([0.0] * 50 + [1.5] * 50, "F16")}
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target)
    result = restore(tmp_path, percent=50)
    assert result.figures.scores.selected.min == pytest.approx(0.5, rel=1 / 200)
    assert oracle.load(tmp_path / "output") == base


def test_equal_checkpoints_tie_everywhere(tmp_path: Path) -> None:
    base, _ = pair_of({Q: "BF16", K: "F32"})
    for side in ("base", "target"):
        write_checkpoint(tmp_path / side, base)
    result = restore(tmp_path, percent=25)
    assert (result.unchanged_share, result.threshold) == (1.0, 0.0)
    ties = result.figures.ties
    assert (ties.count, ties.taken) == (800, 200)
    assert [tensor.restored for tensor in result.tensors] == [100, 100]


def test_a_hundred_percent_gives_the_base_back(tmp_path: Path) -> None:
    base, target = pair_of({Q: "BF16", K: "F32", UP: "F16"})
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target)
    for strategy in ("top", "bottom", "random"):
        restore(tmp_path, strategy, percent=100, strategy=strategy)
        assert oracle.load(tmp_path / strategy) == base


def test_a_cut_is_exact_unless_it_is_approximate_and_float32(tmp_path: Path) -> None:
    base, target = pair_of({Q: "BF16", UP: "F32"})
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target)
    told = {
        (region, approximate): restore(
            tmp_path, f"{region}{approximate}", region=region, approximate=approximate
        ).figures.cut.exact
        for region in ("attention", "mlp", "transformer")
        for approximate in (False, True)
    }
    assert [kind for kind, exact in told.items() if not exact] == [
        ("mlp", True),
        ("transformer", True),
    ]


def test_an_empty_float32_tensor_makes_no_cut_inexact(tmp_path: Path) -> None:
    base, target = pair_of({Q: "BF16"})
    base[UP] = target[UP] = store(np.empty((0, 4), np.float32))
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target)
    assert restore(tmp_path).figures.cut.exact


# Casts


@pytest.mark.parametrize(("dtype", "name"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_cast_is_written_into_the_configuration(tmp_path: Path, dtype: str, name: str) -> None:
    base, target = pair_of({Q: "F32"})
    config = {"torch_dtype": "float32", "text_config": {"dtype": "float32"}, "other": "float32"}
    write_checkpoint(tmp_path / "base", base)
    files = {"config.json": json.dumps(config).encode()}
    write_checkpoint(tmp_path / "target", target, Layout(0, 0), files)
    restore(tmp_path, dtype=dtype)
    assert json.loads((tmp_path / "output" / "config.json").read_text()) == {
        "torch_dtype": name,
        "text_config": {"dtype": name},
        "other": "float32",
    }


def test_a_cast_survives_an_infinite_number_in_the_configuration(tmp_path: Path) -> None:
    """Mamba 2's ``time_step_limit`` is ``[0.0, Infinity]``."""
    base, target = pair_of({Q: "F32"})
    write_checkpoint(tmp_path / "base", base)
    files = {"config.json": b'{"time_step_limit": [0.0, Infinity], "dtype": "float32"}'}
    write_checkpoint(tmp_path / "target", target, Layout(0, 0), files)
    restore(tmp_path, dtype="bf16")
    config = json.loads((tmp_path / "output" / "config.json").read_text())
    assert config == {"time_step_limit": [0.0, float("inf")], "dtype": "bfloat16"}


# Progress


class Recorder:
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.open: tuple[str, int] | None = None

    def begin(self, stage: str, total_bytes: int) -> None:
        assert self.open is None
        self.open, self.done = (stage, total_bytes), 0

    def advance(self, nbytes: int) -> None:
        assert self.open is not None
        assert nbytes > 0
        self.done += nbytes

    def end(self) -> None:
        assert self.open is not None
        self.stages.append((*self.open, self.done))
        self.open = None


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({}, ["scan", "refine", "restore"]),
        ({"approximate": True}, ["scan", "restore"]),
        ({"dtype": "bf16"}, ["scan", "restore"]),
        ({"dtype": "fp32"}, ["scan", "refine", "restore"]),
        ({"strategy": "random"}, ["scan", "random", "random", "restore"]),
        (
            {"strategy": "random", "approximate": True, "dtype": "bf16", "region": "mlp"},
            ["scan", "random", "random", "restore"],
        ),
    ],
)
def test_progress_adds_up_to_what_was_announced(
    folder: Path, options: dict[str, Any], stages: list[str]
) -> None:
    recorder = Recorder()
    restore(folder, library=FINE, observer=recorder, **options)
    assert [stage for stage, _, _ in recorder.stages] == stages
    assert all(total == done > 0 for _, total, done in recorder.stages)


# Runs that fail


def failing(real: Callable[..., Any], after: int, code: int) -> Callable[..., Any]:
    """Let a system call fail from its call number `after` on."""
    calls = iter(range(10**9))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) >= after:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    return call


def assert_resumable(folder: Path, output: str = "output", **options: Any) -> None:
    """All that a run has left is its hidden folder; resumed, it ends as if nothing had been."""
    assert os.listdir(folder / output) == [STAGING_FOLDER]
    with pytest.raises(OutputError, match="unfinished run: continue it with --resume"):
        restore(folder, output, **options)
    restore(folder, output, FINE, resume=True, **options)
    restore(folder, "whole", FINE, **options)
    assert read_tree(folder / output) == read_tree(folder / "whole")


def is_resumable(folder: Path) -> bool:
    return os.path.lexists(folder / STAGING_FOLDER / JOURNAL_FILE)


@pytest.mark.parametrize(
    ("name", "after", "kept"),
    [
        *(("ftruncate", after, after > 0) for after in (0, 1, 2)),
        *(("fsync", after, after > 2) for after in (0, 1, 2, 3, 6, 9)),
        *(("pwrite", after, after > 70) for after in (0, 1, 2, 10, 60, 90)),
    ],
)
def test_a_full_disk_leaves_what_can_be_resumed_and_nothing_before_the_end_of_the_scan(
    folder: Path, name: str, after: int, kept: bool
) -> None:
    before = read_tree(folder)
    full = failing(getattr(os, name), after, errno.ENOSPC)
    with (
        mock.patch.object(os, name, full),
        pytest.raises(OutputError, match="No space left"),
    ):
        restore(folder, "deep/er/output", FINE)
    found = read_tree(folder)
    assert {path: found[path] for path in before} == before
    if kept:
        assert is_resumable(folder / "deep/er/output")
        assert_resumable(folder, "deep/er/output")
    else:
        assert found == before
        assert not (folder / "deep").exists()


@pytest.mark.parametrize("after", [0, 3, 11, 60])
def test_an_input_that_cannot_be_read_leaves_nothing_behind(folder: Path, after: int) -> None:
    before = read_tree(folder)
    broken = failing(os.preadv, after, errno.EIO)
    with (
        mock.patch.object(os, "preadv", broken),
        pytest.raises(CheckpointError, match="Input/output error"),
    ):
        restore(folder, library=FINE)
    assert read_tree(folder) == before
    assert not (folder / "output").exists()


def test_an_input_that_shrinks_while_it_is_read_is_an_error(folder: Path) -> None:
    class Shrinker(Recorder):
        def begin(self, stage: str, total_bytes: int) -> None:
            super().begin(stage, total_bytes)
            if stage == "restore":
                os.truncate(folder / "base" / "model.safetensors", 3000)

    with pytest.raises(CheckpointError, match="cut short"):
        restore(folder, observer=Shrinker())
    assert not (folder / "output").exists()


def test_an_input_that_changes_between_the_passes_is_an_error(folder: Path) -> None:
    class Changer(Recorder):
        def begin(self, stage: str, total_bytes: int) -> None:
            super().begin(stage, total_bytes)
            if stage == "restore":
                path = folder / "base" / "model.safetensors"
                data = path.read_bytes()
                path.write_bytes(data[:-2000] + bytes(2000))

    with pytest.raises(CheckpointError, match="changed while it was read"):
        restore(folder, observer=Changer())
    assert not (folder / "output").exists()


@pytest.mark.parametrize("stage", ["scan", "refine", "restore"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_what_can_be_resumed_and_nothing_in_the_scan(
    folder: Path, stage: str, error: type[BaseException]
) -> None:
    class Interrupter(Recorder):
        def advance(self, nbytes: int) -> None:
            super().advance(nbytes)
            if self.open and self.open[0] == stage:
                raise error

    with pytest.raises(error):
        restore(folder, library=FINE, observer=Interrupter(), workers=3)
    if stage == "scan":
        assert not (folder / "output").exists()
    else:
        assert_resumable(folder)


@pytest.mark.parametrize("after", [2, 20])
def test_a_failed_run_leaves_what_the_output_held(folder: Path, after: int) -> None:
    restore(folder)
    before = read_tree(folder / "output")
    full = failing(os.pwrite, after, errno.ENOSPC)
    with mock.patch.object(os, "pwrite", full), pytest.raises(OutputError):
        restore(folder, overwrite=True, percent=60)
    assert visible_tree(folder / "output") == before
    assert is_resumable(folder / "output") == (after == 20)


def visible_tree(folder: Path) -> dict[str, bytes]:
    """Return every file outside the hidden folders."""
    files = read_tree(folder).items()
    return {name: data for name, data in files if STAGING_FOLDER not in Path(name).parts}


@pytest.mark.parametrize("after", range(14))
def test_whatever_stands_under_its_final_name_is_complete(folder: Path, after: int) -> None:
    """Killed while it renames: each file is the finished one, and the index comes last."""
    restore(folder, "whole")
    whole = read_tree(folder / "whole")
    real, calls = os.rename, iter(range(10**9))

    staged = 3  # the scan and two shards, within the hidden folder

    class Killed(BaseException):
        pass

    def rename(source: Any, destination: Any, **folders: int) -> None:
        if next(calls) >= after:
            raise Killed
        real(source, destination, **folders)

    killed = False
    try:
        # Killed at once: nothing that would clean up runs.
        with mock.patch.object(os, "rename", rename), mock.patch("shutil.rmtree"):
            restore(folder)
    except Killed:
        killed = True
    visible = visible_tree(folder / "output")
    assert visible.items() <= whole.items()
    index = "model.safetensors.index.json"
    reports = 1
    assert killed == (after < staged + len(whole) + reports)
    assert index not in visible or visible.keys() == whole.keys()


def test_no_model_of_a_sweep_gets_its_name_before_all_are_complete(folder: Path) -> None:
    first_two = 2 * 2  # side files of two models
    full = failing(Staging.copy_file, first_two, errno.ENOSPC)
    three: Any = {"percents": [5, 10, 20], "max_memory": BUDGET}
    sides = folder / "base", folder / "target"
    with (
        mock.patch.object(Staging, "copy_file", full),
        pytest.raises(shardrestore.OutputError, match="No space"),
    ):
        shardrestore.sweep(*sides, folder / "output", **three)
    assert [os.listdir(model) for model in (folder / "output").iterdir()] == [[STAGING_FOLDER]] * 3
    shardrestore.sweep(*sides, folder / "output", resume=True, **three)
    shardrestore.sweep(*sides, folder / "whole", **three)
    assert read_tree(folder / "output") == read_tree(folder / "whole")


# The file system is tried in two models; the scan, and two shards of each of them.
RENAMES_OF_STAGED = 7


@pytest.mark.parametrize("failing_call", range(RENAMES_OF_STAGED, RENAMES_OF_STAGED + 28, 3))
def test_a_rename_that_fails_in_one_model_takes_back_those_of_all(
    folder: Path, failing_call: int
) -> None:
    """The models of an earlier sweep stay as they were, and so does everything beside them."""
    both: Any = {"percents": [5, 10], "overwrite": True, "max_memory": BUDGET}
    sides = folder / "base", folder / "target", folder / "output"
    shardrestore.sweep(*sides, strategy="top", region="all", **both)
    for path in sorted((folder / "output").iterdir()):
        path.rename(path.with_name(path.name.replace("_all_", "_transformer_")))
    before = read_tree(folder / "output")
    real, calls = os.rename, iter(range(10**9))

    def rename(source: Any, destination: Any, **folders: int) -> None:
        if next(calls) == failing_call:
            raise OSError(errno.EIO, "Input/output error")
        real(source, destination, **folders)

    undone = pytest.raises(OutputError, match="the output is as it was")
    with mock.patch.object(os, "rename", rename), undone:
        shardrestore.sweep(*sides, **both)
    assert visible_tree(folder / "output") == before
    shardrestore.sweep(*sides, resume=True, **both)
    shardrestore.sweep(*sides[:2], folder / "whole", **both)
    assert read_tree(folder / "output") == read_tree(folder / "whole")
