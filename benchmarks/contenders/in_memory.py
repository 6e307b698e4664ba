"""The published algorithm, with both models in memory.

What UmeanNever/ParamRestore computes, written anew in torch without
transformers: safetensors loads and saves the weights. With ``--lean`` it leaves out
the statistics of the scores that the published tool and shardrestore both report,
and does only what it takes to choose and restore. It agrees with shardrestore on
the threshold and on every element but ties. As a process of its own:
``python -m benchmarks.contenders.in_memory BASE TARGET OUT --percent 10 [--lean]``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

EPSILON = 1e-8

Tensors = dict[str, torch.Tensor]


def load_shards(folder: Path) -> dict[str, Tensors]:
    """Return every tensor of every weight file, by file name."""
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def is_in_region(name: str) -> bool:
    """Say whether a tensor belongs to the region ``transformer``."""
    return "layers" in name and "norm" not in name


def relative_changes(base: Tensors, target: Tensors, names: Sequence[str]) -> torch.Tensor:
    """Return the scores of all elements of the region, one after the other."""
    elements = sum(target[name].numel() for name in names)
    flat = torch.empty(elements, dtype=target[names[0]].dtype, device=target[names[0]].device)
    start = 0
    for name in names:
        old, new = base[name], target[name]
        scores = (new - old).abs() / (old.abs() + EPSILON)
        flat[start : start + scores.numel()] = scores.view(-1)
        start += scores.numel()
    return flat


def write_back(base: Tensors, target: Tensors, names: Sequence[str], chosen: torch.Tensor) -> None:
    """Set the chosen elements of the target back to the base's values."""
    start = 0
    for name in names:
        new = target[name]
        mask = chosen[start : start + new.numel()].view(new.shape)
        new[mask] = base[name][mask]
        start += new.numel()


def describe_tensors(target: Tensors, names: Sequence[str], scores: torch.Tensor) -> list[float]:
    """Return the mean score of each tensor."""
    parts = torch.split(scores, [target[name].numel() for name in names])
    return [float(part.mean()) for part in parts]


def describe_scores(scores: torch.Tensor) -> list[float]:
    """Return maximum, median, mean, minimum and sum."""
    figures = (scores.max(), scores.median(), scores.mean(), scores.min(), scores.sum())
    return [float(figure) for figure in figures]


def restore_tensors(
    base: Tensors, target: Tensors, *, percent: float, statistics: bool
) -> tuple[int, float]:
    """Restore `percent` of the region in place, on the device where both models are.

    Returns
    -------
    count : int
        Restored elements.
    threshold : float
        The smallest of their scores.
    """
    names = [name for name in target if is_in_region(name)]
    scores = relative_changes(base, target, names)
    count = int(scores.numel() * percent / 100)
    values, indices = torch.topk(scores, count)
    threshold = float(values.min())
    if statistics:
        describe_tensors(target, names, scores)
        describe_scores(values)
        describe_scores(scores)
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    chosen[indices] = True
    write_back(base, target, names, chosen)
    return count, threshold


def run(
    base_folder: Path, target_folder: Path, output: Path, *, percent: float, statistics: bool
) -> tuple[int, float]:
    """Restore `percent` of the region; return the number of elements and the threshold."""
    base_shards, shards = load_shards(base_folder), load_shards(target_folder)
    base = {name: tensor for shard in base_shards.values() for name, tensor in shard.items()}
    target = {name: tensor for shard in shards.values() for name, tensor in shard.items()}
    count, threshold = restore_tensors(base, target, percent=percent, statistics=statistics)

    output.mkdir(parents=True)
    for filename, shard in shards.items():
        save_file(shard, output / filename, metadata={"format": "pt"})
    for path in target_folder.glob("*.json"):
        shutil.copy(path, output)
    return count, threshold


def main(arguments: Sequence[str]) -> int:
    """Parse the arguments, run, and print what was selected as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contenders.in_memory", description=__doc__
    )
    for name in ("base", "target", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--percent", type=float, default=10.0)
    parser.add_argument("--lean", action="store_true")
    parsed = parser.parse_args(arguments)
    count, threshold = run(
        parsed.base,
        parsed.target,
        parsed.out,
        percent=parsed.percent,
        statistics=not parsed.lean,
    )
    print(json.dumps({"selected_elements": count, "threshold": threshold}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
