"""A finished model to be spoilt: where its elements lie, read by hand, and how to change them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shardrestore.verification.result import Verification
from tests.support import oracle
from tests.support.checkpoints import ITEM_TYPES, Layout, Stored, store, write_checkpoint
from tests.support.library import Library

Q = "model.layers.0.self_attn.q_proj.weight"
K = "model.layers.0.self_attn.k_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"
NORM = "model.norm.weight"
IDS = "model.embeddings.position_ids"
INDEX = "model.safetensors.index.json"
RECORD = "shardrestore.json"
SIZE = 400

# A process that has loaded torch is larger than the default budget by itself.
BUDGET_BYTES = 16 << 30


def write_pair(folder: Path, *, shards: int = 2, dtype: str = "BF16") -> None:
    """Write a pair whose scores tie often: all of `UP` scores 0.5 or nothing."""
    rng = np.random.default_rng(5)
    base = {name: rng.normal(0, 0.02, SIZE) for name in (Q, K, NORM)}
    target = {name: values * (1 + rng.normal(0, 0.7, SIZE)) for name, values in base.items()}
    base[UP] = np.ones(SIZE)
    target[UP] = np.where(rng.random(SIZE) < 0.8, 1.5, 1.0)
    sides = [
        {name: store(side[name], dtype) for name in (Q, K, UP, NORM)} for side in (base, target)
    ]
    sides[1][IDS] = Stored("I64", (40,), np.arange(40).tobytes())
    write_checkpoint(folder / "base", sides[0])
    write_checkpoint(folder / "target", sides[1], Layout(shards, 7))


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, or a part of a file that is no tensor."""

    path: Path
    dtype: str
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Scene:
    """A pair and a model restored from it, in one folder."""

    root: Path
    library: Library = field(default_factory=Library)
    """What verifies the model."""

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def shards(self) -> list[Path]:
        return sorted(self.output.glob("*.safetensors"))

    def verify(self, **options: Any) -> Verification:
        options = {"workers": 2, "max_memory_bytes": BUDGET_BYTES} | options
        return self.library.verify(self.output, **options)

    def place(self, name: str) -> Place:
        return next(place for found, place in self.places() if found == name)

    def places(self) -> Iterator[tuple[str, Place]]:
        """Yield each tensor of the output with its place."""
        for path in self.shards:
            header, start = read_header(path)
            header.pop("__metadata__", None)
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                yield name, Place(path, entry["dtype"], start + begin, end - begin)

    def codes(self, name: str, side: str = "output") -> np.ndarray:
        return oracle.codes_of(oracle.load(self.root / side)[name])

    def put(self, name: str, element: int, code: int) -> None:
        """Write one element of the output."""
        place = self.place(name)
        item = np.dtype(ITEM_TYPES[place.dtype])
        write_at(place.path, place.offset + element * item.itemsize, item.type(code).tobytes())

    def edit_record(self, path: str, value: object) -> None:
        """Set a value of the record, named as in ``cut.ties``; None removes nothing."""

        def change(document: dict[str, Any]) -> None:
            *parents, key = path.split(".")
            for parent in parents:
                document = document[parent]
            document[key] = value

        edit_json(self.output / RECORD, change)


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return a header as JSON, and where the data begin."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), start


def write_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a header; its data stay as they are."""
    content = path.read_bytes()
    header, start = read_header(path)
    change(header)
    raw = json.dumps(header, ensure_ascii=False).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + content[start:])


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document, indent=2))


def write_at(path: Path, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit of a file."""
    write_at(path, offset, bytes([path.read_bytes()[offset] ^ 1 << bit]))


def copy_scene(scene: Scene, root: Path) -> Scene:
    """Copy the output alone: the inputs are where the record says."""
    shutil.copytree(scene.root, root, dirs_exist_ok=True)
    return replace(scene, root=root)
