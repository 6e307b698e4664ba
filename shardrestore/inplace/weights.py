"""One parameter's elements, as the integers that their bits are: read and set in place.

Through integers nothing is converted: the payload of a NaN and the sign of a zero stay.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputChangedError
from ..formats import TORCH_FORMATS
from ..kernels import gpu
from ..kernels.interface import Codes, Flags
from ..machine.compiler import compile_kernels
from ..machine.device import is_out_of_memory


class Weights:
    """A parameter in memory, on any device; elements are numbered in row-major order.

    Parameters
    ----------
    name : str
    parameter : torch.Tensor
        Of a format that is ranked, and without an obstacle: see ``find_obstacle``.
    kernel_set : str
        What works on it where NumPy does, see ``load_kernels``.
    """

    def __init__(self, name: str, parameter: torch.Tensor, kernel_set: str = "cpu") -> None:
        self.name = name
        self._parameter = parameter
        self._dtype, self._shape = parameter.dtype, parameter.shape
        self._format = name_format(parameter.dtype) or ""
        self._kernels = compile_kernels(kernel_set)
        self.item = np.dtype(f"u{parameter.element_size()}")
        """Type of the integers in NumPy; torch has signed ones."""
        self.locate()

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._codes.device

    @property
    def place(self) -> tuple[str, int]:
        """Where the parameter is by now: its device, and the address of its first element."""
        return str(self._parameter.device), self._parameter.data_ptr()

    def locate(self) -> None:
        """Look where the parameter's memory is: ``module.to`` moves it elsewhere.

        Raises
        ------
        InputChangedError
            If it is of another format or shape by now.
        """
        now = self._parameter
        if (now.dtype, now.shape) != (self._dtype, self._shape):
            raise InputChangedError(
                f"{self.name}: was {self._dtype} of shape {list(self._shape)} when it was "
                f"restored, is {now.dtype} of shape {list(now.shape)} now"
            )
        codes = now.detach().view(gpu.code_type(self._format))
        self._flat = codes.view(-1) if codes.is_contiguous() else None
        self._codes = codes if self._flat is None else self._flat
        # NumPy copies on the calling thread; torch would start threads of its own for each.
        on_host = self._flat is not None and self._flat.device.type == "cpu"
        self._array: Codes | None = self._codes.numpy().view(self.item) if on_host else None

    def codes(self, start: int, elements: int) -> torch.Tensor | None:
        """Return elements as they lie in memory, not copied; None unless they are contiguous.

        Returns
        -------
        torch.Tensor, 1-D, of int16 or int32, or None
            On the parameter's device. What is written to it is written to the parameter.
        """
        return None if self._flat is None else self._flat[start : start + elements]

    def read(self, start: int, elements: int) -> Codes:
        """Return elements; valid until they are set."""
        if self._array is not None:
            return self._array[start : start + elements]
        run = self.codes(start, elements)
        if run is None:
            run = self._codes[self._index(np.arange(start, start + elements))]
        codes: Codes = run.cpu().numpy().view(self.item)
        return codes

    def compare(self, start: int, codes: Codes | torch.Tensor) -> tuple[Flags, Codes]:
        """Compare a run of elements with what is there.

        Parameters
        ----------
        start : int
            The first of them.
        codes : ndarray, or tensor on the parameter's device
            The latter for parameters that are contiguous alone.

        Returns
        -------
        changed : ndarray of uint8
            Which of them differ, as ``note_changes`` packs it.
        former : ndarray
            What is there instead of those that differ.
        """
        if isinstance(codes, torch.Tensor):
            held = self.codes(start, codes.numel())
            assert held is not None
            noted = gpu.note_changes(held, codes)
            there: Codes = noted[1].cpu().numpy().view(self.item)
            return noted[0].cpu().numpy(), there
        held_codes = self.read(start, codes.size)
        changed, former = np.empty(-(-codes.size // 8), np.uint8), np.empty_like(codes)
        count = self._kernels.note_changes(held_codes, codes, changed, former)
        return changed, former[:count]

    def write(self, start: int, codes: Codes | torch.Tensor, changed: Flags) -> None:
        """Set a run of elements, given as for ``compare``, and what that has found.

        Takes no memory of a device, except for parameters that are not contiguous.
        """
        if self._array is not None and not isinstance(codes, torch.Tensor):
            self._array[start : start + codes.size] = codes
            self._tell_autograd()
            return
        held = self.codes(start, len(codes))
        if held is not None:
            self._copy(codes, held)
            return
        assert not isinstance(codes, torch.Tensor)
        positions = _unpack(changed, codes.size)
        self._put(start, positions, codes[positions])

    def put_back(self, start: int, elements: int, changed: Flags, former: Codes) -> None:
        """Set what ``note_changes`` has noted of a run of elements to what it was.

        On the device, or without any memory of it if it has none left.
        """
        if self._array is not None:
            self._kernels.put_back(changed, former, self._array[start : start + elements])
            self._tell_autograd()
            return
        held = self.codes(start, elements)
        if held is None:
            self._put(start, _unpack(changed, elements), former)
            return
        try:
            with torch.inference_mode(held.is_inference()):
                gpu.put_back(
                    torch.from_numpy(changed).to(held.device),
                    self._signed(former).to(held.device),
                    held,
                )
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Here the exception is gone, and what it kept of the device's memory.
        _release_memory(held.device)
        codes: Codes = held.cpu().numpy().view(self.item).copy()
        self._kernels.put_back(changed, former, codes)
        self._copy(codes, held)

    def _copy(self, codes: Codes | torch.Tensor, held: torch.Tensor) -> None:
        with torch.inference_mode(held.is_inference()):
            held.copy_(codes if isinstance(codes, torch.Tensor) else self._signed(codes))

    def _put(self, start: int, positions: npt.NDArray[np.int64], codes: Codes) -> None:
        """Set elements of a parameter that is not contiguous."""
        signed = self._signed(codes)
        with torch.inference_mode(self._codes.is_inference()):
            try:
                there = self._index(positions + start)
                self._codes.index_put_(there, signed.to(self._codes.device))
                return
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            _release_memory(self._codes.device)
            # A launch for each element, some microseconds, but no index on the device.
            places = np.unravel_index(positions + start, tuple(self._shape))
            for place, code in zip(np.stack(places, 1).tolist(), signed.tolist(), strict=True):
                self._codes[tuple(place)].fill_(code)

    def _signed(self, codes: Codes) -> torch.Tensor:
        return torch.from_numpy(codes.view(f"i{self.item.itemsize}"))

    def _tell_autograd(self) -> None:
        """Write nothing, but through torch: it counts that, so that a stale graph is noticed."""
        with torch.inference_mode(self._codes.is_inference()):
            self._codes[:0].zero_()

    def _index(self, positions: npt.NDArray[np.int64]) -> tuple[torch.Tensor, ...]:
        there = torch.from_numpy(positions).to(self._codes.device)
        return tuple(torch.unravel_index(there, self._codes.shape))


def _unpack(changed: Flags, elements: int) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.unpackbits(changed, count=elements, bitorder="little"))


def _release_memory(device: torch.device) -> None:
    """Give back what torch keeps of a device's memory without using it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def name_format(dtype: torch.dtype) -> str | None:
    """Return what safetensors calls a format of torch; None if files do not know it."""
    return TORCH_FORMATS.get(str(dtype).removeprefix("torch."))


def find_obstacle(parameter: torch.Tensor) -> str | None:
    """Return why a parameter's elements cannot be read and set in place; None if they can."""
    if type(parameter).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return (
            f"a {type(parameter).__name__}, which keeps its elements elsewhere (distributed, or "
            "quantised)"
        )
    if _redefines_functions(type(parameter)):
        return f"a {type(parameter).__name__}, which redefines what torch's functions do to it"
    if parameter.device.type == "meta":
        return "on the meta device: its elements are not in memory (offloaded, or never loaded)"
    if parameter.layout is not torch.strided:
        return f"of layout {parameter.layout}, not a dense tensor"
    if parameter.is_neg() or parameter.is_conj():
        return "a negated or conjugated view: its memory holds other bits than its elements"
    steps = sorted(
        (stride, length)
        for stride, length in zip(parameter.stride(), parameter.shape, strict=True)
        if length > 1
    )
    if steps and steps[0][0] == 0:
        return "expanded: several of its elements are one in memory"
    reach = 0
    for stride, length in steps:
        if stride <= reach:
            return f"strided as {parameter.stride()}: some of its elements may be one in memory"
        reach += stride * (length - 1)
    return None


def _redefines_functions(kind: type[torch.Tensor]) -> bool:
    plain: tuple[type[torch.Tensor], ...] = (torch.Tensor, torch.nn.Parameter)
    return _find_dispatcher(kind) not in map(_find_dispatcher, plain)


def _find_dispatcher(kind: type[torch.Tensor]) -> object:
    """Return what torch's functions ask first: of a class method the function."""
    return getattr(kind.__torch_function__, "__func__", kind.__torch_function__)


def memory_span(parameter: torch.Tensor) -> tuple[int, int]:
    """Return the first address of a dense tensor of at least one element, and the one after it."""
    reach = sum(
        (length - 1) * stride
        for length, stride in zip(parameter.shape, parameter.stride(), strict=True)
    )
    begin = parameter.data_ptr()
    return begin, begin + (reach + 1) * parameter.element_size()
