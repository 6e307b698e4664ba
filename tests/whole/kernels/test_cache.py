"""The kernels work where numba finds no writable place for its cache, or a damaged one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from numba.core.caching import _CacheLocator

from shardrestore.kernels import cpu

_PROGRAM = """
import numba.core.caching as caching
import numpy as np
for kind in list(vars(caching).values()):
    if isinstance(kind, type) and issubclass(kind, caching.CacheImpl):
        kind._locator_classes = []
from shardrestore.kernels import cpu
from shardrestore.scores import SCORES
keys, zero = np.zeros(1, np.uint32), np.zeros(1, np.uint16)
print(cpu.score_keys(SCORES["relative"], zero, zero, keys), keys[0])
"""


def test_kernels_compile_without_a_writable_cache() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1 0\n"), done.stderr


_USE = """
import numpy as np
from shardrestore.kernels import cpu
from shardrestore.scores import SCORES
keys, zero = np.zeros(1, np.uint32), np.zeros(1, np.uint16)
print(cpu.score_keys(SCORES["relative"], zero, zero, keys), keys[0])
cpu.widen_float16(np.array([0x3C00], np.uint16), out := np.empty(1, np.float32))
print(out[0], sum(cpu.widen_float16.stats.cache_hits.values()))
"""


def use_cache(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _USE],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero(path: Path) -> None:
    """As after a power failure: the size is there, the bytes are not."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("*.nbi", lambda path: os.truncate(path, 0)),
        ("cpu.widen_float16-*.nbi", cut_short),
        ("cpu.widen_float16-*.nbi", zero),
        ("cpu.widen_float16-*.nbc", cut_short),
        ("cpu.widen_float16-*.nbc", zero),
        ("cpu.widen_float16-*.nbc", Path.unlink),
    ],
    ids=["all_indexes_empty", "index_cut", "index_zeroed", "code_cut", "code_zeroed", "code_gone"],
)
def test_kernels_compile_anew_where_the_cache_is_damaged(
    tmp_path: Path, pattern: str, damage: Callable[[Path], object]
) -> None:
    cached = Path(cpu.widen_float16.stats.cache_path)
    if not list(cached.glob("cpu.*.nbi")):
        pytest.skip(f"no kernel is cached in {cached}")
    folder = tmp_path / _CacheLocator.get_suitable_cache_subpath(cpu.__file__)
    folder.mkdir()
    for path in cached.glob("cpu.*.nb?"):
        shutil.copy(path, folder)
    damaged = list(folder.glob(pattern))
    assert damaged
    for path in damaged:
        damage(path)
    assert use_cache(tmp_path) == "1 0\n1.0 0\n"
