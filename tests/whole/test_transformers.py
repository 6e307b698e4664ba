"""A real pair: a tiny Llama, trained and fine-tuned, saved by transformers, restored, loaded.

The published algorithm (UmeanNever/ParamRestore) is written out in torch, in memory:
``named_parameters``, regions by substring, one flat tensor of scores, ``torch.topk``.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

import shardrestore
from tests.support.process.command import run_cli

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
PUBLISHED_REGIONS = {
    "transformer": lambda name: "layers" in name and "norm" not in name,
    "attention": lambda name: "self_attn." in name,
    "mlp": lambda name: "mlp." in name,
    "embedding": lambda name: "embed_tokens" in name or "lm_head" in name,
    "all": lambda name: True,
}


@dataclass(frozen=True)
class Pair:
    """A base and what fine-tuning made of it, in memory and in folders."""

    root: Path
    base: dict[str, torch.Tensor]
    """The parameters, as ``named_parameters`` lists them."""
    target: dict[str, torch.Tensor]

    def restore(self, output: str, *args: str) -> dict[str, Any]:
        """Run the command line; return its JSON document."""
        done = run_cli("run", "--base", "base", "--target", "target", "--output", output, "--json",
                   *args, cwd=self.root)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        document: dict[str, Any] = json.loads(done.stdout)
        return document


def train(model: PreTrainedModel, steps: int, vocabulary: tuple[int, int], seed: int) -> None:
    """Learn to repeat random tokens out of a part of the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    for _ in range(steps):
        tokens = torch.randint(*vocabulary, (4, 8), generator=generator).repeat(1, 2)
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()


def parameters(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.fixture(
    scope="module",
    params=[("bfloat16", False), ("float32", False), ("bfloat16", True)],
    ids=["bfloat16", "float32", "tied_embeddings"],
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    dtype, tied = request.param
    root = tmp_path_factory.mktemp("transformers")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config).to(DTYPES[dtype])
    train(model, 8, (0, 128), seed=1)
    base = parameters(model)
    model.save_pretrained(root / "base", max_shard_size="150KB")
    train(model, 8, (96, 256), seed=2)
    target = parameters(model)
    model.save_pretrained(root / "target", max_shard_size="90KB")
    GenerationConfig(max_new_tokens=7, do_sample=True).save_pretrained(root / "target")
    return Pair(root=root, base=base, target=target)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return bit patterns: equal numbers are not enough, -0 is not 0."""
    return tensor.contiguous().view(torch.int16 if tensor.element_size() == 2 else torch.int32)


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(bits(first), bits(second))


@dataclass(frozen=True)
class Published:
    """What the published tool computes."""

    names: list[str]
    scores: dict[str, torch.Tensor]
    """Relative change of every element of the region."""
    count: int
    threshold: torch.Tensor
    """The least score that ``torch.topk`` takes (the largest, for bottom)."""


def published(pair: Pair, percent: float, region: str, *, largest: bool = True) -> Published:
    names = [name for name in pair.target if PUBLISHED_REGIONS[region](name)]
    scores = {
        name: (pair.target[name] - pair.base[name]).abs() / (pair.base[name].abs() + 1e-8)
        for name in names
    }
    flat = torch.cat([scores[name].flatten() for name in names])
    count = int(flat.numel() * percent / 100.0)
    taken = torch.topk(flat, count, largest=largest).values
    return Published(names, scores, count, taken.min() if largest else taken.max())


@pytest.mark.parametrize("region", PUBLISHED_REGIONS)
@pytest.mark.parametrize("strategy", ["top", "bottom"])
def test_the_published_algorithm_restores_the_same_elements_but_ties(
    pair: Pair, region: str, strategy: str
) -> None:
    percent = 10.0 if strategy == "top" else 70.0  # few bfloat16 weights do not change
    expected = published(pair, percent, region, largest=strategy == "top")
    result = shardrestore.restore(
        pair.root / "base", pair.root / "target", pair.root / f"{region}-{strategy}",
        percent=percent, region=region, strategy=strategy,
        max_memory="8GiB",  # of the whole process, which has loaded torch
    )  # fmt: skip
    assert result.region_elements == sum(expected.scores[name].numel() for name in expected.names)
    assert result.selected_elements == expected.count
    assert result.threshold == expected.threshold.item() > 0
    assert result.figures.cut.exact

    output = tensors_of(result.output)
    restored = {tensor.name: tensor.restored for tensor in result.tensors}
    assert restored.keys() == set(expected.names)
    ties = ties_taken = 0
    for name in expected.names:
        base, target, found = (bits(side[name]) for side in (pair.base, pair.target, output))
        scores = expected.scores[name]
        beyond = scores > expected.threshold
        if strategy == "bottom":
            beyond = scores < expected.threshold
        tie = scores == expected.threshold
        assert torch.equal(found[beyond], base[beyond]), f"{name}: one of the chosen is missed"
        others = ~beyond & ~tie
        assert torch.equal(found[others], target[others]), f"{name}: another one is taken"
        assert bool(((found == base) | (found == target)).all())
        taken = int((found[tie] == base[tie]).sum())  # above 0 a score tells base from target
        assert restored[name] == int(beyond.sum()) + taken
        ties += int(tie.sum())
        ties_taken += taken
    found = result.figures.ties
    assert (found.count, found.taken) == (ties, ties_taken)
    assert sum(restored.values()) == expected.count
    for name in output.keys() - set(expected.names):
        if name in pair.target:  # not so the head of a tied model
            assert same(output[name], pair.target[name]), f"{name} is outside the region"


def test_transformers_loads_the_result_and_computes_with_it(pair: Pair) -> None:
    document = pair.restore("loaded", "-k", "10")
    assert document["selected_elements"] == published(pair, 10, "transformer").count
    folder = pair.root / "loaded"
    assert len(list(folder.glob("*.safetensors"))) > 2
    model = AutoModelForCausalLM.from_pretrained(folder)
    written, loaded = tensors_of(folder), model.state_dict()
    assert written.keys() <= loaded.keys()
    for name, tensor in written.items():
        assert same(loaded[name], tensor), name
    logits = model(input_ids=torch.arange(8)[None]).logits
    assert logits.shape == (1, 8, 256)
    assert bool(torch.isfinite(logits).all())
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["max_new_tokens"] == 7
    assert (folder / "config.json").read_bytes() == (
        pair.root / "target" / "config.json"
    ).read_bytes()


def test_a_hundred_percent_of_all_gives_the_bytes_of_the_base(pair: Pair) -> None:
    pair.restore("base-again", "-k", "100", "--region", "all")
    output, base = tensors_of(pair.root / "base-again"), tensors_of(pair.root / "base")
    assert output.keys() == base.keys()
    assert all(same(output[name], base[name]) for name in base)
    target = tensors_of(pair.root / "target")
    assert not all(same(output[name], target[name]) for name in target)


def test_base_and_target_are_sharded_differently_and_the_result_as_the_target(pair: Pair) -> None:
    """What the tests above rest on."""
    pair.restore("sharded")
    base, target, output = (
        json.loads((pair.root / side / "model.safetensors.index.json").read_text())["weight_map"]
        for side in ("base", "target", "sharded")
    )
    assert base.keys() == target.keys()
    assert base != target == output


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_reports_have_the_published_columns_and_keys_and_its_numbers(pair: Pair) -> None:
    document = pair.restore("reports", "-k", "10")
    expected = published(pair, 10, "transformer")
    folder = pair.root / "reports"

    means = read_table(folder / "diff_summary.tsv")
    assert list(means[0]) == ["param_name", "layer_name", "average_mean_diff", "numel"]
    counts = read_table(folder / "restore_stats.tsv")
    assert list(counts[0]) == [
        "param_name",
        "layer_name",
        "restored_numel",
        "numel",
        "restored_ratio",
    ]
    for row, count in zip(means, counts, strict=True):
        name = row["param_name"]
        assert name == count["param_name"]
        assert row["layer_name"] == count["layer_name"] == name.split(".")[2]
        scores = expected.scores[name].double()
        assert int(row["numel"]) == int(count["numel"]) == scores.numel()
        # float32 scores are known to 1/256 of their value, bfloat16 ones exactly.
        assert float(row["average_mean_diff"]) == pytest.approx(scores.mean().item(), rel=1 / 256)
        ratio = int(count["restored_numel"]) / scores.numel()
        assert float(count["restored_ratio"]) == pytest.approx(ratio, abs=1e-8)
    assert {row["param_name"] for row in means} == set(expected.names)
    assert sum(int(row["restored_numel"]) for row in counts) == expected.count

    stats = json.loads((folder / "selected_param_stats.json").read_text())
    assert list(stats) == ["k_count", "strategy", "selected_rel_diffs", "total_rel_diffs"]
    assert (stats["k_count"], stats["strategy"]) == (expected.count, "top")
    every = torch.cat([scores.flatten() for scores in expected.scores.values()]).double()
    chosen = torch.topk(every, expected.count).values
    for key, values in (("selected_rel_diffs", chosen), ("total_rel_diffs", every)):
        assert list(stats[key]) == ["max", "median", "mean", "min", "sum"]
        for statistic in ("max", "median", "mean", "min", "sum"):
            value = getattr(values, statistic)().item()
            assert stats[key][statistic] == pytest.approx(value, rel=1 / 128), (key, statistic)

    record = json.loads((folder / "shardrestore.json").read_text())
    assert record["cut"]["selected_elements"] == document["selected_elements"] == expected.count
    assert record["options"]["percent"] == 10
    assert {"base", "target", "options", "cut", "versions"} <= record.keys()
