"""Kernels in Triton's interpreter, where there is no GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from tests.support.places import ROOT

TESTS = ROOT / "tests/unit/kernels/test_fused.py"
NEEDS_TRITON = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"
)


@NEEDS_TRITON
def test_triton_in_its_interpreter_returns_the_references_integers() -> None:
    """Interpreted or compiled is decided when Triton decorates a kernel: another process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    # NumPy warns of the infinities and NaNs that it computes for the interpreter.
    quiet = ["-W", "ignore::RuntimeWarning", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(TESTS), "-k", "triton_interpreted", *quiet],
        env=environment | {"TRITON_INTERPRET": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[1-9]\d* passed", done.stdout, re.MULTILINE), done.stdout
    assert "skipped" not in done.stdout
