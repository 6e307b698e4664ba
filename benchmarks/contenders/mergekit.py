"""mergekit on the same pair, where an environment that has it is named.

mergekit has no operation that sets the most changed share of a model back. Closest is
``breadcrumbs``, which drops the largest (and, where asked, the smallest) updates of each
tensor; ``task_arithmetic``, which adds all updates to the base, is the least that it does.
It is no dependency of this project: ``--mergekit`` names the interpreter of an environment
of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..harness.errors import BenchmarkError, CommandError
from ..harness.process import Cost, measure

METHODS: dict[str, dict[str, float]] = {
    "breadcrumbs": {"density": 0.9, "gamma": 0.1},
    "task_arithmetic": {},
}
"""Merge methods and their parameters: breadcrumbs drops the largest tenth of the updates."""

HOW_TO_GET = (
    "mergekit was left out. To compare with it, give it an environment of its own, "
    "`python3 -m venv mk && mk/bin/pip install mergekit`, and name that: "
    "`--mergekit mk/bin/python`."
)

_VERSION = "import importlib.metadata, mergekit; print(importlib.metadata.version('mergekit'))"


def find_version(python: str) -> str:
    """Return the version of mergekit that an interpreter has."""
    try:
        return measure([python, "-c", _VERSION]).output.strip()
    except CommandError as error:
        raise BenchmarkError(
            f"{python} cannot import mergekit: name the interpreter of an environment that has "
            "it, or leave --mergekit out"
        ) from error


def configure(method: str, pair: Path) -> str:
    """Return the configuration of a merge of base and target; JSON is YAML too."""
    parameters = {"weight": 1.0, **METHODS[method]}
    document = {
        "merge_method": method,
        "base_model": str(pair / "base"),
        "models": [{"model": str(pair / "target"), "parameters": parameters}],
        "dtype": "bfloat16",
    }
    return json.dumps(document, indent=2) + "\n"


def measure_merge(python: str, method: str, pair: Path, output: Path) -> Cost:
    """Measure one merge; the output is removed afterwards."""
    configuration = output.with_name(f"{output.name}.mergekit.yaml")
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(configure(method, pair), encoding="utf-8")
    command = [python, "-m", "mergekit.scripts.run_yaml", str(configuration), str(output)]
    try:
        return measure(
            [*command, "--quiet", "--no-copy-tokenizer"], environment={"HF_HUB_OFFLINE": "1"}
        )
    finally:
        configuration.unlink()
        shutil.rmtree(output, ignore_errors=True)
