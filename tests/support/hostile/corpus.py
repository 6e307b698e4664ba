"""Hostile checkpoints: hand-made ones by name, generated ones by number.

A case builds a folder with ``base`` and ``target``. Most put the hostile file into both, as
otherwise the pairing would refuse what the parser let through.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.support.examples import TIMES
from tests.support.headers import (
    ACCEPTED,
    REFUSED,
    REPEATED_NAMES,
    composed,
    framed,
    rewritten,
)
from tests.support.scene import INDEX, SINGLE, Scene, entry, header_file

SEED = int(os.environ.get("HOSTILE_SEED", "20250916"))
"""What the generated cases follow from; every failure prints it."""
GENERATED = 30 * TIMES
"""Headers, and as many indexes."""

SHARD = "model-00002-of-00003.safetensors"
NAME = "model.layers.0.mlp.up_proj.weight"
MEGABYTE = 1_000_000
ONE, TWO = b"\x80\x3f", b"\x00\x40"  # as bfloat16

Build = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One hostile checkpoint."""

    name: str
    build: Build
    """Fills an empty folder with ``base`` and ``target``."""
    legal: bool | None
    """Whether it must be accepted; None where safetensors decides."""
    says: tuple[str, ...] = ()
    """What the message must hold, the culprit's name first."""
    args: tuple[str, ...] = ()


# Building blocks ------------------------------------------------------------------------


def alone(base: bytes, target: bytes) -> Build:
    """Build two models of a single file each."""

    def build(root: Path) -> None:
        for side, content in (("base", base), ("target", target)):
            (root / side).mkdir()
            (root / side / SINGLE).write_bytes(content)

    return build


def twice(content: bytes) -> Build:
    return alone(content, content)


def spoilt(spoil: Callable[[Scene], object]) -> Build:
    """Build the good tiny pair, and spoil it."""
    return lambda root: spoil(Scene.make(root))


def named(*names: str) -> Build:
    """Build a pair with tensors of these names, all 1 in the base and 2 in the target."""
    entries = {
        name: entry("BF16", [3], 6 * number, 6 * number + 6) for number, name in enumerate(names)
    }
    return alone(
        *(header_file(json.dumps(entries), value * 3 * len(names)) for value in (ONE, TWO))
    )


def shaped(shape: str, elements: int = 1) -> Build:
    text = f'{{"{NAME}":{{"dtype":"BF16","shape":{shape},"data_offsets":[0,{2 * elements}]}}}}'
    return alone(*(header_file(text, value * elements) for value in (ONE, TWO)))


def extra(value: str, where: str = "") -> bytes:
    """Return a file whose entry has one more field."""
    text = '{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2],"x":%s}%s}'
    return header_file(text % (value, where), ONE)


def claiming(length: int, rest: bytes = b"{}") -> bytes:
    return length.to_bytes(8, "little") + rest


def with_index(content: bytes | str) -> Build:
    raw = content.encode() if isinstance(content, str) else content
    return spoilt(lambda scene: (scene.target / INDEX).write_bytes(raw))


def with_map(change: Callable[[dict[str, Any]], object]) -> Build:
    """Change the weight map of the target's index."""

    def spoil(scene: Scene) -> None:
        document = json.loads((scene.target / INDEX).read_text())
        change(document["weight_map"])
        (scene.target / INDEX).write_text(json.dumps(document))

    return spoilt(spoil)


def pointing(filename: object) -> Build:
    """Let the index place one tensor in another file."""
    return with_map(lambda places: places.update({NAME: filename}))


def with_file(name: str, content: bytes) -> Build:
    def spoil(scene: Scene) -> None:
        path = scene.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return spoilt(spoil)


def instead(name: str, make: Callable[[Path], object]) -> Build:
    """Put something else in the place of one of the target's files."""

    def spoil(scene: Scene) -> None:
        (scene.target / name).unlink(missing_ok=True)
        make(scene.target / name)

    return spoilt(spoil)


def instead_of_everything(name: str, make: Callable[[Path], object]) -> Build:
    """Leave one thing in the target, of any kind."""

    def build(root: Path) -> None:
        named(NAME)(root)
        (root / "target" / SINGLE).unlink()
        make(root / "target" / name)

    return build


def link(destination: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(destination)


def make_socket(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # a socket's path has 107 bytes at most
        with socket.socket(socket.AF_UNIX) as unbound:
            unbound.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def sparse(elements: int) -> Build:
    """Build a pair whose files are as large as they claim, and take no disk."""

    def build(root: Path) -> None:
        header = header_file(json.dumps({NAME: entry("BF16", [elements], 0, 2 * elements)}))
        for side in ("base", "target"):
            (root / side).mkdir()
            with open(root / side / SINGLE, "wb") as file:
                file.write(header)
                file.truncate(len(header) + 2 * elements)

    return build


def folders(depth: int, name: str) -> Build:
    """Nest folders deeper than any path can say."""

    def spoil(scene: Scene) -> None:
        here = os.open(scene.target, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name, dir_fd=here)
            deeper = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
        os.close(here)

    return spoilt(spoil)


# The tables -----------------------------------------------------------------------------

LEGAL_NAMES = {
    "nul": "a\0b",
    "slashes": "a/b/c",
    "absolute": "/etc/passwd",
    "parent_folders": "../../../etc/passwd",
    "dot": ".",
    "dots": "...",
    "empty": "",
    "space": " ",
    "newline": "a\nerror: b",
    "carriage_return": "a\rerror",
    "tab": "a\tb",
    "escape_sequence": "\x1b[2Jx",
    "title_sequence": "\x1b]0;x\x07",
    "c1_control": "\x9b31mx",
    "delete": "a\x7fb",
    "right_to_left": "a\u202eb",
    "zero_width": "a\u200bb",
    "line_separator": "a\u2028b",
    "byte_order_mark": "\ufeffa",
    "surrogate_pair": "\U0001f600",
    "not_a_character": "\uffff",
    "combining": "e" + "\u0301" * 1000,
    "percent": "%s%n%(a)s",
    "braces": "{0} {a!r:>99999}",
    "shell": "$(touch hacked)`touch hacked`;&|<>'\"",
    "backslashes": "..\\..\\a",
    "quotes": '"\'"',
    "html": "<script>alert(1)</script>",
    "a_report": "shardrestore.json",
    "a_python_name": "__class__.__init__.__globals__",
    "a_pattern": r"(a+)+$\1[",
    "layer_of_400_digits": f"model.layers.{'9' * 400}.mlp.up_proj.weight",
    "layer_of_5000_digits": f"model.layers.{'9' * 5000}.mlp.up_proj.weight",
    "layer_of_arabic_digits": "model.layers.\u0661\u0662.mlp.up_proj.weight",
    "layer_of_superscripts": "model.layers.\u00b2.mlp.up_proj.weight",
    "negative_layer": "model.layers.-1.mlp.up_proj.weight",
    "megabyte": "x" * MEGABYTE,
    "megabyte_of_dots": "." * MEGABYTE,
    "megabyte_of_layers": "layers.1." * (MEGABYTE // 9),
    "megabyte_of_underscores": "_emb" * (MEGABYTE // 4) + "!.weight",
    "megabyte_of_astral_characters": "\U0001f600" * (MEGABYTE // 4),
}

ODD_SHAPES = {
    "scalar": ("[]", 1),
    "axes_64": (json.dumps([1] * 64), 1),
    "axes_100000": (json.dumps([1] * 100_000), 1),
    "empty_last": ("[2,1,1]", 2),
}

LENGTHS = {
    "a_quintillion": 10**18,
    "all_bits": 2**64 - 1,
    "sign_bit": 2**63,
    "below_the_sign_bit": 2**63 - 1,
    "four_gigabytes": 2**32,
    "two_gigabytes": 2**31,
    "largest_allowed": 10**8,
    "above_the_largest": 10**8 + 1,
    "one_more_than_there_is": 3,
    "minus_eight": 2**64 - 8,
}

BAD_HEADERS = {
    "nothing": b"",
    "only_a_length": claiming(0, b""),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "pickle": claiming(64, b"\x80\x04\x95" + b"cos\nsystem\n(S'touch hacked'\ntR." + bytes(64)),
    "zip": b"PK\x03\x04" + bytes(200),
    "gzip": b"\x1f\x8b\x08" + bytes(200),
    "html": b"<!DOCTYPE html><html>429 Too Many Requests</html>",
    "elf": b"\x7fELF" + bytes(200),
    "script": b"#!/bin/sh\ntouch hacked\n",
    "arrays_1000_deep": extra("[" * 1000 + "]" * 1000),
    "arrays_a_million_deep": extra("[" * MEGABYTE + "]" * MEGABYTE),
    "arrays_never_closed": extra("[" * MEGABYTE),
    "objects_a_hundred_thousand_deep": extra('{"y":' * 100_000 + "1" + "}" * 100_000),
    "deep_metadata": header_file('{"__metadata__":' + '{"a":' * 50_000 + "1" + "}" * 50_001),
    "deep_dtype": header_file('{"a":{"dtype":' + "[" * 500 + "]" * 500 + "}}"),
    "deep_shape": header_file('{"a":{"dtype":"F32","shape":' + "[" * 500 + "]" * 500 + "}}"),
    "twelve_million_brackets": extra("[" + "[[[]]]," * 2_000_000 + "0]"),
    "half_a_surrogate": header_file(f'{{"\\ud800":{json.dumps(entry("U8", [1], 0, 1))}}}', b"x"),
    "surrogates_swapped": header_file('{"\\ude00\\ud83d":1}'),
    "raw_surrogate": framed(b'{"\xed\xa0\x80":1}'),
    "raw_control_characters": header_file('{"\x1b]0;x\x07":1}'),
    "escaped_control_characters": header_file('{"\\u001b]0;x\\u0007\\u009b":1}'),
    "ten_million_digits": header_file('{"a":' + "9" * (10 * MEGABYTE) + "}"),
    "ten_million_digits_after_the_point": extra("0." + "9" * MEGABYTE + "e999999999999"),
    "ten_million_spaces": framed(b" " * 10 * MEGABYTE),
    "ten_million_backslashes": framed(b'{"' + b"\\" * 10 * MEGABYTE + b'":1}'),
    "metadata_of_a_bad_kind": header_file('{"__metadata__":{"\\u001b":["\\u001b"]}}'),
    "metadata_is_a_megabyte": header_file(json.dumps({"__metadata__": "\x1b" * MEGABYTE})),
    "dtype_of_a_megabyte": header_file(
        json.dumps({"a": entry("\x07" * MEGABYTE, [1], 0, 1)}), b"x"
    ),
    "name_of_a_megabyte_is_bad": header_file(json.dumps({"\x9b" * MEGABYTE: 1})),
    "shape_beyond_everything": header_file(json.dumps({"a": entry("U8", [2**63, 2**63], 0, 1)})),
    "shape_of_huge_numbers": header_file(json.dumps({"a": entry("U8", [10**30], 0, 1)})),
    "shape_is_negative": header_file(json.dumps({"a": entry("U8", [-1, -1], 0, 1)}), b"x"),
    "data_beyond_everything": header_file(
        json.dumps({"a": entry("U8", [2**60], 2**60, 2**61)}), b"x"
    ),
    "data_before_the_data": header_file(json.dumps({"a": entry("U8", [1], -8, -7)}), b"x"),
    "data_reversed": header_file(json.dumps({"a": entry("U8", [1], 1, 0)}), b"x"),
    "data_of_another": header_file(
        json.dumps({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}), b"xyz"
    ),
    "a_thousand_overlaps": header_file(
        json.dumps({f"a{n}": entry("U8", [8], 0, 8) for n in range(1000)}), bytes(8)
    ),
    "trailing_gigabyte_claimed": header_file("{}", bytes(100)),
}

# Regular files by their kind, but without a size; pagemap has no end: 8 bytes for every page
# that could be mapped.
KERNEL_FILES = ("/proc/self/mem", "/proc/self/pagemap")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/full", "/dev/tty")

OUTSIDE = {
    "parent": "../base/model-00001-of-00003.safetensors",
    "absolute": "/etc/model.safetensors",
    "parent_within": "a/../../base/model-00001-of-00003.safetensors",
    "backslashes": "..\\base\\model.safetensors",
    "home": "~/../x.txt",
    "device": "/dev/zero",
    "hidden": ".git/x.safetensors",
    "the_index": INDEX,
    "a_script": "modeling_tiny.py",
    "nul": "a\0.safetensors",
    "escape": "\x1b]0;x\x07.safetensors",
    "c1": "\x9b2J.safetensors",
    "newline": "a\nb.safetensors",
    "surrogate": "\ud800.safetensors",
    "right_to_left": "\u202e.safetensors",
    "empty": "",
    "dot": ".",
    "only_a_suffix": ".safetensors",
    "a_number": 10**30,
    "nothing": None,
    "a_list": ["x.safetensors"],
    "a_list_of_a_megabyte": [1] * 300_000,
    "an_object": {"x" * MEGABYTE: 1},
    "a_megabyte": "x" * MEGABYTE + ".safetensors",
    "a_megabyte_outside": "../" * (MEGABYTE // 3) + "x.safetensors",
    "a_thousand_folders": "a/" * 1000 + "x.safetensors",
    "too_long_a_name": "x" * 300 + ".safetensors",
    "a_url": "https://example.invalid/x.safetensors",
    "its_folder": "templates/../.safetensors",
}

BAD_INDEXES = {
    "empty": b"",
    "zeros": bytes(1000),
    "not_utf_8": b'{"weight_map":{"\xff":"a.safetensors"}}',
    "pickle": b"\x80\x04cos\nsystem\n(S'touch hacked'\ntR.",
    "number": b"1" * 5000,
    "infinity": b"Infinity",
    "deep": b"[" * MEGABYTE,
    "deep_objects": b'{"weight_map":' * 100_000,
    "deep_beside_the_map": b'{"x":' + b"[" * 2000 + b"]" * 2000 + b',"weight_map":{}}',
    "twelve_million_brackets": b'{"weight_map":{},"x":[' + b"[[[]]]," * 2_000_000 + b"0]}",
    "map_is_text": b'{"weight_map":"model.safetensors"}',
    "map_is_a_number": b'{"weight_map":1e999}',
    "map_is_empty": b'{"weight_map":{}}',
    "map_twice": b'{"weight_map":{},"weight_map":{}}',
    "name_twice_of_a_megabyte": b'{"weight_map":{"%(n)s":"a.safetensors","%(n)s":"a.safetensors"}}'
    % {b"n": b"\\u001b" * (MEGABYTE // 6)},
}

GHOSTS = {
    "megabyte": "x" * MEGABYTE,
    "escape": "\x1b]0;x\x07",
    "surrogate": "\ud800",
    "nul": "\0",
    "newline": "\nerror: nothing",
}

CONFIGS = {
    "empty": (b"", False),
    "zeros": (bytes(1000), False),
    "deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, False),
    "open": (b"[" * MEGABYTE, False),
    "twelve_million_brackets": (b"[" + b"[[[]]]," * 2_000_000 + b"0]", False),
    "not_utf_8": (b'{"a":"\xff"}', False),
    "a_list": (b"[]", True),
    "text": (b'"config"', True),
    "remote_code": (b'{"auto_map":{"AutoModelForCausalLM":"modeling_tiny.X"}}', True),
    "odd_kinds": (b'{"text_config":[],"tie_word_embeddings":"yes","dtype":7}', True),
    "names_a_file": (b'{"_name_or_path":"/etc/passwd","dtype":"../../x"}', True),
    "surrogates": (b'{"\\ud800":"\\udfff"}', True),
    "nan": (b'{"a":NaN,"b":-Infinity}', True),
    "deep_but_readable": (b'{"text_config":' * 300 + b"1" + b"}" * 300, True),
}

SIDE_NAMES = {
    "escape": b"\x1b]0;x\x07.txt",
    "c1": b"\xc2\x9b2J.txt",
    "newline": b"a\nerror: b.txt",
    "not_utf_8": b"\xff\xfe.txt",
    "dash": b"--overwrite",
    "shell": b"$(touch hacked).txt",
    "longest": b"x" * 255,
    "python": b"sitecustomize.py",
}


def hand_made() -> Iterator[Case]:
    """Every case that someone thought of."""
    yield from _header_cases()
    yield from _index_cases()
    yield from _beside_the_weights()
    yield from _kinds_of_files()


def _header_cases() -> Iterator[Case]:
    for claim, name in LEGAL_NAMES.items():
        yield Case(f"name_{claim}", named(name), True)
        only = alone(
            header_file("{}"), header_file(json.dumps({name: entry("I8", [1], 0, 1)}), ONE[:1])
        )
        if len(name) < MEGABYTE // 9:
            yield Case(f"unpaired_name_{claim}", only, False, ("base base and target target",))
    for claim, (shape, elements) in ODD_SHAPES.items():
        yield Case(f"shape_{claim}", shaped(shape, elements), True)
    yield Case("all_names_at_once", named(*(n for n in LEGAL_NAMES.values() if len(n) < 999)), True)
    for claim, length in LENGTHS.items():
        yield Case(f"header_claims_{claim}", twice(claiming(length)), False, (SINGLE,))
    for claim, file in BAD_HEADERS.items():
        yield Case(f"header_{claim}", twice(file), False, (SINGLE,))
    for claim, file in ACCEPTED.items():
        yield Case(f"safetensors_accepts_{claim}", twice(file), None)
    for claim, (file, _) in REFUSED.items():
        yield Case(f"safetensors_refuses_{claim}", twice(file), False, (SINGLE,))
    for claim, file in REPEATED_NAMES.items():
        yield Case(f"repeats_a_name_{claim}", twice(file), False, (SINGLE,))
    yield Case("a_million_tensors", _many(MEGABYTE), False, (SINGLE, "MiB of memory"))
    yield Case("ten_thousand_tensors", _many(10_000), True)
    yield Case("ten_thousand_unpaired_tensors", _unpaired(10_000), False, ("base", "more"))
    shape = entry("BF16", [1] * 100_000, 0, 2)
    differ = alone(
        header_file({NAME: entry("BF16", [1], 0, 2)}, ONE), header_file({NAME: shape}, ONE)
    )
    yield Case("shapes_of_100000_axes_differ", differ, False, (NAME, "..."))
    nan = {f"layers.0.{'x' * number}": entry("BF16", [1], 2 * number, 2 * number + 2)
           for number in range(1000)}  # fmt: skip
    content = header_file(nan, b"\xc0\x7f" * 1000)
    yield Case("a_thousand_tensors_of_nan", twice(content), False, ("layers.0.", "more"))


def _many(count: int) -> Build:
    def build(root: Path) -> None:
        entries = ",".join(
            f'"layers.0.{n}":{{"dtype":"BF16","shape":[1],"data_offsets":[{2 * n},{2 * n + 2}]}}'
            for n in range(count)
        )
        alone(*(header_file("{" + entries + "}", value * count) for value in (ONE, TWO)))(root)

    return build


def _unpaired(count: int) -> Build:
    letters = str.maketrans("0123456789", "abcdefghij")
    names = {str(number).translate(letters): entry("BF16", [0], 0, 0) for number in range(count)}
    return alone(header_file("{}"), header_file(names))


def _index_cases() -> Iterator[Case]:
    for claim, filename in OUTSIDE.items():
        yield Case(f"index_points_to_{claim}", pointing(filename), False, (INDEX,))
    for claim, content in BAD_INDEXES.items():
        yield Case(f"index_{claim}", with_index(content), False, (INDEX,))
    for claim, name in GHOSTS.items():
        ghost = with_map(lambda places, name=name: places.update({name: SHARD}))
        yield Case(f"index_names_a_ghost_{claim}", ghost, True)
    shards = with_map(lambda m: m.update({f"t{n}": f"s{n}.safetensors" for n in range(10_000)}))
    yield Case("index_names_ten_thousand_shards", shards, False, (INDEX, "missing"))
    again = with_map(lambda places: places.update({NAME: ".//" + places[NAME]}))
    yield Case("index_names_a_shard_in_two_ways", again, True)
    yield Case("index_leaves_everything_out", with_map(_keep_one_a_shard), True)
    into_report = spoilt(_move_shard("shardrestore.json/x.safetensors"))
    yield Case("shard_lies_where_a_report_goes", into_report, False, ("shardrestore.json",))
    yield Case("shard_in_a_folder", spoilt(_move_shard("a/b/x.safetensors")), True)
    yield Case("shard_with_spaces", spoilt(_move_shard(" a b .safetensors")), True)


def _keep_one_a_shard(places: dict[str, Any]) -> None:
    kept = {shard: name for name, shard in places.items()}
    for name in [name for name, shard in places.items() if kept[shard] != name]:
        del places[name]


def _move_shard(name: str) -> Callable[[Scene], object]:
    def spoil(scene: Scene) -> None:
        path = scene.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (scene.target / SHARD).rename(path)
        index = scene.target / INDEX
        index.write_text(index.read_text().replace(SHARD, name))

    return spoil


def _beside_the_weights() -> Iterator[Case]:
    for claim, (content, legal) in CONFIGS.items():
        says = () if legal else ("target/config.json",)
        yield Case(f"config_{claim}", with_file("config.json", content), legal, says)
        if legal:
            cast = ("--dtype", "fp16")
            yield Case(f"config_{claim}_cast", with_file("config.json", content), True, (), cast)
    for claim, raw in SIDE_NAMES.items():
        yield Case(f"side_file_name_{claim}", with_file(os.fsdecode(raw), b"mine"), True)
    for name in ("shardrestore.json", "diff_summary.tsv"):
        yield Case(f"folder_where_{name}_goes", with_file(f"{name}/x.txt", b"mine"), True)
    yield Case("folder_named_as_a_shard", with_file("x.safetensors/y.txt", b"mine"), True)
    yield Case("folders_300_deep", folders(300, "d"), False, ("target", "deep"))
    yield Case("folders_beyond_any_path", folders(17, "d" * 255), False, ("target", "too long"))
    for claim, raw in SIDE_NAMES.items():
        if not raw.endswith(b".txt"):
            continue
        only = instead_of_everything(
            os.fsdecode(raw[:-4] + b".bin"), lambda path: path.write_bytes(b"")
        )
        yield Case(f"only_a_pickle_named_{claim}", only, False, ("target", "Convert it"))
        other = instead_of_everything(
            os.fsdecode(raw[:-4] + b".safetensors"), lambda path: path.write_bytes(b"")
        )
        yield Case(f"only_a_shard_named_{claim}", other, False, ("target", "neither"))


def _kinds_of_files() -> Iterator[Case]:
    makers: dict[str, Callable[[Path], object]] = {
        "a_fifo": os.mkfifo,
        "a_folder": Path.mkdir,
        "a_socket": make_socket,
        "a_dangling_link": link("nowhere"),
        "a_link_to_a_fifo": lambda path: (os.mkfifo(path.parent / "pipe"), path.symlink_to("pipe")),
        "a_link_to_its_folder": link("."),
        "a_link_to_the_root": link("/"),
    }
    for device in (*DEVICES, *(path for path in KERNEL_FILES if os.access(path, os.R_OK))):
        makers[f"a_link_to_{device.strip('/').replace('/', '_')}"] = link(device)
    for claim, make in makers.items():
        yield Case(f"single_file_is_{claim}", instead_of_everything(SINGLE, make), False, (SINGLE,))
        yield Case(f"index_is_{claim}", instead(INDEX, make), False, (INDEX,))
        yield Case(f"shard_is_{claim}", instead(SHARD, make), False, (SHARD,))
        private = claim == "a_link_to_the_root" or claim.startswith("a_link_to_proc")
        says = ("notes.txt", "--follow-links") if private else ()
        yield Case(f"side_file_is_{claim}", instead("notes.txt", make), not private, says)
    for name in (SINGLE, INDEX, SHARD):
        yield Case(f"{name}_links_to_itself", instead(name, link(name)), False, (name,))
    yield Case("side_file_links_to_itself", instead("notes.txt", link("notes.txt")), True)
    above = instead("loop", link(".."))
    yield Case("side_folder_links_to_its_parent", above, False, ("loop", "--follow-links"))
    yield Case("two_links_in_a_circle", spoilt(_circle), False, (SHARD,))
    yield Case("sparse_terabyte", sparse(1 << 39), None)
    yield Case("sparse_15_terabytes", sparse((1 << 43) - (1 << 33)), None)
    side = spoilt(lambda scene: os.truncate(_touch(scene.target / "big.txt"), 1 << 43))
    yield Case("sparse_side_file", side, None)
    index = spoilt(lambda scene: os.truncate(scene.target / INDEX, 1 << 40))
    yield Case("sparse_index", index, False, (INDEX, "at most"))
    config = spoilt(lambda scene: os.truncate(scene.target / "config.json", 1 << 40))
    yield Case("sparse_config", config, False, ("config.json", "at most"))
    shard = spoilt(lambda scene: os.truncate(scene.target / SHARD, 1 << 43))
    yield Case("sparse_tail_of_a_shard", shard, False, (SHARD, "trailing"))


def _touch(path: Path) -> Path:
    path.touch()
    return path


def _circle(scene: Scene) -> None:
    (scene.target / SHARD).unlink()
    (scene.target / SHARD).symlink_to("other")
    (scene.target / "other").symlink_to(SHARD)


# Generated ------------------------------------------------------------------------------

odd_text = st.text(max_size=12) | st.sampled_from(list(GHOSTS.values()))
odd_file = (
    st.sampled_from([SHARD, "model-00001-of-00003.safetensors", "nope.safetensors"])
    | odd_text.map(lambda text: text + ".safetensors")
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | odd_text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
        max_leaves=5,
    )
)


@st.composite
def indexes(draw: st.DrawFn) -> bytes:
    """Documents that are almost the tiny pair's index: entries, bytes or both are odd."""
    document: dict[str, Any] = {"weight_map": draw(st.dictionaries(odd_text, odd_file, max_size=3))}
    if draw(st.booleans()):
        document[draw(odd_text)] = draw(odd_file)
    raw = bytearray(
        json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")
    )
    chance = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(0, 2))):
        raw[chance.randrange(len(raw))] = chance.choice(b'{}[],:"\\0e-\0\xff\x1b')
    return bytes(raw)


def generated() -> Iterator[Case]:
    """Yield cases that Hypothesis makes from ``SEED``: always the same ones."""
    for number, file in enumerate(_draw(rewritten() | composed())):
        yield Case(f"generated_header_{number:03}", twice(file), None)
    for number, content in enumerate(_draw(indexes())):
        yield Case(f"generated_index_{number:03}", with_index(content), None)


def _draw(strategy: st.SearchStrategy[bytes]) -> list[bytes]:
    found: dict[bytes, None] = {}

    @seed(SEED)
    @settings(
        max_examples=10 * GENERATED,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: bytes) -> None:
        found.setdefault(example)

    collect()
    # The first ones are the simplest.
    return list(found)[-GENERATED:]
