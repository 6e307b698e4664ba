"""What an import of the kernels brings with it."""

from __future__ import annotations

import subprocess
import sys


def test_torch_is_imported_for_a_gpu_alone() -> None:
    program = (
        "import sys, shardrestore\n"
        "from shardrestore.kernels import load_kernels\n"
        "load_kernels(), load_kernels('reference')\n"
        "print([name for name in ('torch', 'triton') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
