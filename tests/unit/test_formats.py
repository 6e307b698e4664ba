"""The table of number formats, held against torch and NumPy, which know them too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shardrestore.formats import CASTS, FORMATS, RANKED, TORCH_FORMATS, can_overflow, cast_dtype
from shardrestore.kernels import casting, cpu, reference


@pytest.mark.parametrize("name", TORCH_FORMATS)
def test_torch_has_each_format_in_the_size_that_the_table_says(name: str) -> None:
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip(f"torch {torch.__version__} has no {name}")
    assert dtype.itemsize * 8 == FORMATS[TORCH_FORMATS[name]].bits


def test_ranked_formats_have_the_bits_and_the_largest_number_that_torch_says() -> None:
    for name in RANKED:
        row = FORMATS[name]
        dtype = getattr(torch, row.torch or "")
        assert row.largest == torch.finfo(dtype).max
        infinity = torch.tensor(float("inf"), dtype=dtype).view(getattr(torch, row.torch_codes))
        assert infinity.item() == row.exponent


def test_a_cast_can_overflow_where_torch_makes_the_largest_number_infinite() -> None:
    for source in RANKED:
        largest = torch.tensor(FORMATS[source].largest, dtype=torch.float64)
        for dtype in RANKED:
            cast = largest.to(getattr(torch, FORMATS[dtype].torch or ""))
            assert can_overflow(source, dtype) == bool(cast.isinf()), (source, dtype)


def test_codes_are_integers_of_the_size_of_an_element() -> None:
    for row in FORMATS.values():
        assert row.code_type.kind == "u"
        assert row.code_type.itemsize == max(row.bits, 8) // 8
        assert row.count_bytes(24) == 24 * row.bits // 8


def test_only_ranked_formats_are_cast_and_only_to_such() -> None:
    assert set(CASTS.values()) == {None, *RANKED}
    assert {cast_dtype(name, "BF16") for name in FORMATS} == {"BF16", *FORMATS} - {"F16", "F32"}
    assert all(cast_dtype(name, None) == name for name in FORMATS)


@pytest.mark.parametrize("kernels", [reference, cpu])
def test_what_is_widened_and_narrowed_again_is_the_same_code(kernels: object) -> None:
    codes = np.arange(1 << 16, dtype=np.uint32)
    for name in RANKED:
        row = FORMATS[name]
        given = codes.astype(row.code_type) << (row.bits - 16)
        given = given[(given & row.exponent) != row.exponent]
        values = casting.widen(kernels, given, name, np.empty(given.size, np.float32))  # type: ignore[arg-type]
        back = casting.narrow(kernels, values, name, np.empty(given.size, np.uint32))  # type: ignore[arg-type]
        assert back.dtype == given.dtype
        assert np.array_equal(back, given)


def test_scratch_of_one_side_is_left_alone_by_the_other() -> None:
    caster = casting.Caster(reference, 4)
    ones, halves = (np.full(4, value, np.float32).view(np.uint32) for value in (1.0, 0.5))
    base = caster.cast(ones, "F32", "BF16", 0)
    target = caster.cast(halves, "F32", "BF16", 1)
    assert [hex(code) for code in (base[0], target[3])] == ["0x3f80", "0x3f00"]
    assert caster.cast(base, "BF16", "BF16", 0) is base
