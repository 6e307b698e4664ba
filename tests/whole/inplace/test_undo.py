"""A module is restored whole or not at all, and gets its former bits back."""

from __future__ import annotations

import itertools
import linecache
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from shardrestore import DeviceError, InputChangedError, RequestError
from shardrestore.inplace import edit
from shardrestore.inplace.changes import Changes, Patch
from shardrestore.inplace.weights import Weights
from shardrestore.kernels import gpu
from shardrestore.machine.executor import Stopped
from shardrestore.machine.progress import SilentObserver
from shardrestore.machine.stopwatch import Stopwatch
from shardrestore.request import make_module_request
from tests.support.library import Library, cut_into
from tests.support.modules import build, in_device_memory, nowhere_at_all, state
from tests.support.oracle import Stored

FINE = Library(cut_into(segment_elements=500, chunk_elements=100, block_bytes=800))
NAMES = (
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
)
ALL: dict[str, Any] = {"region": "all", "workers": 2, "allow_nonfinite": True}


def random_bits(seed: int) -> dict[str, Stored]:
    """Any patterns: every payload of NaN, infinities, subnormals, both zeros."""
    rng = np.random.default_rng(seed)
    return {
        name: Stored(dtype, (40, 50), rng.integers(0, 256, 2000 * size, np.uint8).tobytes())
        for name, (dtype, size) in zip(NAMES, (("BF16", 2), ("F32", 4), ("F16", 2)), strict=True)
    }


@pytest.fixture
def base() -> nn.Module:
    return build(random_bits(0))


@pytest.fixture
def model() -> nn.Module:
    module = build(random_bits(1))
    module.register_buffer("scale", torch.tensor([float("nan"), -0.0]))
    return module


def test_the_former_bits_come_back_after_success(model: nn.Module, base: nn.Module) -> None:
    before = state(model)
    with FINE.restored(model, base, percent=40, **ALL) as report:
        assert state(model) != before
        assert report.selected_elements == 2400
    assert state(model) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_former_bits_come_back_after_an_exception(
    model: nn.Module, base: nn.Module, error: type[BaseException]
) -> None:
    before = state(model)

    def evaluate() -> None:
        with FINE.restored(model, base, **ALL):
            assert state(model) != before
            raise error

    with pytest.raises(error):
        evaluate()
    assert state(model) == before


def test_nested_restorations_undo_themselves_one_by_one(model: nn.Module, base: nn.Module) -> None:
    before = state(model)
    with FINE.restored(model, base, percent=10, **ALL):
        outer = state(model)
        with FINE.restored(model, base, percent=60, **ALL):
            assert state(model) not in (before, outer)
        assert state(model) == outer
    assert state(model) == before


def test_a_sweep_gives_each_percent_what_it_alone_would(model: nn.Module, base: nn.Module) -> None:
    for percent in (1, 10, 60, 100):
        alone = build(random_bits(1))
        FINE.restore_module(alone, base, percent=percent, **ALL)
        with FINE.restored(model, base, percent=percent, **ALL):
            swept = state(model)
            swept.pop("scale")
            assert swept == state(alone)


def test_buffers_gradients_and_flags_are_left_alone(model: nn.Module, base: nn.Module) -> None:
    first, second, third = model.parameters()
    first.grad, second.requires_grad = torch.ones_like(first), False
    with FINE.restored(model, base, percent=100, **ALL):
        assert list(map(id, model.parameters())) == [id(first), id(second), id(third)]
        assert (first.requires_grad, second.requires_grad) == (True, False)
        assert bool((first.grad == 1).all())
        assert second.grad is None
        assert torch.signbit(model.scale[1])


def test_autograd_hears_of_changes(model: nn.Module, base: nn.Module) -> None:
    """A graph that saved a weight must not go backward through another."""
    weight = model.get_parameter(NAMES[1])
    other = torch.ones_like(weight, requires_grad=True)
    product = (weight * other).sum()
    FINE.restore_module(model, base, percent=50, **ALL)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_it_works_in_every_mode_of_autograd(
    model: nn.Module, base: nn.Module, mode: Callable[[], Any]
) -> None:
    replaced = model.get_parameter(NAMES[1]).detach().t().contiguous().t()  # not contiguous
    model.model.layers.get_submodule("0.self_attn.q_proj").weight = nn.Parameter(replaced)
    before = state(model)
    with mode(), FINE.restored(model, base, percent=40, **ALL):
        inside = state(model)
    assert inside != before
    assert state(model) == before


def test_other_changes_made_meanwhile_stay(model: nn.Module, base: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    with FINE.restored(model, base, percent=30, **ALL):
        changed = {
            name: bits(tensor) != bits(before[name]) for name, tensor in model.named_parameters()
        }
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(7.0)
    for name, parameter in model.named_parameters():
        was = bits(before[name])[changed[name]]
        assert torch.equal(bits(parameter)[changed[name]], was)
        assert bool((parameter[~changed[name]] == 7).all())


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(torch.int16 if tensor.element_size() == 2 else torch.int32)


def test_memory_that_moved_meanwhile_is_put_back_where_it_is(
    model: nn.Module, base: nn.Module
) -> None:
    before = state(model)
    with FINE.restored(model, base, **ALL):
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()  # as model.to(device) does
    assert state(model) == before


def test_a_parameter_of_another_format_is_told_and_the_others_are_put_back(
    model: nn.Module, base: nn.Module
) -> None:
    before = state(model)
    with pytest.raises(InputChangedError) as caught, FINE.restored(model, base, **ALL):
        model.get_parameter(NAMES[1]).data = torch.zeros(40, 50, dtype=torch.bfloat16)
    text = str(caught.value)
    assert f"{NAMES[1]}: was torch.float32 of shape [40, 50]" in text
    assert "is torch.bfloat16 of shape [40, 50] now" in text
    after = state(model)
    assert all(after[name] == before[name] for name in (NAMES[0], NAMES[2], "scale"))


# Parts that cannot be put back, and what is queued on a device


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("MPS backend out of memory (used …)")]
)
def test_an_undo_that_runs_out_of_device_memory_at_any_patch_is_whole(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, base: nn.Module, error: RuntimeError
) -> None:
    in_device_memory(monkeypatch)
    before, put_back, calls, lock = state(model), gpu.put_back, 0, threading.Lock()
    failing: set[int] = set()

    def fail(*arguments: torch.Tensor) -> None:
        nonlocal calls
        with lock:
            calls += 1
            struck = calls in failing
        if struck:
            raise error
        put_back(*arguments)

    monkeypatch.setattr(gpu, "put_back", fail)
    for numbers in [set(range(1, 29)), *({number} for number in range(1, 29))]:
        calls, failing = 0, numbers
        with FINE.restored(model, base, percent=50, **ALL):
            assert state(model) != before
        assert state(model) == before
    assert calls == 28


@pytest.mark.parametrize("number", [1, 2, 9, 28])
def test_what_fails_to_be_put_back_is_told_and_all_else_is_put_back(
    model: nn.Module, base: nn.Module, number: int
) -> None:
    before, failed, lock = state(model), list[Weights](), threading.Lock()
    calls, put_back = itertools.count(1), Weights.put_back

    def fail(self: Weights, *arguments: Any) -> None:
        with lock:
            struck = next(calls) == number
        if struck:
            failed.append(self)
            nowhere_at_all()
        put_back(self, *arguments)

    with (
        mock.patch.object(Weights, "put_back", fail),
        pytest.raises(DeviceError) as told,
        FINE.restored(model, base, percent=50, **ALL),
    ):
        pass
    (weights,) = failed
    assert str(told.value) == (
        "1 parameter cannot be put back:\n"
        f"  {weights.name}: CUDA error: an illegal memory access was encountered\n"
        "next step: load the model again; all other parameters are as they were"
    )
    after = state(model)
    assert {name for name in before if after[name] != before[name]} == {weights.name}


def test_an_undo_waits_for_all_streams_of_its_gpus_before_and_after(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, base: nn.Module
) -> None:
    """Threads queue what they put back where other streams do not wait for it."""
    heard: list[str] = []
    put_back = Weights.put_back
    restoration = FINE.restored(model, base, percent=50, **ALL)
    restoration.__enter__()
    monkeypatch.setattr(Weights, "device", torch.device("cuda:1"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: heard.append(str(device)))

    def listen(self: Weights, *arguments: Any) -> None:
        heard.append("put back")
        put_back(self, *arguments)

    monkeypatch.setattr(Weights, "put_back", listen)
    restoration.__exit__(None, None, None)
    assert (heard[0], heard[-1]) == ("cuda:1", "cuda:1")
    assert set(heard[1:-1]) == {"put back"}


def test_an_undo_needs_no_threads(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, base: nn.Module
) -> None:
    before = state(model)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with FINE.restored(model, base, percent=50, **ALL):
        assert state(model) != before
        monkeypatch.setattr(threading.Thread, "start", refuse)
    assert state(model) == before


# Restorations that are left in another order


def test_leaving_the_outer_restoration_first_undoes_the_inner_and_is_told(
    model: nn.Module, base: nn.Module
) -> None:
    before = state(model)
    other = build(random_bits(2))
    outer = FINE.restored(model, base, percent=50, **ALL)
    inner = FINE.restored(model, other, percent=50, **ALL)
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RequestError) as told:
        outer.__exit__(None, None, None)
    assert str(told.value) == (
        "a restoration was left before 1 later of the same weights: they were undone as well, "
        "the model is as it was before the first of them; next step: leave the last one first, "
        "as nested `with` statements do"
    )
    assert state(model) == before
    inner.__exit__(None, None, None)
    assert state(model) == before


def test_restorations_of_other_weights_are_left_in_any_order(
    model: nn.Module, base: nn.Module
) -> None:
    before = state(model)
    options = ALL | {"percent": 50}
    first = FINE.restored(model, base, **options | {"region": "attention"})
    second = FINE.restored(model, base, **options | {"region": "mlp"})
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert {name for name in before if state(model)[name] != before[name]} == {NAMES[2]}
    second.__exit__(None, None, None)
    assert state(model) == before


def test_what_is_restored_for_good_meanwhile_is_not_undone(
    model: nn.Module, base: nn.Module
) -> None:
    before = {name: bits(tensor).clone() for name, tensor in model.named_parameters()}
    with FINE.restored(model, base, percent=10, **ALL):
        FINE.restore_module(model, base, percent=100, **ALL)
    for name, tensor in model.named_parameters():
        theirs = bits(base.get_parameter(name))
        assert bool(((bits(tensor) == theirs) | (bits(tensor) == before[name])).all())
        assert int((bits(tensor) == theirs).sum()) > 1000


# An edit that does not end


@contextmanager
def failing_at(number: int, error: Callable[[], None], method: str = "write") -> Iterator[None]:
    """Call `error` in the n-th call of a method of weights, when it has done its work."""
    original, lock, calls = getattr(Weights, method), threading.Lock(), [0]

    def fail(self: Weights, *args: Any) -> None:
        with lock:
            calls[0] += 1
            struck = calls[0] == number
        original(self, *args)
        if struck:
            error()

    with mock.patch.object(Weights, method, fail):
        yield
    assert calls[0] >= number


def raise_os_error() -> None:
    raise OSError("the device is gone")


@pytest.mark.parametrize("number", [1, 2, 7, 20])
@pytest.mark.parametrize(
    "enter",
    [
        lambda model, base: FINE.restore_module(model, base, percent=50, **ALL),
        lambda model, base: FINE.restored(model, base, percent=50, **ALL).__enter__(),
    ],
    ids=["restore_module", "restored"],
)
def test_an_edit_that_fails_at_any_write_leaves_the_module_as_it_was(
    model: nn.Module, base: nn.Module, number: int, enter: Callable[..., Any]
) -> None:
    before = state(model)
    with failing_at(number, raise_os_error), pytest.raises(OSError, match="device is gone"):
        enter(model, base)
    assert state(model) == before


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """What a worker calls to interrupt the main thread; it returns once that was heard."""
    heard = threading.Event()

    def interrupt(*_: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    def press() -> None:
        heard.clear()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        # A signal that comes as the main thread begins to wait is heard with the next one.
        while not heard.wait(0.1):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    former = signal.signal(signal.SIGINT, interrupt)
    yield press
    signal.signal(signal.SIGINT, former)


def test_an_interrupted_edit_leaves_the_module_as_it_was(
    model: nn.Module, base: nn.Module, ctrl_c: Callable[[], None]
) -> None:
    before = state(model)
    with failing_at(5, ctrl_c), pytest.raises(KeyboardInterrupt):
        FINE.restore_module(model, base, percent=50, **ALL)
    assert state(model) == before


def test_an_interruption_of_the_undo_is_heard_when_it_is_done(
    model: nn.Module, base: nn.Module, ctrl_c: Callable[[], None]
) -> None:
    before = state(model)
    restoration = FINE.restored(model, base, percent=50, **ALL)
    restoration.__enter__()
    assert state(model) != before
    with failing_at(1, ctrl_c, "put_back"), pytest.raises(KeyboardInterrupt):
        restoration.__exit__(None, None, None)
    assert state(model) == before


def test_the_undo_is_whole_however_often_it_is_interrupted(
    model: nn.Module, base: nn.Module, ctrl_c: Callable[[], None]
) -> None:
    before = state(model)
    restoration = FINE.restored(model, base, percent=50, **ALL)
    restoration.__enter__()

    def press_three_times() -> None:
        for _ in range(3):
            ctrl_c()

    with failing_at(1, press_three_times, "put_back"), pytest.raises(KeyboardInterrupt):
        restoration.__exit__(None, None, None)
    assert state(model) == before


class Presser(SilentObserver):
    """Interrupts at a line of the code that is run on the main thread after the edit."""

    def __init__(self, at: int) -> None:
        self.left = at
        self._stage = ""

    def begin(self, stage: str, total_bytes: int) -> None:
        self._stage = stage

    def end(self) -> None:
        if self._stage != "restore":
            return
        frame = sys._getframe()
        while frame is not None:
            frame.f_trace = self._trace if self._concerns(frame) else None
            frame = frame.f_back
        sys.settrace(self._trace)

    def _concerns(self, frame: Any) -> bool:
        place = Path(frame.f_code.co_filename).parts[-2:]
        return place in {
            ("inplace", name) for name in ("restoration.py", "edit.py", "changes.py", "claim.py")
        }

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        if not self._concerns(frame):
            return None
        heard = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() != "try:"
        if event == "line" and heard:  # to begin a ``try`` Python does nothing
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_at_any_line_after_the_edit_leaves_the_module_as_it_was(
    model: nn.Module, base: nn.Module
) -> None:
    before, lines = state(model), 0

    def enter_and_leave() -> None:
        with FINE.restored(model, base, percent=50, observer=Presser(lines), **ALL):
            pass

    for lines in itertools.count():
        try:
            enter_and_leave()
        except KeyboardInterrupt:
            assert state(model) == before, lines
        else:
            break
        finally:
            sys.settrace(None)
    assert lines > 20
    assert state(model) == before


@pytest.mark.parametrize(
    "enter",
    [
        lambda model, base: FINE.restore_module(model, base, percent=50, **ALL),
        lambda model, base: FINE.restored(model, base, percent=50, **ALL).__enter__(),
    ],
    ids=["restore_module", "restored"],
)
def test_a_report_that_cannot_be_finished_undoes_the_edit(
    model: nn.Module, base: nn.Module, enter: Callable[..., Any]
) -> None:
    before = state(model)
    failure = mock.patch.object(edit, "peak_resident_bytes", side_effect=KeyboardInterrupt)
    with failure, pytest.raises(KeyboardInterrupt):
        enter(model, base)
    assert state(model) == before


def test_what_an_abandoned_worker_writes_after_the_undo_is_stopped(model: nn.Module) -> None:
    """A second Ctrl-C does not wait for workers."""
    weights = Weights(NAMES[0], model.get_parameter(NAMES[0]))
    changes = Changes(1)
    writer = changes.open_writer(100, 100)
    before = state(model)
    writer.write(weights, 100, memoryview(bytearray(200)))
    assert state(model) != before
    changes.undo()
    assert state(model) == before
    with pytest.raises(Stopped):
        writer.write(weights, 100, memoryview(bytearray(200)))
    assert state(model) == before


def test_counts_that_differ_undo_the_edit(model: nn.Module, base: nn.Module) -> None:
    """Somebody trains the base while it is read."""

    class Trainer(SilentObserver):
        def begin(self, stage: str, total_bytes: int) -> None:
            if stage == "restore":
                with torch.no_grad():
                    for mine, theirs in zip(base.parameters(), model.parameters(), strict=True):
                        mine.copy_(theirs)

    before = state(model)
    with pytest.raises(InputChangedError, match=r"Module in memory changed while it was read: "):
        FINE.restore_module(model, base, percent=30, observer=Trainer(), **ALL)
    assert state(model) == before


def test_a_block_without_a_change_keeps_nothing(model: nn.Module) -> None:
    weights = Weights(NAMES[0], model.get_parameter(NAMES[0]))
    changes = Changes(1)
    writer = changes.open_writer(100, 100)
    same = weights.read(0, 100).tobytes()
    version = model.get_parameter(NAMES[0])._version
    with mock.patch.object(Changes, "add", side_effect=AssertionError):
        writer.write(weights, 0, memoryview(bytearray(same)))
    assert changes.nbytes == 0
    assert model.get_parameter(NAMES[0])._version == version


def test_a_patch_keeps_a_bit_for_each_element_and_the_former_bits_of_the_changed() -> None:
    parameter = nn.Parameter(torch.zeros(1000, dtype=torch.bfloat16))
    changes = Changes(1)
    changes.open_writer(100, 100).write(
        Weights("w", parameter), 0, memoryview(bytearray(b"\0\0\1\1" * 500))
    )
    (patch,) = changes._patches
    assert isinstance(patch, Patch)
    assert patch.changed.nbytes == 125
    assert patch.former.nbytes == changes.nbytes == 1000


def test_what_is_kept_is_within_the_projection(model: nn.Module, base: nn.Module) -> None:
    request = replace(make_module_request(50, ALL), granularity=FINE.granularity)
    editing = edit.Edit(model, base, request, None, Stopwatch())
    report = editing.carry_out(lasting=True)
    patches = editing.changes._patches
    kept = sum(patch.changed.nbytes + patch.former.nbytes for patch in patches)
    projected = 6000 // 8 + 3000 * 4  # elements of the region, and of the widest format
    assert 6000 // 8 < kept <= projected
    assert report.projected_bytes > projected
