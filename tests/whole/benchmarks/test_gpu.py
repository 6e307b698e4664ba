"""A GPU's figures are judged against its own links and copies; without one, none is."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial

import pytest

from benchmarks import __main__ as entry
from benchmarks.gpu import measurement as gpu
from benchmarks.gpu import module as gpu_module
from benchmarks.gpu import passes as gpu_passes
from benchmarks.gpu.figures import Facts, Kernels, Links, Rates, Turn, Turns
from benchmarks.gpu.passes import (
    LINKS,
    ON_DEVICE,
    ON_PROCESSORS,
    PassBench,
    Settings,
    compare_pass,
    digest_weights,
)
from benchmarks.gpu.sizes import (
    ELEMENTS,
    LEAST_ELEMENTS,
    LLAMA_8B,
    TRIAL,
    Sizes,
    count_parameters,
    fit_sizes,
    halve_layers,
)
from benchmarks.gpu.table import NO_GPU, Measured, describe
from benchmarks.harness.errors import CommandError, UnsupportedError
from benchmarks.harness.process import Cost
from benchmarks.harness.turns import take_turns
from tests.support.tiny import PAIR, SHAPE

GIB = 1 << 30

SIZES = Sizes(pair=PAIR, elements=4096, shape=SHAPE)

FACTS = Facts(gpu="A GPU", driver="5", cuda="13.0", triton="3.6", free_bytes=139 * GIB)

LINK_SPEEDS = Links(
    reader=8e9,
    to_device=4e9,
    from_device=4e9,
    writer=1e9,
    workers=2,
    block_bytes=8 << 20,
    chunk_elements=262_144,
)

RESULT = {
    "outputs": ["somewhere"],
    "region_elements": 1_000_000_000,
    "read_bytes": 8_200_000_000,  # twice 4 GB of the region, 0.2 GB of the target outside it
    "written_bytes": 2_200_000_000,
    "scan_seconds": 1.25,  # 4 GB over 4 GB/s take 1 s
    "restore_seconds": 2.75,  # 2.2 GB over 1 GB/s take 2.2 s
}


def make_cost(document: object) -> Cost:
    return Cost(
        wall_seconds=5.0,
        cpu_seconds=1,
        peak_bytes=100 << 20,
        other_cores=0,
        output=json.dumps(document),
    )


def make_rates(module: str = "fused", *, share: float = 0.5, in_use: bool = True) -> Rates:
    return Rates(
        module=module,
        function="count_scores",
        arithmetic="bfloat16",
        elements=ELEMENTS,
        in_use=in_use,
        rates=[share * 4e12],
        shares=[share],
    )


def make_turns(published_seconds: float = 4.0, *, threshold: float = 0.1) -> Turns:
    ours = Turn(seconds=0.2, extra_bytes=GIB, selected_elements=7, threshold=0.1)
    theirs = replace(ours, seconds=published_seconds, extra_bytes=50 * GIB, threshold=threshold)
    return Turns(parameters=8_030_000_000, ours=(ours,), published=(theirs,))


def make_measured(**changes: object) -> Measured:
    links = {name: getattr(LINK_SPEEDS, name) for name in Links.__slots__}
    measured = Measured(
        facts=FACTS,
        samples={
            LINKS: [make_cost(links)],
            ON_DEVICE: [make_cost(RESULT)],
            ON_PROCESSORS: [make_cost(RESULT)],
        },
        kernels=Kernels(
            copies=[4e12], kernels=(make_rates(), make_rates("gpu", share=0.1, in_use=False))
        ),
        alone=replace(make_turns(), published=()),
        beside=make_turns(),
    )
    return replace(measured, **changes)


def find_rows(measured: Measured) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in describe(measured).tables[0].rows}


def test_a_pass_is_compared_with_the_link_that_takes_longest_for_its_bytes():
    scan, restore = (compare_pass(name, [LINK_SPEEDS], [RESULT]) for name in ("scan", "restore"))
    assert (scan.slowest, scan.shares) == ("host to device", (0.8,))
    assert (restore.slowest, restore.shares) == ("writer", (0.8,))


def test_each_round_is_compared_with_its_own_links():
    slow_reader = replace(LINK_SPEEDS, reader=2e9)  # 4 GB in 2 s
    found = compare_pass("scan", [slow_reader, LINK_SPEEDS, slow_reader], [RESULT] * 3)
    assert (found.slowest, found.shares) == ("reader", (1.6, 0.8, 1.6))


def test_what_is_just_fast_enough_holds():
    results = describe(make_measured())
    assert results.problems == ()
    verdicts = [row[3:] for row in results.tables[0].rows if row[3]]
    assert verdicts == [
        ("≥ 0.8", "yes"),
        ("≥ 0.8", "yes"),
        ("≥ 0.5", "yes"),
        ("≥ 20", "yes"),
        ("≤ 1024 MiB", "yes"),
    ]
    assert results.versions == {"GPU": "A GPU", "driver": "5", "CUDA": "13.0", "triton": "3.6"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"kernels": Kernels(copies=[4e12], kernels=(make_rates(share=0.49),))},
            (
                "fused.count_scores, bfloat16, 256 Mi elements: rate / of a copy on the device: "
                "0.49 measured, ≥ 0.5 required"
            ),
        ),
        (
            {"beside": make_turns(3.0)},
            (
                "published algorithm / restore_module, 8.03 billion weights: 15.0 measured, "
                "≥ 20 required"
            ),
        ),
        ({"beside": None}, "the published algorithm restores no model on this device"),
        (
            {"beside": make_turns(threshold=0.2)},
            "restore_module and the published algorithm disagree on count or threshold",
        ),
        ({"problems": ("told by the runs",)}, "told by the runs"),
    ],
)
def test_what_is_too_slow_or_wrong_is_a_problem(changes, problem):
    assert describe(make_measured(**changes)).problems == (problem,)


def test_kernels_are_asked_for_speed_on_the_largest_tensors_alone():
    slow = make_rates(share=0.1)
    small = replace(slow, elements=262_144)
    kernels = Kernels(copies=[4e12], kernels=(make_rates(), small))
    assert describe(make_measured(kernels=kernels)).problems == ()


def test_nothing_is_asked_without_a_gpu_and_the_table_says_that_there_is_none():
    slow = Kernels(copies=[4e12], kernels=(make_rates(share=0.01),))
    results = describe(make_measured(facts=Facts(gpu=None), kernels=slow, beside=make_turns(0.1)))
    assert results.problems == ()
    assert all(row[3] == "" for row in results.tables[0].rows)
    assert results.remarks[0] == NO_GPU
    assert results.title == "A trial without a GPU"


def test_no_path_of_this_machine_is_recorded():
    assert "somewhere" not in json.dumps(describe(make_measured()).samples)


def test_runs_that_write_different_weights_are_a_problem(tmp_path):
    bench = PassBench(pair=tmp_path, output=tmp_path, settings=Settings(device="cuda"))
    bench.digests = {ON_DEVICE: {"a"}, ON_PROCESSORS: {"a"}}
    assert bench.find_problems() == []
    bench.digests[ON_DEVICE].add("b")
    [problem] = bench.find_problems()
    assert problem.startswith("the runs have written different weights: ")


def test_a_digest_is_of_every_weight_file(tmp_path):
    digests = set()
    for name in ("1.safetensors", "2.safetensors", "config.json"):
        (tmp_path / name).write_bytes(b"x")
        digests.add(digest_weights(tmp_path))
    assert len(digests) == 2


def test_the_model_in_memory_has_eight_billion_weights():
    assert count_parameters(LLAMA_8B) == 8_030_261_248


@pytest.mark.parametrize(
    ("free_gib", "layers", "elements"),
    [
        (139, 32, ELEMENTS),
        (40, 32, ELEMENTS),  # twice 15 GiB, and 8 to draw them
        (37, 16, ELEMENTS),
        (16, 4, ELEMENTS),
        (8, 1, ELEMENTS // 2),
        (0, 1, LEAST_ELEMENTS),
    ],
)
def test_a_small_gpu_gets_fewer_layers_and_smaller_tensors(free_gib, layers, elements):
    sizes = fit_sizes(replace(FACTS, free_bytes=free_gib * GIB))
    assert sizes.shape.num_hidden_layers == layers
    assert sizes.elements == elements


def test_a_trial_is_small():
    assert fit_sizes(Facts(gpu=None)) is TRIAL


def test_layers_are_halved_down_to_one():
    assert [shape.num_hidden_layers for shape in halve_layers(LLAMA_8B)] == [32, 16, 8, 4, 2, 1]


def test_the_published_algorithm_gets_smaller_models_until_one_fits(monkeypatch):
    asked: list[int] = []

    def measure(device, shape, *options, rounds):
        asked.append(shape.num_hidden_layers)
        if shape.num_hidden_layers > 8:
            raise CommandError("a command\nended with status 1:\nError: out of it. See there.\n")
        return make_turns()

    monkeypatch.setattr(gpu, "measure_module", measure)
    turns, failures = gpu.measure_beside("cuda", LLAMA_8B, rounds=1)
    assert asked == [32, 16, 8]
    assert turns == make_turns()
    assert failures == [
        f"The published algorithm failed with {layers} layers: Error: out of it"
        for layers in (32, 16)
    ]


def test_an_algorithm_that_never_fits_leaves_its_reasons(monkeypatch):
    def measure(device, shape, *options, rounds):
        raise CommandError("no")

    monkeypatch.setattr(gpu, "measure_module", measure)
    turns, failures = gpu.measure_beside("cuda", SHAPE, rounds=1)
    assert (turns, len(failures)) == (None, 2)


@pytest.mark.parametrize("device", ["cpu", "cuda:", "mps", "cuda:0,cuda:1"])
def test_other_devices_are_wrong_usage(device, capsys):
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--device", device])
    assert "choose cuda, one such as cuda:1, or torch:cpu" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "_run_part", lambda *_: None)
    with pytest.raises(UnsupportedError, match="torch sees no GPU cuda:1 on this machine: --dev"):
        gpu.main(["--device", "cuda:1", "--folder", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_all_leaves_out_what_a_machine_lacks_and_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "_run_part", lambda *_: None)
    monkeypatch.setattr(entry, "ALL", ("gpu",))
    assert entry.main(["all"]) == 0
    assert capsys.readouterr().err.startswith("gpu: left out: torch sees no GPU")
    assert entry.main(["gpu"]) == 1
    assert capsys.readouterr().err.startswith("gpu: torch sees no GPU")


@pytest.mark.parametrize(
    ("facts", "options", "written"),
    [
        (FACTS, [], "usual"),
        (FACTS, ["--results", "named"], "named"),
        (Facts(gpu=None), [], None),
        (Facts(gpu=None), ["--results", "named"], "named"),
    ],
)
def test_without_a_gpu_results_are_written_only_where_asked(
    facts, options, written, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "usual")
    monkeypatch.setattr(gpu, "find_facts", lambda _: facts)
    monkeypatch.setattr(gpu, "measure_all", lambda *_, **__: make_measured(facts=facts))
    assert gpu.main(options) == 0
    assert [path.name for path in tmp_path.iterdir()] == ([written] if written else [])


def test_a_failed_requirement_fails_the_benchmark_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "find_facts", lambda _: FACTS)
    monkeypatch.setattr(gpu, "measure_all", lambda *_, **__: make_measured(beside=make_turns(1.0)))
    assert gpu.main(["--results", str(tmp_path)]) == 1
    assert gpu.main(["--results", str(tmp_path), "--no-check"]) == 0


def test_the_process_that_starts_all_others_has_no_torch():
    code = "import sys, benchmarks.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """Run everything in small; return what was printed, and what was written."""
    folder = tmp_path_factory.mktemp("gpu")
    run_part = gpu._run_part

    def run(module: str, *options: str) -> object:
        if module != "module":
            return run_part(module, *options)
        printed = io.StringIO()
        with redirect_stdout(printed):
            gpu_module.main(options)
        return json.loads(printed.getvalue())

    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(gpu, "_run_part", run)
        patch.setattr(gpu_passes, "take_turns", partial(take_turns, warm_up=False))
        places = ["--folder", str(folder / "work"), "--results", str(folder / "results")]
        options = ["--device", "torch:cpu", "--rounds", "1", "--workers", "2"]
        assert gpu.main([*places, *options], SIZES) == 0
    record = json.loads((folder / "results" / "gpu.json").read_text(encoding="utf-8"))
    assert not (folder / "work" / "output").exists()
    return printed.getvalue(), record


def test_everything_is_measured_and_told_from_end_to_end(trial):
    printed, record = trial
    assert record["problems"] == []
    for told in ("speed of scan / of its slowest link", "speed of restore / of its", NO_GPU):
        assert told in printed
    assert set(record["samples"]["told"]) == {LINKS, ON_DEVICE, ON_PROCESSORS}
    assert record["samples"]["told"][ON_DEVICE][0]["device"] == "torch on cpu"
    assert record["samples"]["told"][ON_PROCESSORS][0]["device"] == "cpu"
    assert len(record["samples"]["beside"]["published"]) == 1


def test_a_pass_moves_what_the_run_says_it_has_read_and_written(trial):
    _, record = trial
    [result] = record["samples"]["told"][ON_DEVICE]
    region_bytes = 2 * result["region_elements"]
    moved = gpu_passes.moved_bytes(result)
    assert moved["scan"] == {"reader": 2 * region_bytes, "to_device": 2 * region_bytes}
    outside_bytes = PAIR.side_bytes - region_bytes
    in_restore = moved["restore"]
    assert (in_restore["to_device"], in_restore["from_device"]) == (2 * region_bytes, region_bytes)
    # Headers are read and written besides.
    assert 0 <= in_restore["reader"] - 2 * region_bytes - outside_bytes < 10_000
    assert 0 <= in_restore["writer"] - PAIR.side_bytes < 10_000
