"""A module in memory gets the bits that its files would get, and the same report."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

import shardrestore
from shardrestore.inplace import edit
from shardrestore.machine.device import find_resident_device
from shardrestore.pairing.regions import REGIONS
from tests.support.checkpoints import read_tree
from tests.support.devices import NEEDS_CUDA
from tests.support.examples import TIMES, examples
from tests.support.hub import Hub
from tests.support.hub.client import HubClient
from tests.support.library import Library, cut_into
from tests.support.modules import build, state
from tests.support.oracle import load
from tests.support.runs import BUDGET, Run, runs, scratch

FINE = Library(cut_into(segment_elements=500, chunk_elements=100, block_bytes=1000))


def found(report: shardrestore.RestorationReport) -> str:
    """What a report says of the weights; as text, in which NaN equals NaN.

    Except notes: a module of one parameter has nothing twice that a note could be of.
    """
    return repr((replace(report.figures, notes=()), report.tensors))


HEADS = ("one parameter", "same memory", "two parameters")


@given(
    runs(dtype="auto", nonfinite=None),
    st.sampled_from(HEADS),
    st.booleans(),
)
@examples(30)
def test_a_module_gets_the_bits_and_the_report_of_its_files(
    run: Run, head: str, base_is_module: bool
) -> None:
    case = run.case
    tied = case.twins if head == "one parameter" else {}
    # A module's first name stands for tied weights: models register their head last.
    target = dict(sorted(case.target.items(), key=lambda item: item[0] == "lm_head.weight"))
    module = build(target, tied=tied, says_tied=case.tied)
    if head == "same memory" and case.twins:
        module.lm_head.weight.data = module.model.embed_tokens.weight.data
    with scratch() as folder:
        run.write(folder)
        expected = run.restore(folder)
        base = build(case.base) if base_is_module else folder / "base"
        options = {key: value for key, value in run.options.items() if key != "dtype"}
        report = run.library.restore_module(
            module, base, percent=run.percent, workers=run.workers, **options
        )
        assert state(module) == load(folder / "output")
    assert found(report) == found(expected)


DTYPES = {
    "bfloat16": ("bfloat16", "bfloat16"),
    "float32": ("float32", "float32"),
    "float16": ("float16", "float16"),
    "mixed": ("float32", "bfloat16"),
}


def llama(seed: int, dtype: str, *, tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(getattr(torch, dtype))


def fine_tuned(base: LlamaForCausalLM, dtype: str, *, tied: bool = False) -> LlamaForCausalLM:
    model = llama(1, dtype, tied=tied)
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight, before in zip(model.parameters(), base.parameters(), strict=True):
            changed = torch.rand(weight.shape, generator=noise) < 0.6
            update = 1 + 0.1 * torch.randn(weight.shape, generator=noise)
            weight.copy_(torch.where(changed, before.float() * update, before.float()))
    if dtype == "bfloat16" and before.dtype == torch.float32:
        model.model.layers[0].mlp.float()  # formats differ within the target, too
    return model


Pair = tuple[Path, LlamaForCausalLM, LlamaForCausalLM]
PAIRS = [*DTYPES, "tied"]


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    dtypes = DTYPES.get(request.param, ("bfloat16", "bfloat16"))
    tied = request.param == "tied"
    root = tmp_path_factory.mktemp("llama")
    base = llama(0, dtypes[0], tied=tied)
    target = fine_tuned(base, dtypes[1], tied=tied)
    base.save_pretrained(root / "base", max_shard_size="30KB")
    target.save_pretrained(root / "target", max_shard_size="20KB")
    return root, base, target


STRATEGIES = ("top", "bottom", "random")


def choices(pair: str) -> Iterator[tuple[str, str]]:
    """Yield regions and strategies to try with a pair: in the thorough profile, all.

    Otherwise every pair meets every region, and every region every strategy.
    """
    for number, region in enumerate(REGIONS):
        some = STRATEGIES[(PAIRS.index(pair) + number) % 3]
        for strategy in STRATEGIES if TIMES > 1 else [some]:
            yield region, strategy


def test_a_transformers_model_gets_the_bits_of_its_files(
    pair: Pair, request: pytest.FixtureRequest
) -> None:
    for region, strategy in choices(request.node.callspec.params["pair"]):
        check_bits_of_files(pair, region, strategy)


def check_bits_of_files(pair: Pair, region: str, strategy: str) -> None:
    root, base, target = pair
    options: dict[str, Any] = {"percent": 20, "region": region, "strategy": strategy, "workers": 2}
    output = root / f"{region}-{strategy}"
    before = state(target)
    written = FINE.restore(
        root / "base",
        root / "target",
        output,
        max_memory=BUDGET,
        report=False,
        overwrite=True,  # of the other device
        **options,
    )
    expected = load(output)
    for one in (base, root / "base"):
        with FINE.restored(target, one, **options) as report:
            after = state(target)
            assert {name: after[name] for name in expected} == expected
            assert after.keys() - expected.keys() <= {"lm_head.weight"} | buffers(target)
            assert found(report) == found(written)
        assert state(target) == before


def buffers(model: torch.nn.Module) -> set[str]:
    return {name for name, _ in model.named_buffers()}


def test_a_base_on_the_hub_is_streamed_and_not_stored(
    tmp_path: Path,
    hub: Hub,
    hub_client: HubClient,
) -> None:
    base = llama(0, "bfloat16")
    one, other = fine_tuned(base, "bfloat16"), fine_tuned(base, "bfloat16")
    base.save_pretrained(tmp_path / "base", max_shard_size="30KB")
    hub.create("acme/base", tmp_path / "base")
    shardrestore.restore_module(one, base)
    shardrestore.restore_module(other, "acme/base")
    assert state(one) == state(other)
    weights = [name for name in read_tree(hub_client.cache) if name.endswith(".safetensors")]
    assert weights == []


def test_a_base_on_the_hub_is_downloaded_if_it_is_asked_for(
    tmp_path: Path,
    hub: Hub,
    hub_client: HubClient,
) -> None:
    base = llama(0, "bfloat16")
    one, other = fine_tuned(base, "bfloat16"), fine_tuned(base, "bfloat16")
    base.save_pretrained(tmp_path / "base", max_shard_size="30KB")
    hub.create("acme/base", tmp_path / "base")
    shardrestore.restore_module(one, base)
    shardrestore.restore_module(other, "acme/base", stream=None)
    assert state(one) == state(other)
    weights = [name for name in read_tree(hub_client.cache) if name.endswith(".safetensors")]
    assert len(weights) > 1


def test_the_report_says_what_was_read_and_changed(tmp_path: Path) -> None:
    base = llama(0, "bfloat16")
    target = fine_tuned(base, "bfloat16")
    before = dict(target.state_dict(keep_vars=False))
    before = {name: tensor.clone() for name, tensor in before.items()}
    report = shardrestore.restore_module(target, base, percent=30)
    changed = sum(int((before[name] != now).sum()) for name, now in target.state_dict().items())
    assert 0 < changed <= report.selected_elements
    assert report.costs.written_bytes == changed * 2
    assert report.costs.read_bytes == 2 * 2 * 2 * report.region_elements  # passes, models, bytes
    assert sum(kind.restored for kind in report.figures.module_kinds()) == report.selected_elements
    summary = shardrestore.summarize(report)
    assert summary["outputs"] == []
    assert summary["selected_elements"] == report.selected_elements


@pytest.mark.cuda
@NEEDS_CUDA
def test_a_model_on_a_gpu_gets_the_bits_of_its_files(pair: Pair) -> None:
    for base_on, strategy in itertools.product(("cuda", "cpu", "files"), STRATEGIES):
        check_bits_on_a_gpu(pair, base_on, strategy)


def check_bits_on_a_gpu(pair: Pair, base_on: str, strategy: str) -> None:
    root, base, target = pair
    there = copy.deepcopy(target).to("cuda")
    before = state(there)
    one = root / "base" if base_on == "files" else copy.deepcopy(base).to(base_on)
    options: dict[str, Any] = {"percent": 20, "region": "all", "strategy": strategy}
    output = root / f"cuda-{strategy}"
    with mock.patch.object(edit, "find_resident_device", find_resident_device):
        sides = root / "base", root / "target"
        FINE.restore(*sides, output, max_memory=BUDGET, overwrite=True, **options)
        with FINE.restored(there, one, **options) as report:
            assert report.costs.device.name.startswith("cuda:0")
            after, expected = state(there), load(output)
            assert {name: after[name] for name in expected} == expected
        assert state(there) == before
