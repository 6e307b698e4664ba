"""What of a module takes part, what is refused, and in which words."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

import shardrestore
from shardrestore import (
    CheckpointError,
    MemoryBudgetError,
    NonFiniteError,
    OutputError,
    PairingError,
    RequestError,
)
from shardrestore.inplace.module import open_module
from tests.support.checkpoints import store
from tests.support.library import Library, cut_into
from tests.support.modules import build, state
from tests.support.oracle import Stored
from tests.support.places import ROOT

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"
FINE = Library(cut_into(segment_elements=100, chunk_elements=30, block_bytes=128))


def numbers(seed: int, dtype: str = "F32") -> dict[str, Stored]:
    values = np.random.default_rng(seed).normal(0, 1, (2, 12, 20))
    return {name: store(value, dtype) for name, value in zip((Q, UP), values, strict=True)}


@pytest.fixture
def base() -> nn.Module:
    return build(numbers(0))


@pytest.fixture
def model() -> nn.Module:
    return build(numbers(1))


def replace(module: nn.Module, name: str, parameter: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    place = module.get_submodule(path)
    delattr(place, leaf)
    place.register_parameter(leaf, parameter)


# Memory of any kind


def strided(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.t().contiguous().t()


def every_third(tensor: torch.Tensor) -> torch.Tensor:
    roomy = torch.zeros(12, 20, 3)
    roomy[:, :, 1] = tensor
    return roomy[:, :, 1]


@pytest.mark.parametrize("laid_out", [strided, every_third])
def test_parameters_need_not_be_contiguous(
    base: nn.Module, model: nn.Module, laid_out: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    other = build(numbers(1))
    for one in (base, model):
        replace(one, Q, nn.Parameter(laid_out(one.get_parameter(Q).detach())))
        assert not one.get_parameter(Q).is_contiguous()
    before = state(model)
    FINE.restore_module(other, build(numbers(0)), percent=30)
    with FINE.restored(model, base, percent=30):
        assert state(model) == state(other)
        assert not model.get_parameter(Q).is_contiguous()
    assert state(model) == before


def test_what_lies_between_strided_elements_is_not_touched(
    base: nn.Module, model: nn.Module
) -> None:
    roomy = torch.full((12, 20, 2), float("nan"))
    roomy[:, :, 0] = model.get_parameter(Q).detach()
    replace(model, Q, nn.Parameter(roomy[:, :, 0]))
    shardrestore.restore_module(model, base, percent=100)
    assert torch.equal(roomy[:, :, 0], base.get_parameter(Q))
    assert bool(roomy[:, :, 1].isnan().all())


def test_parameters_made_in_inference_mode_are_restored(base: nn.Module, model: nn.Module) -> None:
    other = build(numbers(1))
    shardrestore.restore_module(other, base)
    for laid_out in (torch.clone, strided):
        with torch.inference_mode():
            for name in (Q, UP):
                weight = laid_out(build(numbers(1)).get_parameter(name).detach())
                replace(model, name, nn.Parameter(weight, requires_grad=False))
        shardrestore.restore_module(model, base)
        assert state(model) == state(other)


def test_the_memory_of_a_contiguous_parameter_is_given_as_it_is(model: nn.Module) -> None:
    opened = open_module(model)
    codes = opened.reader.view(opened.tensors[UP], 10, 20)
    assert codes is not None
    assert (codes.dtype, tuple(codes.shape)) == (torch.int32, (20,))
    assert codes.data_ptr() == model.get_parameter(UP).data_ptr() + 40
    replace(model, UP, nn.Parameter(strided(model.get_parameter(UP).detach())))
    assert open_module(model).reader.view(opened.tensors[UP], 10, 20) is None


def test_a_module_reads_the_bytes_that_a_file_would_hold(model: nn.Module) -> None:
    opened = open_module(model)
    for name, stored in state(model).items():
        tensor = opened.tensors[name]
        buffer = bytearray(tensor.nbytes + 1)
        opened.reader.read(tensor, 0, tensor.elements, memoryview(buffer))
        assert bytes(buffer) == stored.data + b"\0"
    assert opened.nbytes == sum(len(stored.data) for stored in state(model).values())


@pytest.mark.parametrize("same_parameter", [True, False])
def test_tied_weights_are_ranked_once(same_parameter: bool) -> None:
    names = ("model.embed_tokens.weight", "lm_head.weight")
    values = np.random.default_rng(3).normal(0, 1, (2, 30, 8))
    models = [build({name: store(value) for name in names}) for value in values]
    for one in models:
        tied = one.get_parameter(names[0])
        replace(one, names[1], tied if same_parameter else nn.Parameter(tied.data))
    report = shardrestore.restore_module(models[1], models[0], percent=50, region="embedding")
    assert [tensor.name for tensor in report.tensors] == [names[0]]
    assert report.selected_elements == 120
    head, embedding = (models[1].get_parameter(name) for name in names)
    assert torch.equal(head, embedding)
    assert int((embedding == models[0].get_parameter(names[0])).sum()) == 120


# What cannot be worked on


class Wrapped(torch.Tensor):
    """A tensor whose elements are elsewhere, as DTensor's are."""

    @staticmethod
    def __new__(cls, shape: tuple[int, ...]) -> Wrapped:
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function is torch.ops.aten.detach.default:
            return args[0]
        raise AssertionError(function)


class Refusing(torch.Tensor):
    """A tensor with functions of its own."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function in (torch.Tensor.view, torch.Tensor.dtype.__get__):
            raise RuntimeError(f"{function} is not for this tensor")
        return super().__torch_function__(function, types, args, kwargs or {})


OBSTACLES = {
    "on the meta device": lambda: nn.Parameter(torch.empty(12, 20, device="meta")),
    "a Wrapped, which keeps its elements elsewhere": lambda: nn.Parameter(Wrapped((12, 20))),
    "expanded: several of its elements are one": lambda: nn.Parameter(
        torch.ones(1, 20).expand(12, 20)
    ),
    "strided as (1, 2): some of its elements may be one": lambda: nn.Parameter(
        torch.ones(100).as_strided((12, 20), (1, 2))
    ),
    "a negated or conjugated view": lambda: nn.Parameter(torch._neg_view(torch.ones(12, 20))),
    "a Refusing, which redefines what torch's functions do": lambda: nn.Parameter(
        torch.ones(12, 20).as_subclass(Refusing), requires_grad=False
    ),
    "of layout torch.sparse_coo": lambda: nn.Parameter(torch.eye(20)[:12].to_sparse()),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("role", ["base", "target"])
def test_parameters_out_of_reach_are_refused_in_the_region_alone(
    base: nn.Module, model: nn.Module, obstacle: str, role: str
) -> None:
    replace(base if role == "base" else model, Q, OBSTACLES[obstacle]())
    before = model.get_parameter(UP).clone()
    with pytest.raises(CheckpointError) as caught:
        shardrestore.restore_module(model, base)
    first, line, step = str(caught.value).splitlines()
    assert first == "Module in memory: 1 parameter of the region out of reach:"
    assert line.startswith(f"  {Q}: {obstacle}")
    assert "--exclude" in step
    assert torch.equal(model.get_parameter(UP), before)
    report = shardrestore.restore_module(model, base, region="mlp")
    assert report.selected_elements == 24


def test_parameters_that_share_a_part_of_their_memory_are_refused(
    base: nn.Module, model: nn.Module
) -> None:
    shared = torch.randn(13, 20)
    replace(model, Q, nn.Parameter(shared[:12]))
    replace(model, UP, nn.Parameter(shared[1:]))
    with pytest.raises(CheckpointError) as caught:
        shardrestore.restore_module(model, base)
    text = str(caught.value)
    assert f"{Q}: shares memory with {UP}, though not all" in text
    assert f"{UP}: shares memory with {Q}, though not all" in text


def test_parameters_that_are_the_bases_own_are_refused_in_the_region_alone(
    base: nn.Module, model: nn.Module
) -> None:
    before = state(base)
    replace(model, Q, base.get_parameter(Q))
    with pytest.raises(CheckpointError) as caught:
        shardrestore.restore_module(model, base)
    assert f"{Q}: is {Q} of the base, in the same memory: it has nothing to be" in str(caught.value)
    shardrestore.restore_module(model, base, region="mlp", percent=100)
    assert torch.equal(model.get_parameter(UP), base.get_parameter(UP))
    assert state(base) == before


def test_a_module_is_not_restored_to_itself(model: nn.Module) -> None:
    with pytest.raises(CheckpointError, match="2 parameters of the region out of reach"):
        shardrestore.restore_module(model, model)


def as_parameter(module: nn.Module, tensor: torch.Tensor) -> None:
    module.register_parameter("extra", nn.Parameter(tensor))


def as_buffer(module: nn.Module, tensor: torch.Tensor) -> None:
    module.register_buffer("extra", tensor)


@pytest.mark.parametrize(
    ("role", "register", "shown"),
    [
        ("base", as_parameter, "extra of the base"),
        ("base", as_buffer, "the buffer extra of the base"),
        ("target", as_buffer, "the buffer extra"),
    ],
)
@pytest.mark.parametrize("part", [slice(None), slice(0, 1), slice(11, 12)])
def test_parameters_that_would_change_something_else_are_refused(
    base: nn.Module,
    model: nn.Module,
    role: str,
    register: Callable[[nn.Module, torch.Tensor], None],
    shown: str,
    part: slice,
) -> None:
    before = state(base)
    register(base if role == "base" else model, model.get_parameter(Q).detach()[part])
    with pytest.raises(CheckpointError) as caught:
        shardrestore.restore_module(model, base)
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith(f"  {Q}: ")]
    assert shown in line
    assert {name: state(base)[name] for name in before} == before
    shardrestore.restore_module(model, base, region="mlp", percent=100)


def test_a_buffer_of_the_base_may_show_its_parameter(base: nn.Module, model: nn.Module) -> None:
    as_buffer(base, base.get_parameter(Q).detach()[3:])
    shardrestore.restore_module(model, base, percent=100)
    assert torch.equal(model.get_parameter(Q), base.get_parameter(Q))


def test_parameters_side_by_side_in_one_storage_are_restored(base: nn.Module) -> None:
    whole = torch.randn(24, 20)
    model = build(numbers(1))
    replace(model, Q, nn.Parameter(whole[:12]))
    replace(model, UP, nn.Parameter(whole[12:]))
    shardrestore.restore_module(model, base, percent=100)
    assert torch.equal(whole[12:], base.get_parameter(UP))


def test_a_lazy_parameter_is_refused(base: nn.Module) -> None:
    with pytest.raises(CheckpointError, match="parameter weight has no shape yet: call"):
        shardrestore.restore_module(nn.LazyLinear(3), base)


def test_a_format_that_files_do_not_know_is_refused(base: nn.Module, model: nn.Module) -> None:
    replace(model, Q, nn.Parameter(torch.zeros(12, 20, dtype=torch.complex128)))
    with pytest.raises(CheckpointError, match=f"parameter {Q} is torch.complex128, a format"):
        shardrestore.restore_module(model, base)


@pytest.mark.parametrize(
    ("dtype", "shown"),
    [(torch.float64, "F64"), (torch.uint8, "U8"), (torch.float8_e4m3fn, "F8_E4M3")],
)
def test_formats_that_cannot_be_ranked_are_refused_as_in_files(
    base: nn.Module, model: nn.Module, dtype: torch.dtype, shown: str
) -> None:
    codes = nn.Parameter(torch.zeros(12, 20).to(dtype), requires_grad=False)
    replace(model, Q, codes)
    with pytest.raises(PairingError, match=rf"{Q}: {shown} in the target: its codes are not"):
        shardrestore.restore_module(model, base)
    shardrestore.restore_module(model, base, region="mlp", percent=100)
    assert torch.equal(model.get_parameter(UP), base.get_parameter(UP))


# Models that do not fit together, and requests that cannot be meant


def test_all_that_does_not_fit_is_told_at_once(model: nn.Module) -> None:
    base = build({Q: store(np.zeros((3, 20)))})
    before = state(model)
    with pytest.raises(PairingError) as caught:
        shardrestore.restore_module(model, base, region="all")
    text = str(caught.value)
    assert "base Module in memory and target Module in memory do not fit together" in text
    assert f"{Q}: shape [3, 20] in the base, [12, 20] in the target" in text
    assert f"{UP}: only the target has it" in text
    assert state(model) == before


def test_a_prefix_in_memory_is_found_and_can_be_renamed(model: nn.Module) -> None:
    base = nn.Module()
    base.wrapped = build(numbers(0))
    with pytest.raises(PairingError, match=r"one prefix differs; --rename '\^wrapped\\\.='"):
        shardrestore.restore_module(model, base)
    shardrestore.restore_module(model, base, rename=[r"^wrapped\.="], percent=100)
    assert torch.equal(model.get_parameter(UP), base.wrapped.get_parameter(UP))


def test_nan_is_refused_unless_it_is_welcome(base: nn.Module, model: nn.Module) -> None:
    with torch.no_grad():
        model.get_parameter(Q)[3, 4] = float("nan")
    before = state(model)
    with pytest.raises(NonFiniteError, match="1 weights of 1 tensors"):
        shardrestore.restore_module(model, base)
    assert state(model) == before
    report = shardrestore.restore_module(model, base, percent=1, allow_nonfinite=True)
    assert report.figures.changes.nonfinite == 1
    assert not model.get_parameter(Q).isnan().any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"percent": 0}, "percent 0: must be above 0"),
        ({"region": "head"}, "region 'head': choose one of"),
        ({"region": ["mlp", "attention"]}, "2 restorations are asked for"),
        ({"strategy": "best"}, "strategy 'best': choose one of"),
        ({"region": "embedding"}, "matches no tensor of Module in memory; these would: transf"),
        ({"percent": 1e-9}, "is none: choose at least"),
        ({"workers": 0}, "workers 0: at least 1"),
        ({"stream": "all"}, "stream 'all'"),
        ({"max_device_memory": "much"}, "size 'much'"),
        ({"exclude": "mlp"}, "exclude 'mlp': expected a list"),
    ],
)
def test_wrong_requests_are_refused_as_elsewhere(
    base: nn.Module, model: nn.Module, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        shardrestore.restore_module(model, base, **options)


@pytest.mark.parametrize("option", ["dtype", "max_memory", "output", "resume", "device"])
def test_options_of_files_are_unknown(base: nn.Module, model: nn.Module, option: str) -> None:
    with pytest.raises(TypeError, match=f"unknown option: {option}"):
        shardrestore.restore_module(model, base, **{option: "auto"})


def test_what_is_no_model_is_refused(base: nn.Module, model: nn.Module) -> None:
    with pytest.raises(RequestError, match=r"target str: expected a torch\.nn\.Module; to res"):
        shardrestore.restore_module("folder", base)
    with pytest.raises(RequestError, match=r"base OrderedDict: expected a torch\.nn"):
        shardrestore.restore_module(model, model.state_dict())
    with pytest.raises(CheckpointError, match="base no/where/at/all: no such folder"):
        shardrestore.restore_module(model, "no/where/at/all")


def test_memory_that_is_refused_is_told_and_the_module_is_as_it_was(
    base: nn.Module, model: nn.Module
) -> None:
    before = state(model)
    refusal = mock.patch("mmap.mmap", side_effect=OSError(errno.ENOMEM, "Cannot allocate"))
    with refusal, pytest.raises(MemoryBudgetError, match="the module is as it was"):
        shardrestore.restore_module(model, base, workers=1)
    assert state(model) == before


def test_no_room_for_work_files_is_told(base: nn.Module, model: nn.Module) -> None:
    refusal = mock.patch("tempfile.mkdtemp", side_effect=FileNotFoundError(2, "No usable"))
    with refusal, pytest.raises(OutputError, match=r"no folder for temporary files: .*TMPDIR"):
        shardrestore.restore_module(model, base)


# torch, only where it is needed


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_shardrestore_does_not_import_torch() -> None:
    code = "import sys, shardrestore; shardrestore.restored; print('torch' in sys.modules)"
    assert python(code) == "False\n"


def test_without_torch_one_line_says_what_to_install() -> None:
    code = """
import sys
sys.modules["torch"] = None
import shardrestore
try:
    shardrestore.restore_module(object(), "base")
except shardrestore.RequestError as error:
    print(error)
"""
    assert python(code) == (
        "to restore a model in memory takes torch, which is not installed: "
        "pip install 'shardrestore[gpu]'\n"
    )
