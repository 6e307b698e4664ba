"""The inner loops: arrays in, counts out.

``reference`` (NumPy) defines what each function returns; ``cpu`` (numba) does
the same faster and is tested to return identical integers. Kernels know no
files, threads or progress.

Arrays are one-dimensional and contiguous. A bfloat16 or float16 array is passed
as its uint16 patterns; ``score_keys`` takes two uint16 arrays for bfloat16
arithmetic and two float32 arrays for everything else.

``gpu`` has the same functions on tensors of a device, in torch, and ``fused`` two
of them in Triton, that go over whole blocks. ``device.check_device`` returns what
to use on a device, once that has been seen to return the reference's integers.
Code that needs them imports them: that imports torch, which nothing else does.
"""

from __future__ import annotations

from ..scores.score import Score
from .interface import Kernels


def load_kernels(name: str = "cpu", score: Score | None = None) -> Kernels:
    """Import and return a set of kernels; the import is lazy, numba takes 0.3 s.

    Parameters
    ----------
    name : {"cpu", "reference"}
    score : Score, optional
        Compiled at once: a worker that compiles may lack the memory.

    Raises
    ------
    ValueError
        If numba's own settings keep it from compiling.
    """
    if name == "reference":
        from . import reference

        return reference
    from . import cpu

    if not cpu.is_compiled():
        raise ValueError("Compilation is turned off.")
    if score is not None:
        cpu.compile_score(score)
    return cpu
