"""The kernels work where numba finds no writable place for its cache."""

import subprocess
import sys

_PROGRAM = """
import numba.core.caching as caching
import numpy as np
for kind in list(vars(caching).values()):
    if isinstance(kind, type) and issubclass(kind, caching.CacheImpl):
        kind._locator_classes = []
from shardrestore.kernels import cpu
keys = np.zeros(1, np.uint32)
print(cpu.score_keys(np.zeros(1, np.uint16), np.zeros(1, np.uint16), keys), keys[0])
"""


def test_kernels_compile_without_a_writable_cache() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1 0\n"), done.stderr
