"""An environment in which numba cannot compile ends in one message."""

from __future__ import annotations

import sys

import numba
import pytest

from shardrestore import kernels
from shardrestore.errors import RequestError
from shardrestore.machine.compiler import compile_kernels


def test_a_compiler_that_is_turned_off_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_kernels()
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    with pytest.raises(RequestError, match=r"Compilation is turned off. .*NUMBA_DISABLE_JIT"):
        compile_kernels()


def test_settings_that_numba_refuses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "shardrestore.kernels.cpu":
                raise ValueError("Number of threads specified must be > 0.")

    monkeypatch.delitem(sys.modules, "shardrestore.kernels.cpu", raising=False)
    monkeypatch.delattr(kernels, "cpu", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])
    monkeypatch.setenv("NUMBA_NUM_THREADS", "0")
    with pytest.raises(RequestError, match=r"must be > 0. .*NUMBA_NUM_THREADS"):
        compile_kernels()
