"""A whole run whose base is computed: what no file holds is read as if one did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import shardrestore
from shardrestore.checkpoint.folder import Checkpoint
from shardrestore.checkpoint.reader import TensorReader
from shardrestore.checkpoint.tensor import Tensor
from shardrestore.inputs.reference import open_checkpoint
from shardrestore.runs import session

Q, K = (f"model.layers.0.self_attn.{name}_proj.weight" for name in "qk")
FUSED = "model.layers.0.self_attn.qk_proj.weight"
NORM = "model.norm.weight"
SHAPE = (40, 50)


class Negated(TensorReader):
    """Another reader's tensors with every sign turned round."""

    def __init__(self, inner: TensorReader) -> None:
        self._inner = inner

    @property
    def held_bytes(self) -> int:
        return self._inner.held_bytes + 12_345

    def read(self, tensor: Tensor, start: int, elements: int, out: memoryview) -> None:
        self._inner.read(tensor, start, elements, out)
        codes = np.frombuffer(out, f"u{tensor.element_bytes}", elements)
        codes ^= codes.dtype.type(1 << 8 * tensor.element_bytes - 1)

    def announce(self, tensor: Tensor, *how: Any) -> None:
        self._inner.announce(tensor, *how)

    def identity(self) -> dict[str, Any]:
        return {**self._inner.identity(), "computed": "negated"}


class Rows(TensorReader):
    """Tensors that are ranges of rows of others.

    Parameters
    ----------
    inner : TensorReader
    origins : dict
        The tensor that each is of, and the number of its first element there.
    """

    def __init__(self, inner: TensorReader, origins: dict[str, tuple[Tensor, int]]) -> None:
        self._inner = inner
        self._origins = origins

    def read(self, tensor: Tensor, start: int, elements: int, out: memoryview) -> None:
        origin, first = self._origins[tensor.name]
        self._inner.read(origin, first + start, elements, out)

    def announce(self, tensor: Tensor, start: int, *how: Any) -> None:
        origin, first = self._origins[tensor.name]
        self._inner.announce(origin, first + start, *how)

    def identity(self) -> dict[str, Any]:
        return self._inner.identity()


def negate(opened: Checkpoint) -> Checkpoint:
    return replace(opened, reader=Negated(opened.reader))


def split(opened: Checkpoint) -> Checkpoint:
    fused, elements = opened.tensors[FUSED], SHAPE[0] * SHAPE[1]
    parts = {name: replace(fused, name=name, shape=SHAPE) for name in (Q, K)}
    tensors = {name: tensor for name, tensor in opened.tensors.items() if name != FUSED} | parts
    origins = {name: (tensor, 0) for name, tensor in opened.tensors.items()}
    origins |= {Q: (fused, 0), K: (fused, elements)}
    return replace(
        opened, tensors=dict(sorted(tensors.items())), reader=Rows(opened.reader, origins)
    )


def write(folder: Path, weights: dict[str, Any]) -> Path:
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    return folder


def draw(seed: int, dtype: type) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        name: random.normal(0, 1, shape).astype(dtype)
        for name, shape in ((Q, SHAPE), (K, SHAPE), (NORM, (50,)))
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("compute", [negate, split])
@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
def test_a_computed_base_restores_what_the_same_base_in_a_file_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compute: Callable[[Checkpoint], Checkpoint],
    dtype: type,
    device: str,
) -> None:
    base, tuned = draw(1, dtype), draw(2, dtype)
    stored = {name: -weight for name, weight in base.items()}
    if compute is split:
        stored = {FUSED: np.concatenate([base[Q], base[K]]), NORM: base[NORM]}
    target = write(tmp_path / "target", tuned)
    options: dict[str, Any] = {"percent": 30, "max_memory": "16GiB", "device": device}
    shardrestore.restore(write(tmp_path / "base", base), target, tmp_path / "expected", **options)
    opened: list[Checkpoint] = []

    def open_computed(reference: Any, role: str, **limits: Any) -> Checkpoint:
        found = open_checkpoint(reference, role, **limits)
        opened.append(compute(found) if role == "base" else found)
        return opened[-1]

    monkeypatch.setattr(session, "open_checkpoint", open_computed)
    report = shardrestore.restore(
        write(tmp_path / "computed", stored), target, tmp_path / "output", **options
    )
    assert report.selected_elements == int(2 * SHAPE[0] * SHAPE[1] * 0.3)
    found, expected = (
        load_file(tmp_path / name / "model.safetensors") for name in ("output", "expected")
    )
    for name, weight in expected.items():
        assert found[name].tobytes() == weight.tobytes(), name
    assert not np.array_equal(found[Q], tuned[Q])
