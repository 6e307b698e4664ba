"""Pairs of any size, written at the speed of the disk: a few random tiles, repeated.

A tensor repeats one of 64 tiles of 2,048 weights, drawn as ``shardrestore.synthetic`` draws
them: base weights of standard deviation 0.02, updates of 1e-5 to 1e-3. So its scores are
those of a small real tensor, every score ties with thousands of others, and what a run must
find can be computed from the tiles alone (``predict``).

A tile is 4 KiB, so that a file system that compresses 128 KiB at a time, as btrfs does,
stores one thirty-second.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shardrestore.checkpoint.header import encode_header
from shardrestore.checkpoint.index import encode_index
from shardrestore.kernels import reference
from shardrestore.machine.executor import Control, Stage, running
from shardrestore.machine.progress import SilentObserver
from shardrestore.machine.threads import ThreadExecutor
from shardrestore.names import INDEX_FILE
from shardrestore.scores import relative
from shardrestore.selection.cut import selected_count

from .llama import LargeModel, Tensors, count_elements, split

TILES = 64
TILE_ELEMENTS = 2048
BUFFER_ELEMENTS = 1 << 21

Patterns = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The weights of which all tensors are made.

    bfloat16 patterns, shape (TILES, TILE_ELEMENTS).
    """

    base: Patterns
    target: Patterns


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The cut that a run must find."""

    region_elements: int
    selected: int
    tie_first_key: int
    """Smallest key that is restored, at least in part."""
    ties: int
    ties_taken: int


def make_tiles(seed: int = 0) -> Tiles:
    """Draw the tiles."""
    random = np.random.default_rng(seed)
    shape = TILES, TILE_ELEMENTS
    weights = random.standard_normal(shape, np.float32) * np.float32(0.02)
    base = _encode(weights)
    scales = (10.0 ** random.uniform(-5, -3, (TILES, 1))).astype(np.float32)
    return Tiles(
        base=base, target=_encode(weights + random.standard_normal(shape, np.float32) * scales)
    )


def _encode(weights: npt.NDArray[np.float32]) -> Patterns:
    patterns = np.empty(weights.shape, np.uint16)
    reference.narrow_bfloat16(weights, patterns)
    return patterns


def tile_number(name: str) -> int:
    """Return which tile a tensor repeats."""
    return zlib.crc32(name.encode()) % TILES


def write_sides(folder: Path, model: LargeModel, tiles: Tiles, *, workers: int) -> None:
    """Write ``base`` and ``target`` of a model, several shards at a time.

    Every file is on disk when this returns: what is measured then does not wait for it.
    """
    tasks: list[tuple[Path, Tensors, Patterns]] = []
    for side, patterns, shard_bytes in (
        ("base", tiles.base, model.base_shard_bytes),
        ("target", tiles.target, model.target_shard_bytes),
    ):
        place = folder / side
        place.mkdir(parents=True)
        (place / "config.json").write_bytes(model.shape.config("BF16"))
        shards = split(model.tensors, shard_bytes)
        if len(shards) > 1:
            weight_map = {name: file for file, shard in shards.items() for name, _ in shard}
            (place / INDEX_FILE).write_bytes(encode_index(weight_map, model.side_bytes))
        tasks += [(place / file, shard, patterns) for file, shard in shards.items()]

    stage = Stage(name="write", open_worker=_keep, work=_write_shard)
    with running(ThreadExecutor(), stage, tasks, workers, SilentObserver()) as written:
        for _ in written:
            pass


def _keep(control: Control) -> Control:
    return control


def _write_shard(control: Control, task: tuple[Path, Tensors, Patterns]) -> None:
    path, tensors, patterns = task
    with open(path, "xb", buffering=0) as file:
        _write(file.fileno(), encode_header([(n, "BF16", s) for n, s in tensors], {"format": "pt"}))
        for name, shape in tensors:
            left = count_elements(shape)
            repeats = min(BUFFER_ELEMENTS, left) // TILE_ELEMENTS + 1
            buffer = np.tile(patterns[tile_number(name)], repeats)
            step = buffer.size // TILE_ELEMENTS * TILE_ELEMENTS
            while left:
                control.check()
                count = min(left, step)
                _write(file.fileno(), buffer[:count].data.cast("B"))
                left -= count
        os.fsync(file.fileno())


def _write(descriptor: int, buffer: bytes | memoryview) -> None:
    rest = memoryview(buffer)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def is_in_region(name: str) -> bool:
    """Say whether a tensor belongs to the region ``transformer``."""
    return "layers" in name and "norm" not in name


def predict(model: LargeModel, tiles: Tiles, percent: float) -> Prediction:
    """Compute from the tiles alone which cut a run must find.

    By sorting the scores of the tiles, each with the number of times that it occurs.
    """
    occurrences = np.zeros((TILES, TILE_ELEMENTS), np.int64)
    elements = 0
    for name, shape in model.tensors:
        if is_in_region(name):
            count = count_elements(shape)
            whole, rest = divmod(count, TILE_ELEMENTS)
            occurrences[tile_number(name)] += whole
            occurrences[tile_number(name), :rest] += 1
            elements += count
    keys = np.empty(occurrences.size, np.uint32)
    reference.score_keys(relative.SCORE, tiles.base.ravel(), tiles.target.ravel(), keys)
    found, places = np.unique(keys, return_inverse=True)
    counts = np.zeros(found.size, np.int64)
    np.add.at(counts, places, occurrences.ravel())
    selected = selected_count(elements, percent)
    above = np.cumsum(counts[::-1])[::-1]  # elements with this key or a higher one
    at = int(np.flatnonzero(above >= selected)[-1])
    ties = int(counts[at])
    return Prediction(
        region_elements=elements,
        selected=selected,
        tie_first_key=int(found[at]),
        ties=ties,
        ties_taken=selected - (int(above[at]) - ties),
    )
