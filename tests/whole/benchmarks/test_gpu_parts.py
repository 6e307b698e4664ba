"""The processes that use a device measure what they say, on torch's processor device."""

from __future__ import annotations

import json
import os

import pytest
import torch

from benchmarks.gpu import device as gpu_device
from benchmarks.gpu import kernels as gpu_kernels
from benchmarks.gpu import links as gpu_links
from benchmarks.gpu import module as gpu_module
from benchmarks.gpu.figures import Facts, Kernels, Links, Turns
from benchmarks.gpu.kernels import measure_kernels
from benchmarks.gpu.module import Bench, make_module, measure_module
from benchmarks.gpu.weights import UNCHANGED, Drawing
from benchmarks.models.pairs import make_pair
from shardrestore.synthetic import LlamaShape
from tests.support.tiny import PAIR, SHAPE

CPU = torch.device("cpu")


def test_torch_on_processors_is_no_gpu(capsys):
    assert gpu_device.main(["--device", "torch:cpu"]) == 0
    facts = Facts(**json.loads(capsys.readouterr().out))
    assert facts == Facts(gpu=None)
    assert facts.versions() == {}


def test_a_gpu_that_torch_does_not_see_has_no_facts(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpu_device.main(["--device", "cuda:1"]) == 0
    assert capsys.readouterr().out == "null\n"


def test_a_driver_that_tells_no_version_is_no_obstacle(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5, 9))
    facts = gpu_device.find_facts(torch.device("cuda"))
    assert facts is not None
    assert (facts.gpu, facts.driver, facts.free_bytes) == ("A GPU", "unknown", 5)


def test_work_is_done_as_often_as_it_is_asked_for():
    done: list[int] = []
    gpu_device.measure_seconds(CPU, lambda: done.append(1), times=3)
    assert done == [1, 1, 1]


def test_links_are_measured_with_the_files_and_the_work_of_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_links, "TRIAL_BYTES", 1 << 20)
    pair, files = make_pair(PAIR, tmp_path), tmp_path / "files"
    options = ["--device", "torch:cpu", "--max-memory", "4GiB", "--max-device-memory", "1GiB"]
    assert gpu_links.main([str(pair), str(files), "--workers", "2", *options]) == 0
    links = Links(**json.loads(capsys.readouterr().out))
    assert links.workers == 2
    assert all(rate > 0 for rate in (links.reader, links.to_device, links.writer))
    sizes = [path.stat().st_size for path in sorted((pair / "target").glob("*.safetensors"))]
    written = [(files / str(number)).read_bytes() for number in range(len(sizes))]
    assert [len(content) for content in written] == sizes
    assert all(any(content) for content in written)  # a disk may store zeros for nothing


def test_everything_that_is_written_is_brought_to_the_disk(tmp_path, monkeypatch):
    synced: list[str] = []
    flush = gpu_links.ShardWriter.flush
    monkeypatch.setattr(gpu_links, "SYNC_BYTES", 1 << 20)
    monkeypatch.setattr(
        gpu_links.ShardWriter, "flush", lambda self: (synced.append(self.path.name), flush(self))
    )
    bench = gpu_links.Bench(CPU, workers=2, block_bytes=1 << 19)
    bench.write(tmp_path / "files", [3 << 20, 1000])
    assert synced == ["0", "1"] * 4  # thrice meanwhile, once at the end


def test_kernels_are_measured_in_both_arithmetics_and_all_sizes(capsys):
    options = ["--device", "torch:cpu", "--elements", "4096,1024", "--rounds", "2"]
    assert gpu_kernels.main(options) == 0
    measured = Kernels.from_json(json.loads(capsys.readouterr().out))
    assert len(measured.copies) == 2
    assert {one.label for one in measured.kernels} == {
        f"gpu.{function}, {arithmetic}, {size:g} Mi elements"
        for function in ("count_scores", "restore_scores")
        for arithmetic in ("bfloat16", "float32")
        for size in (4096 / (1 << 20), 1024 / (1 << 20))
    }
    for one in measured.kernels:
        assert one.in_use
        pairs = zip(one.rates, measured.copies, strict=True)
        assert list(one.shares) == [rate / copy for rate, copy in pairs]


@pytest.mark.parametrize(
    ("function", "moved"),
    [
        ("count_scores", {"bfloat16": 4, "float32": 8}),
        ("restore_scores", {"bfloat16": 6, "float32": 12}),
    ],
)
def test_a_kernel_moves_each_weight_once(monkeypatch, function, moved):
    monkeypatch.setattr(gpu_kernels, "measure_seconds", lambda *_, **__: 1.0)
    measured = measure_kernels(CPU, [1000], rounds=1)
    rates = {one.arithmetic: one.rates for one in measured.kernels if one.function == function}
    assert rates == {arithmetic: (1000 * nbytes,) for arithmetic, nbytes in moved.items()}
    assert list(measured.copies) == [8000]  # 4,000 bytes, read and written


def test_weights_are_the_same_in_every_round_and_some_are_left_alone():
    drawing, targets = Drawing(CPU), []
    drawing.restart(0)
    base = drawing.draw_base([100_000], torch.float32)
    for _ in range(2):
        drawing.restart(1)
        targets.append(torch.empty_like(base))
        drawing.tune(base, targets[-1])
    assert torch.equal(*targets)
    assert float((targets[0] == base).double().mean()) == pytest.approx(UNCHANGED, abs=0.01)


def test_a_module_has_the_names_and_shapes_of_a_checkpoint():
    module = make_module(SHAPE, torch.empty)
    found = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    assert found == dict(SHAPE.tensors())


def test_both_restore_the_same_share_of_the_same_model(capsys):
    shape = json.dumps({name: getattr(SHAPE, name) for name in LlamaShape.__slots__})
    options = ["--device", "torch:cpu", "--shape", shape, "--rounds", "2"]
    assert gpu_module.main([*options, "--published"]) == 0
    turns = Turns.from_json(json.loads(capsys.readouterr().out))
    assert (len(turns.ours), len(turns.published)) == (2, 2)
    assert turns.agree()
    assert turns.parameters == PAIR.elements
    assert turns.ours[0].extra_bytes is None  # no device whose memory could be counted


def test_ours_alone_never_calls_the_published_algorithm(monkeypatch):
    monkeypatch.setattr(Bench, "published", lambda _: pytest.fail("was called"))
    turns = measure_module(CPU, SHAPE, rounds=1, published=False)
    assert (len(turns.ours), turns.published) == (1, ())


def test_patience_with_the_published_algorithm_ends(monkeypatch):
    monkeypatch.setattr(gpu_module, "measure_seconds", lambda _, work: (work(), 1.0)[1])
    monkeypatch.setattr(gpu_module, "PATIENCE_SECONDS", 1.5)
    turns = measure_module(CPU, SHAPE, rounds=3, published=True)
    assert (len(turns.ours), len(turns.published)) == (3, 2)
