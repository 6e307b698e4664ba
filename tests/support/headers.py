"""Headers, right and wrong, and strategies that draw others: what the parser is judged by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save

from shardrestore.checkpoint.header import (
    Header,
)
from shardrestore.formats import FORMATS

Content: TypeAlias = tuple[dict[str, tuple[str, tuple[int, ...]]], Mapping[str, str] | None]


Verdict: TypeAlias = "Content | str"  # what a file holds, or why it is refused


BITS = {name: row.bits for name, row in FORMATS.items()}


def contents(header: Header) -> Content:
    return {name: (e.dtype, e.shape) for name, e in header.tensors.items()}, header.metadata


def repeats_a_name(file: bytes) -> bool:
    end = 8 + int.from_bytes(file[:8], "little")
    names = [name for name, _ in json.loads(file[8:end], object_pairs_hook=tuple)]
    return len(names) > len(set(names))


def framed(text: str | bytes, data_bytes: int = 0) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + bytes(data_bytes)


def entry(dtype: str = '"F32"', shape: str = "[1]", offsets: str = "[0,4]", extra: str = "") -> str:
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{extra}}}'


def one(
    dtype: str = '"F32"', shape: str = "[1]", offsets: str = "[0,4]", extra: str = "", size: int = 4
) -> bytes:
    """A file with one tensor, whose entry is made of pieces of JSON."""
    return framed(f'{{"a":{entry(dtype, shape, offsets, extra)}}}', size)


def ignored(value: str) -> bytes:
    return one(extra=f',"x":{value}')


def nested(levels: int) -> bytes:
    return ignored("[" * levels + "]" * levels)


def typed(dtype: str, shape: list[int], size: int) -> bytes:
    return one(f'"{dtype}"', json.dumps(shape), f"[0,{size}]", size=size)


def pair(first: str, second: str, size: int) -> bytes:
    u8 = '"U8"'
    parts = [f"[{int(o.split(',')[1]) - int(o.split(',')[0])}]" for o in (first, second)]
    entries = [entry(u8, s, f"[{o}]") for s, o in zip(parts, (first, second), strict=True)]
    return framed(f'{{"a":{entries[0]},"b":{entries[1]}}}', size)


ACCEPTED = {
    "plain": one(),
    "no_tensors": framed("{}"),
    "only_metadata": framed('{"__metadata__":{"a":"b"}}'),
    "metadata_null": framed(f'{{"__metadata__":null,"a":{entry()}}}', 4),
    "metadata_empty": framed(f'{{"__metadata__":{{}},"a":{entry()}}}', 4),
    "metadata_last_of_two_keys_holds": framed('{"__metadata__":{"a":"1","a":"2"}}'),
    "metadata_named_by_escapes": framed('{"\\u005f_metadata__":{"a":"b"}}'),
    "metadata_after_tensors": framed(f'{{"a":{entry()},"__metadata__":{{"b":"c"}}}}', 4),
    "whitespace_around": framed(f' \t\r\n{{ "a" : {entry()} }} \n', 4),
    "whitespace_in_an_empty_object": framed(" { \n } "),
    "entry_as_array": framed('{"a":["F32",[1],[0,4]]}', 4),
    "dtype_as_enum_object": one('{"F32":null}'),
    "unknown_fields": one(extra=',"x":[true,null,{"y":1,"y":{}}],"x":3'),
    "huge_power_of_zero": ignored("0e99999999999"),
    "zero_times_huge_power": ignored("0.000e+309"),
    "tiny_power": ignored("1e-99999999999"),
    "negative_power_below_the_table": ignored("123456e-700"),
    "minus_zero_ignored": ignored("-0"),
    "int_beyond_u64_ignored": ignored("18446744073709551616"),
    "int_of_308_digits_ignored": ignored("9" * 308),
    "int_of_5000_digits_with_power": ignored("9" * 5000 + "e-4900"),
    "largest_float": ignored("1.7976931348623157e308"),
    "above_largest_float_but_rounded_down": ignored("1.79769313486231580e308"),
    "nested_127_levels": nested(125),
    "nested_127_levels_of_objects": ignored('{"y":' * 124 + "{}" + "}" * 124),
    "surrogate_pair": framed(f'{{"\\ud83d\\uDE00":{entry()}}}', 4),
    "escaped_backslash_before_ud800": framed(f'{{"\\\\ud800":{entry()}}}', 4),
    "escapes": framed(f'{{"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00e9":{entry()}}}', 4),
    "not_ascii": framed(f'{{"\u00e9\u2028\U0001f600\x7f":{entry()}}}', 4),
    "empty_name": framed(f'{{"":{entry()}}}', 4),
    "scalar": one(shape="[]"),
    "zero_size": one(shape="[3,0,5]", offsets="[0,0]", size=0),
    "zero_size_before_overflowing_lengths": one(
        '"U8"', f"[0,{2**63},{2**63}]", offsets="[0,0]", size=0
    ),
    "zero_sizes_at_one_place": pair("0,0", "0,0", 0),
    "zero_size_between": pair("4,4", "0,4", 4),
    "order_of_names_not_of_offsets": pair("4,8", "0,4", 8),
    "largest_u64_length": one('"U8"', f"[{2**64 - 1},0]", "[0,0]", size=0),
    "two_f4_in_a_byte": typed("F4", [2], 1),
    "four_f6_in_three_bytes": typed("F6_E3M2", [2, 2], 3),
} | {f"dtype_{d}": typed(d, [8], bits) for d, bits in BITS.items()}


REFUSED = {
    "nothing": (b"", "0 bytes are too short"),
    "seven_bytes": (bytes(7), "7 bytes are too short"),
    "length_beyond_bound": (b"\xff" * 20, "beyond the 100000000"),
    "git_lfs_pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "length_beyond_file": (one()[:40], "file has 40 bytes (truncated)"),
    "header_empty": (framed(""), "not JSON"),
    "header_only_spaces": (framed("   "), "not JSON"),
    "not_utf8": (framed(b'{"a\xff":1}'), "not UTF-8: byte 3 is 0xff"),
    "utf8_overlong": (framed(b'{"\xc0\xaf":1}'), "not UTF-8"),
    "utf8_surrogate": (framed(b'{"\xed\xa0\x80":1}'), "not UTF-8"),
    "byte_order_mark": (framed("\ufeff{}"), "expected an object with quoted names at character 0"),
    "vertical_tab": (framed("\v{}"), "not JSON"),
    "no_break_space": (framed("\u00a0{}"), "not JSON"),
    "null_padding": (framed("{}\0"), "not JSON"),
    "second_object": (framed("{}{}"), "not JSON"),
    "trailing_comma": (framed(f'{{"a":{entry()},}}', 4), "not JSON"),
    "trailing_comma_in_shape": (one(shape="[1,]"), "not JSON"),
    "leading_comma": (framed(f'{{,"a":{entry()}}}', 4), "not JSON"),
    "no_colon": (framed(f'{{"a" {entry()}}}', 4), "expected a colon"),
    "unclosed": (framed(f'{{"a":{entry()}', 4), "not JSON"),
    "unquoted_name": (framed(f"{{a:{entry()}}}", 4), "not JSON"),
    "number_as_name": (framed(f"{{1:{entry()}}}", 4), "not JSON"),
    "comment": (framed("{/**/}"), "not JSON"),
    "array": (framed("[]"), "expected an object"),
    "null": (framed("null"), "expected an object"),
    "control_character": (framed(f'{{"a\n":{entry()}}}', 4), "not JSON"),
    "unknown_escape": (framed(f'{{"\\x41":{entry()}}}', 4), "not JSON"),
    "short_escape": (framed(f'{{"\\u41":{entry()}}}', 4), "not JSON"),
    "half_a_pair_in_a_name": (framed(f'{{"\\ud800":{entry()}}}', 4), "half a surrogate pair"),
    "half_a_pair_ignored": (ignored('"\\udfff"'), "half a surrogate pair"),
    "half_a_pair_in_ignored_key": (ignored('{"\\uDBFF":1}'), "half a surrogate pair"),
    "pair_in_wrong_order": (ignored('"\\ude00\\ud83d"'), "half a surrogate pair"),
    "half_a_pair_before_a_pair": (ignored('"\\ud83d\\ud83d\\ude00"'), "half a surrogate pair"),
    "half_a_pair_in_metadata": (framed('{"__metadata__":{"a":"\\ud800x"}}'), "half a surrogate"),
    "nan": (ignored("NaN"), "NaN is no number"),
    "infinity": (ignored("[Infinity]"), "Infinity is no number"),
    "minus_infinity": (ignored("-Infinity"), "-Infinity is no number"),
    "power_out_of_range": (ignored("1e999"), "out of range"),
    "negative_out_of_range": (ignored("-1E+999"), "out of range"),
    "power_beyond_i32": (ignored("1e99999999999999999999"), "out of range"),
    "int_out_of_range": (ignored("9" * 400), "out of range"),
    "int_of_5000_digits": (ignored("9" * 5000), "out of range"),
    "largest_float_rounded_up": (ignored("1.7976931348623158e308"), "out of range"),
    "leading_zero": (ignored("01"), "not JSON"),
    "leading_plus": (ignored("+1"), "not JSON"),
    "no_digit_after_point": (ignored("1."), "not JSON"),
    "no_digit_before_point": (ignored(".5"), "not JSON"),
    "no_digit_in_power": (ignored("1e+"), "not JSON"),
    "arabic_digit": (ignored("\u0661"), "not JSON"),
    "nested_128_levels": (nested(126), "nested deeper than 127"),
    "nested_128_levels_of_objects": (
        ignored('{"y":' * 125 + "{}" + "}" * 125),
        "nested deeper than 127",
    ),
    "nested_128_levels_under_a_repeated_key": (
        ignored('{"y":' + "[" * 125 + "]" * 125 + ',"y":1}'),
        "nested deeper than 127",
    ),
    "nested_100000_levels": (nested(100_000), "too deeply nested"),
    "metadata_twice": (framed('{"__metadata__":{},"__metadata__":{}}'), "__metadata__ is given"),
    "metadata_null_twice": (framed('{"__metadata__":null,"__metadata__":null}'), "given twice"),
    "metadata_array": (framed('{"__metadata__":[]}'), "an array of 0, not an object"),
    "metadata_text": (framed('{"__metadata__":"pt"}'), "is 'pt', not an object"),
    "metadata_number": (framed('{"__metadata__":{"a":1}}'), "holds 1 under 'a', not text"),
    "metadata_null_inside": (framed('{"__metadata__":{"a":null}}'), "holds null under 'a'"),
    "metadata_overwritten_number": (framed('{"__metadata__":{"a":1,"a":""}}'), "not text"),
    "entry_null": (framed('{"a":null}'), "tensor 'a' is null"),
    "entry_array_of_two": (framed('{"a":["F32",[1]]}', 4), "an array of 2"),
    "entry_array_of_four": (framed('{"a":["F32",[1],[0,4],0]}', 4), "an array of 4"),
    "entry_empty": (framed('{"a":{}}'), "has no dtype and no shape and no data_offsets"),
    "field_twice": (one(extra=',"dtype":"F32"'), "has dtype twice"),
    "field_missing": (framed('{"a":{"dtype":"F32","shape":[1]}}', 4), "has no data_offsets"),
    "dtype_unknown": (one('"F128"'), "has dtype 'F128', none of"),
    "dtype_lower_case": (one('"f32"'), "has dtype 'f32'"),
    "dtype_null": (one("null"), "has dtype null"),
    "dtype_array": (one('["F32"]'), "has dtype an array of 1"),
    "dtype_number": (one("17"), "has dtype 17"),
    "dtype_enum_of_object": (one('{"F32":{}}'), "has dtype an object"),
    "dtype_enum_of_array": (one('{"F32":[]}'), "has dtype an object"),
    "dtype_enum_twice": (one('{"F32":null,"F32":null}'), "has dtype an object of 2"),
    "dtype_enum_empty": (one("{}"), "has dtype an object of 0"),
    "dtype_enum_in_enum": (one('{{"F32":null}:null}'), "not JSON"),
    "shape_null": (one(shape="null"), "has null for shape"),
    "shape_object": (one(shape="{}"), "has an object of 0 for shape"),
    "shape_of_float": (one(shape="[1.0]"), "has 1.0 in shape"),
    "shape_of_power": (one(shape="[1e0]"), "has 1.0 in shape"),
    "shape_of_bool": (one(shape="[true]"), "has true in shape"),
    "shape_of_text": (one(shape='["1"]'), "has '1' in shape"),
    "shape_negative": (one(shape="[-1]"), "has -1.0 in shape"),
    "shape_minus_zero": (one(shape="[-0]", offsets="[0,0]", size=0), "has -0.0 in shape"),
    "shape_beyond_u64": (one(shape=f"[{2**64},0]", offsets="[0,0]", size=0), "in shape"),
    "shape_product_overflows": (one(shape=f"[{2**40},{2**40}]"), "over 2**64 - 1 bits"),
    "shape_product_overflows_before_zero": (
        one('"U8"', f"[{2**40},{2**40},0]", "[0,0]", size=0),
        "over 2**64 - 1 bits",
    ),
    "bits_overflow": (one('"U8"', f"[{2**61}]"), "over 2**64 - 1 bits"),
    "offsets_of_one": (one(offsets="[4]"), "data_offsets [4], not one begin"),
    "offsets_of_three": (one(offsets="[0,4,4]"), "data_offsets [0, 4, 4], not one begin"),
    "offsets_object": (one(offsets="{}"), "has an object of 0 for data_offsets"),
    "offsets_reversed": (one(offsets="[4,0]"), "data_offsets [4, 0], not one begin"),
    "offsets_minus_zero": (one(offsets="[-0,4]"), "has -0.0 in data_offsets"),
    "offsets_float": (one(offsets="[0,4.0]"), "has 4.0 in data_offsets"),
    "offsets_beyond_u64": (one(offsets=f"[0,{2**64}]"), "in data_offsets"),
    "size_too_small": (one(shape="[2]"), "takes 8 bytes, but its data_offsets [0, 4] hold 4"),
    "size_too_large": (one(offsets="[0,5]", size=5), "takes 4 bytes"),
    "one_f4": (typed("F4", [1], 1), "4 bits, no whole bytes"),
    "three_f6": (typed("F6_E2M3", [3], 3), "18 bits, no whole bytes"),
    "overlap": (pair("0,4", "2,6", 6), "tensor 'b' begins at data offset 2, but tensor 'a'"),
    "same_place_twice": (pair("0,4", "0,4", 4), "(overlap)"),
    "zero_size_inside": (pair("0,4", "2,2", 4), "(overlap)"),
    "hole_between": (pair("0,4", "5,9", 9), "the bytes from 4 on belong to no tensor (hole)"),
    "hole_at_start": (one(offsets="[4,8]", size=8), "the bytes from 0 on"),
    "data_truncated": (one(size=3), "ends at data offset 4, but the file has 3 bytes of data"),
    "data_trailing": (one(size=6), "(2 trailing bytes)"),
    "data_without_tensors": (framed("{}", 1), "(1 trailing bytes)"),
    "offsets_near_u64": (
        one('"U8"', f"[{2**61 - 1}]", f"[0,{2**61 - 1}]"),
        "(truncated); download it again",
    ),
}


REPEATED_NAMES = {
    "equal_entries": framed(f'{{"a":{entry()},"a":{entry()}}}', 4),
    "first_entry_elsewhere": framed(f'{{"a":{entry(offsets="[7,11]")},"a":{entry()}}}', 4),
    "first_entry_broken": framed(f'{{"a":{entry(shape="[2]")},"a":{entry()}}}', 4),
    "one_name_escaped": framed(f'{{"a":{entry()},"\\u0061":{entry()}}}', 4),
}


VALID_FILES = (
    *ACCEPTED.values(),
    save({"x.weight": np.zeros((2, 3), np.float16), "y": np.ones(3)}, {"format": "pt"}),
)


ODD_TOKENS = (
    *("null", "true", "false", "NaN", "-Infinity", '""', '"F32"', '"U8"', '{"F32":null}'),
    *("-0", "0", "1", "4", "8", "-1", "1.0", "4e0", "1e999", "01", "9" * 30),
    *("[]", "{}", "[0,4]", "[0,0]", "[4]", "[[4]]", r'"\ud800"', r'"\ud83d\ude00"'),
    *(str(n) for n in (2**32, 2**61, 2**63, 2**64 - 1, 2**64)),
    *("[" * n + "]" * n for n in (124, 125, 126, 127, 2000)),
    entry(),
    '["F32",[1],[0,4]]',
    "{",
    ",",
    '"',
    "\ufeff",
    " ",
    "",
)


KEYS = ("dtype", "shape", "data_offsets", "__metadata__", "a", "b", "x", "\\u0061", "\\ud800")


odd = st.sampled_from(ODD_TOKENS)


numbers = st.builds(
    lambda sign, whole, zeros, fraction, power: f"{sign}{whole}{'0' * zeros}{fraction}{power}",
    st.sampled_from(["", "-"]),
    st.from_regex(
        r"0|[1-9][0-9]{0,25}|17976931348623[0-9]{1,9}|1844674407370955161[0-9]{0,5}", fullmatch=True
    ),
    st.sampled_from([0, 0, 0, 1, 280, 290, 300, 309]),
    st.from_regex(r"|\.[0-9]{1,25}|\.0{1,330}[0-9]{1,3}", fullmatch=True),
    st.from_regex(r"|[eE][+-]?([0-9]{1,2}|2[6-9][0-9]|30[0-9]|[0-9]{10,12})", fullmatch=True),
)


@st.composite
def rewritten(draw: st.DrawFn) -> bytes:
    """One valid file after a few edits of its header's bytes, its length or its end."""
    file = draw(st.sampled_from(VALID_FILES))
    end = 8 + int.from_bytes(file[:8], "little")
    raw, data = bytearray(file[8:end]), file[end:]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw) - 1)) if raw else 0
        edit = draw(st.sampled_from(["flip", "set", "cut", "insert", "repeat"]))
        if edit == "cut":
            del raw[at : at + draw(st.integers(1, 8))]
        elif edit == "insert":
            raw[at:at] = draw(odd).encode()
        elif edit == "repeat":
            raw[at:at] = raw[at : at + draw(st.integers(1, 40))]
        elif raw and edit == "flip":
            raw[at] ^= 1 << draw(st.integers(0, 7))
        elif raw:
            raw[at] = draw(st.sampled_from(b'{}[],:"\\0123456789-+.eEu \t\n\0\xff'))
    file = framed(bytes(raw)) + data
    whole = draw(st.sampled_from(["kept"] * 6 + ["truncated", "longer", "other length"]))
    if whole == "truncated":
        return file[: draw(st.integers(0, len(file)))]
    if whole == "longer":
        return file + bytes(draw(st.integers(1, 9)))
    if whole == "other length":
        length = max(0, len(raw) + draw(st.integers(-9, 9)))
        return length.to_bytes(8, "little") + file[8:]
    return file


@st.composite
def composed(draw: st.DrawFn) -> bytes:
    """A header of entries that are right except for some odd, repeated or missing members."""

    def members(right: list[tuple[str, str]]) -> str:
        if draw(st.integers(0, 3)) == 0:
            at = draw(st.integers(0, len(right)))
            change = draw(st.sampled_from(["value", "key", "repeat", "drop", "add", "swap"]))
            if change == "add":
                right.insert(at, (draw(st.sampled_from(KEYS)), draw(odd | numbers)))
            elif at < len(right):
                key, value = right[at]
                if change == "value":
                    right[at] = (key, draw(odd | numbers))
                elif change == "key":
                    right[at] = (draw(st.sampled_from(KEYS)), value)
                elif change == "repeat":
                    right.append(right[at])
                elif change == "drop":
                    del right[at]
                else:
                    right.insert(0, right.pop(at))
        return "{" + ",".join(f'"{key}":{value}' for key, value in right) + "}"

    tensors, begin = [], 0
    for name in draw(st.lists(st.sampled_from("abcdé"), max_size=4, unique=True)):
        dtype = draw(st.sampled_from(sorted(BITS)))
        shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 8]), max_size=3))
        bits = int(np.prod(shape, dtype=int)) * BITS[dtype]
        end = begin + bits // 8 + draw(st.sampled_from([0] * 30 + [1, -1]))
        fields = [
            ("dtype", f'"{dtype}"'),
            ("shape", json.dumps(shape)),
            ("data_offsets", f"[{begin},{end}]"),
        ]
        tensors.append((name, members(fields)))
        begin = max(0, end + draw(st.sampled_from([0] * 30 + [1, -1])))
    if draw(st.booleans()):
        texts = [("format", '"pt"'), ("b", '"c"')]
        tensors.insert(draw(st.integers(0, len(tensors))), ("__metadata__", members(texts)))
    raw = members(draw(st.permutations(tensors)))
    return framed(raw, max(0, begin + draw(st.sampled_from([0] * 15 + [1, -1]))))
