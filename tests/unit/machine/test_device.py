"""Which device a run computes on: what is asked for, what is there, and what is said of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

import shardrestore
from shardrestore.errors import DeviceError, MemoryBudgetError, RequestError
from shardrestore.kernels.device import UnfaithfulDevice
from shardrestore.machine import device
from shardrestore.machine.device import (
    AUTO_MEMORY_BYTES,
    RESIDENT_WORKERS,
    Device,
    find_device,
    find_resident_device,
)
from shardrestore.options.checks import check_device
from shardrestore.scores.score import Score
from tests.support.checkpoints import store, write_checkpoint

RELATIVE = "relative"
LARGE = AUTO_MEMORY_BYTES


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("auto", ("auto",)),
        ("cpu", ("cpu",)),
        ("mps", ("mps",)),
        ("torch:cpu", ("torch:cpu",)),
        ("cuda", ("cuda:0",)),
        ("cuda:7", ("cuda:7",)),
        ("cuda,cuda:1", ("cuda:0", "cuda:1")),
        ("cuda:1,cuda:0", ("cuda:1", "cuda:0")),
    ],
)
def test_a_device_is_one_of_something_or_several_gpus(text: str, names: tuple[str, ...]) -> None:
    assert check_device("device", text) == names


@pytest.mark.parametrize(
    "text", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:٣", "cpu,cuda", "cuda:0;cuda:1", 0, None]
)
def test_anything_else_is_refused_with_the_choices(text: object) -> None:
    with pytest.raises(RequestError, match=r"choose auto, cpu, mps, cuda"):
        check_device("device", text)


def test_a_gpu_that_is_named_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="cuda:0 is named twice"):
        check_device("device", "cuda,cuda:0")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a driver."""
    monkeypatch.setattr(device, "_DRIVER_FILES", (str(tmp_path),))


@pytest.fixture(autouse=True)
def small_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line is, though torch is loaded."""
    monkeypatch.setattr(device, "measure_excess", lambda: 0)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_DRIVER_FILES", ())


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_auto_is_the_processor() -> None:
    found = find_device(["auto"], LARGE, RELATIVE)
    assert (found.names, found.reason) == ((), "no GPU was found")


@pytest.mark.usefixtures("driver", "no_torch")
def test_without_torch_auto_is_the_processor_and_says_what_to_install() -> None:
    found = find_device(["auto"], LARGE, RELATIVE)
    assert found.names == ()
    assert "pip install 'shardrestore[gpu]'" in found.reason


@pytest.mark.usefixtures("driver")
def test_with_too_small_a_budget_auto_is_the_processor_and_says_what_would_do() -> None:
    found = find_device(["auto"], LARGE - 1, RELATIVE)
    assert (found.names, found.reason) == (
        (),
        "a GPU's libraries need --max-memory 2,048 MiB or more",
    )


@pytest.mark.usefixtures("driver")
def test_what_a_process_holds_already_is_no_room_for_the_libraries_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "measure_excess", lambda: 16 << 30)
    for limit, said in ((LARGE + (16 << 30) - 1, "need --max-memory"), (LARGE, "need --max")):
        assert said in find_device(["auto"], limit, RELATIVE).reason
    assert "need --max-memory" not in find_device(["auto"], LARGE + (16 << 30), RELATIVE).reason


@pytest.mark.usefixtures("driver")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this torch has a GPU")
def test_with_a_torch_that_finds_no_gpu_auto_is_the_processor() -> None:
    found = find_device(["auto"], LARGE, RELATIVE)
    assert found.names == ()
    assert "finds no cuda device" in found.reason


@pytest.mark.usefixtures("no_torch")
def test_a_gpu_without_torch_is_refused_with_what_to_install() -> None:
    with pytest.raises(DeviceError, match=r"pip install 'shardrestore\[gpu\]'"):
        find_device(["cuda:0"], LARGE, RELATIVE)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_gpu_that_is_not_there_is_refused(kind: str) -> None:
    name = f"{kind}:999"
    with pytest.raises(DeviceError, match=rf"no {name} on this machine|finds no {kind}"):
        find_device([name], LARGE, RELATIVE)


def test_a_device_that_is_not_exact_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(place: torch.device, score: Score) -> None:
        raise UnfaithfulDevice(place, "score_keys", 3, 100)

    device._check_once.cache_clear()
    monkeypatch.setattr("shardrestore.kernels.device.check_device", differ)
    with pytest.raises(DeviceError, match=r"score_keys differs .* 3 of 100.*use --device cpu"):
        find_device(["torch:cpu"], LARGE, RELATIVE)


def test_a_device_that_fails_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, score: str) -> None:
        raise RuntimeError("CUDA error: no kernel image\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(device, "_check_once", fail)
    with pytest.raises(DeviceError) as error:
        find_device(["torch:cpu"], LARGE, RELATIVE)
    assert str(error.value) == (
        "cpu cannot be used: CUDA error: no kernel image: see that torch works there, or use "
        "--device cpu"
    )


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("CUDA error: out of memory\n…")]
)
def test_a_device_that_is_full_leaves_the_work_to_processors(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(name: str, score: str) -> None:
        raise error

    monkeypatch.setattr(device, "_check_once", fail)
    for asked in (
        find_device(["torch:cpu"], LARGE, RELATIVE),
        find_resident_device(["cpu"], RELATIVE),
    ):
        assert (asked.names, asked.reason) == ((), "cpu is out of memory")


def test_workers_take_turns_with_several_gpus() -> None:
    several = Device(names=("cuda:0", "cuda:1"))
    assert [several.name_for(worker) for worker in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert Device().name_for(0) is None


def test_a_gpu_that_does_not_fit_is_passed_over_by_auto_and_refused_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("base", "target"):
        write_checkpoint(tmp_path / side, {"model.norm.weight": store([1.0, 2.0])})
    gpu = Device(names=("cpu",), label="a GPU")
    monkeypatch.setattr("shardrestore.runs.session.find_device", lambda asked, budget, score: gpu)
    options: dict[str, Any] = {"region": "all", "max_memory": "8GiB", "max_device_memory": "1MiB"}
    sides = tmp_path / "base", tmp_path / "target"
    found = shardrestore.plan(*sides, percent=50, device="auto", **options)
    assert (found.device.name, found.projected_device_bytes) == ("cpu", 0)
    assert found.device.reason == "a GPU does not fit the memory budgets"
    with pytest.raises(MemoryBudgetError, match=r"--max-device-memory, or pass --device cpu"):
        shardrestore.plan(*sides, percent=50, device="cuda", **options)


@pytest.mark.parametrize(
    ("device", "workers"),
    [
        (Device(), None),
        (Device(names=("cuda:0",)), None),
        (Device(names=("cuda:0",), in_place=True), RESIDENT_WORKERS),
        (Device(in_place=True), None),
        (Device(names=("mps:0",)), 1),
    ],
)
def test_some_devices_are_for_few_workers(device: Device, workers: int | None) -> None:
    assert device.most_workers == workers


def test_an_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "OutOfMemoryError")
    with pytest.raises(DeviceError, match=r"too old: pip install 'torch>=2\.5'"):
        find_device(["torch:cpu"], LARGE, RELATIVE)
