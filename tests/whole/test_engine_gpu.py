"""Files written through torch are those that processors write, whatever the device's memory.

Here on torch's ``cpu`` device; on CUDA where there is one. That blocks, kernels and workers do
not show is part of ``test_invariants`` and ``test_sweeps``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import shardrestore
from shardrestore.engine import gpu as engine_gpu
from shardrestore.engine import streams as queues
from shardrestore.engine.choice import open_engine
from shardrestore.engine.interface import SegmentCut
from shardrestore.engine.job import Job
from shardrestore.inputs.opened import Inputs
from shardrestore.kernels import gpu
from shardrestore.machine import device
from shardrestore.machine.device import Device
from shardrestore.machine.progress import SilentObserver
from shardrestore.machine.serial import SerialControl
from shardrestore.plan.memory import GPU_SLOTS
from shardrestore.request import make_request
from shardrestore.runs.session import Session
from shardrestore.selection.cut import Cut
from shardrestore.selection.score import BINS
from tests.support.checkpoints import Layout, Stored, read_tree, store, write_checkpoint
from tests.support.devices import NEEDS_CUDA, allocated_peak
from tests.support.library import Library, cut_into

Q = "model.layers.0.self_attn.q_proj.weight"
K = "model.layers.0.self_attn.k_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"
NORM = "model.norm.weight"
FINE = Library(cut_into(segment_elements=400, chunk_elements=16, block_bytes=256))


class Listener:
    """Hears what an observer is told."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self.planned: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self._stage = ""

    def note(self, remark: str) -> None:
        self.remarks.append(remark)

    def begin(self, stage: str, total_bytes: int) -> None:
        self._stage = stage
        self.planned[stage] = total_bytes
        self.done[stage] = 0

    def advance(self, nbytes: int) -> None:
        self.done[self._stage] += nbytes

    def end(self) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pair in three formats, sharded, with tensors that are copied, and one with NaN."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.02, 1000)
    changed = values * (1 + rng.normal(0, 0.1, values.size) * rng.integers(0, 2, values.size))
    changed[7] = np.nan
    dtypes = {Q: "BF16", K: "F32", UP: "F16", NORM: "F32"}
    base = {name: store(values, dtype) for name, dtype in dtypes.items()}
    target = {name: store(changed, dtype) for name, dtype in dtypes.items()}
    target["model.embeddings.position_ids"] = Stored("I64", (40,), bytes(320))
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "target", target, Layout(2, 7), {"tokenizer.json": b"{}" * 99})
    return tmp_path


def sweep(folder: Path, output: str, **options: Any) -> dict[str, bytes]:
    """Write models by every strategy; return their files."""
    settings = {
        "percents": [10, 50],
        "strategy": ["top", "bottom", "random"],
        "workers": 2,
        "max_memory": "16GiB",
        "allow_nonfinite": True,
        "report": False,
    }
    FINE.sweep(folder / "base", folder / "target", folder / output, **(settings | options))
    return read_tree(folder / output)


class Scarce:
    """A kernel that runs out of memory with more than some elements at once."""

    def __init__(self, kernel: Callable[..., Any], most_elements: int) -> None:
        self._kernel = kernel
        self._most_elements = most_elements
        self.refused = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        size = next(one.numel() for one in arguments if isinstance(one, torch.Tensor))
        if size > self._most_elements:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._kernel(*arguments, **options)


@pytest.mark.parametrize("options", [{}, {"dtype": "fp16"}, {"dtype": "bf16"}, {"dtype": "fp32"}])
def test_every_format_strategy_and_cast_gives_the_processors_files(
    folder: Path, options: dict[str, Any]
) -> None:
    expected = sweep(folder, "cpu", device="cpu", **options)
    assert sweep(folder, "torch", device="torch:cpu", **options) == expected


@pytest.mark.parametrize(
    ("most_elements", "remarks"),
    [
        (64, ["cpu is out of memory: going on with smaller chunks"]),
        (
            0,
            [
                "cpu is out of memory: going on with smaller chunks",
                "cpu is out of memory: going on with processors",
            ],
        ),
    ],
)
@pytest.mark.parametrize("kernel", ["score_keys", "select", "count_scores", "random_keys"])
def test_out_of_memory_it_takes_less_at_once_and_then_processors(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    most_elements: int,
    remarks: list[str],
) -> None:
    """Said once, whatever the workers; nothing is counted twice, not even progress."""
    expected = sweep(folder, "cpu", device="cpu")
    scarce = Scarce(getattr(gpu, kernel), most_elements)
    if kernel == "random_keys":  # takes the number of elements, not a tensor
        draw = gpu.random_keys

        def draw_few(word0: int, word1: int, start: int, elements: int, where: Any) -> Any:
            if elements > most_elements:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return draw(word0, word1, start, elements, where)

        monkeypatch.setattr(gpu, kernel, draw_few)
    else:
        monkeypatch.setattr(gpu, kernel, scarce)
    monkeypatch.setattr(device, "_check_once", lambda name, score: name)
    listener = Listener()
    assert sweep(folder, "torch", device="torch:cpu", observer=listener) == expected
    assert listener.remarks == remarks
    assert listener.done == listener.planned


def test_without_memory_for_its_buffers_it_is_a_processor_from_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    expected = sweep(folder, "cpu", device="cpu")
    monkeypatch.setattr(queues.Queues, "make_slots", refuse)
    listener = Listener()
    assert sweep(folder, "torch", device="torch:cpu", observer=listener) == expected
    assert listener.remarks == ["cpu is out of memory: going on with processors"]


def test_several_devices_share_the_segments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names of one device here: what is shared is the list of segments."""
    opened: list[str] = []
    open_engine = engine_gpu.GpuEngine.__init__

    def note_name(self: Any, context: Any, stop: Any, name: str) -> None:
        opened.append(name)
        open_engine(self, context, stop, name)

    monkeypatch.setattr(engine_gpu.GpuEngine, "__init__", note_name)
    monkeypatch.setattr(
        "shardrestore.runs.session.find_device",
        lambda asked, budget, score: Device(names=("cpu", "cpu:0"), label="both"),
    )
    assert sweep(folder, "torch", workers=4) == sweep(folder, "cpu", device="cpu")
    assert set(opened) == {"cpu", "cpu:0"}


def test_a_read_that_fails_ends_the_run_as_on_a_processor(folder: Path) -> None:
    for path in (folder / "base").glob("*.safetensors"):
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - 8)
    messages = set()
    for name in ("cpu", "torch:cpu"):
        with pytest.raises(shardrestore.CheckpointError) as error:
            sweep(folder, name.replace(":", "-"), device=name)
        messages.add(str(error.value))
        assert not (folder / name.replace(":", "-")).exists()
    assert len(messages) == 1


@pytest.mark.parametrize("dtype", ["auto", "bf16", "fp16", "fp32"])
@pytest.mark.parametrize("kind", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("strategies", [["top"], ["top", "bottom", "random"]])
def test_what_a_segment_takes_on_the_device_is_within_its_projection(
    tmp_path: Path, kind: str, dtype: str, strategies: list[str]
) -> None:
    """With chunks so large that what depends on them is most of it."""
    values = np.random.default_rng(0).normal(0, 0.02, 4 << 20)
    write_checkpoint(tmp_path / "base", {Q: store(values, "F32" if kind == "F16" else "F16")})
    write_checkpoint(tmp_path / "target", {Q: store(values * 1.1, kind)})
    options: dict[str, Any] = {"strategy": strategies, "dtype": dtype, "device": "torch:cpu"}
    request = make_request([10], options | {"workers": 1, "max_memory": "8GiB", "report": False})
    with Session(tmp_path / "base", tmp_path / "target", request) as session:
        sizing, load_bytes = session.work.sizing, session.work.sizing.projected_device_bytes
        assert sizing.chunk_elements >= 1 << 20
        job = Job(
            inputs=Inputs(session.base, session.target),
            device=session.work.device,
            sizing=sizing,
            granularity=request.granularity,
            scoring=request.scoring,
            seed=1,
            allow_nonfinite=True,
            kernel_set=request.kernel_set,
        )
        (segment,) = session.work.segments
        cuts = [
            SegmentCut(cut=make_cut(strategy, segment.elements), remainder=0)
            for strategy in strategies
        ]
        slots = np.zeros(BINS, np.int32)

        def use() -> None:
            engine = open_engine(job, SerialControl(SilentObserver()))
            engine.count(segment, ignore)
            engine.count_lows(segment, slots, 1, ignore, random=True)
            engine.count_lows(segment, slots, 1, ignore, random=False)
            engine.cut(segment, cuts, Nowhere(), ignore)

        host_bytes = GPU_SLOTS * (2 + len(cuts)) * sizing.block_bytes
        assert allocated_peak(use) <= load_bytes + host_bytes


def make_cut(strategy: Any, elements: int) -> Cut:
    """A cut with ties everywhere, which take the most memory."""
    return Cut(
        strategy=strategy,
        percent=50.0,
        elements=elements,
        selected=elements // 2,
        tie_first=0,
        tie_span=1 << 30,
        ties=elements,
        ties_taken=elements // 2,
    )


class Nowhere:
    """Takes blocks that nobody wants."""

    def write(self, start: int, elements: int, parts: Any) -> None:
        pass

    def restart(self) -> None:
        pass


def ignore(elements: int) -> None:
    """Hear of progress."""


@pytest.mark.cuda
@NEEDS_CUDA
@pytest.mark.parametrize("options", [{}, {"dtype": "fp16"}, {"dtype": "bf16"}, {"dtype": "fp32"}])
def test_a_gpu_gives_the_processors_files(folder: Path, options: dict[str, Any]) -> None:
    expected = sweep(folder, "cpu", device="cpu", **options)
    assert sweep(folder, "cuda", device="cuda", **options) == expected
