"""Elements of stored tensors: the bytes that a file holds of them, and what is announced."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from shardrestore.checkpoint.header import Header, parse_header
from shardrestore.checkpoint.reader import StoredReader
from shardrestore.checkpoint.shard import Shard
from shardrestore.checkpoint.source import LocalFile
from shardrestore.checkpoint.tensor import Tensor
from shardrestore.formats import FORMATS
from shardrestore.inputs.reference import open_checkpoint
from shardrestore.profile.identity import SAMPLE_BYTES, _read_middle
from tests.support.examples import examples


class Recorded(LocalFile):
    """A file that notes what was announced."""

    def expect(self, offset, nbytes, block_bytes, check) -> None:  # type: ignore[no-untyped-def]
        self.expected = offset, nbytes, block_bytes


def open_bytes(path: Path, data: bytes) -> tuple[StoredReader, Recorded]:
    text = json.dumps({}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    header: Header = parse_header(text, 8 + len(text), str(path))
    source = Recorded(path)
    return StoredReader([Shard(filename=path.name, header=header, source=source)]), source


@pytest.mark.parametrize("dtype", FORMATS)
def test_elements_of_any_format_are_read_from_their_bytes(tmp_path: Path, dtype: str) -> None:
    bits = FORMATS[dtype].bits
    data = np.random.default_rng(bits).bytes(10 * bits)  # 80 elements
    reader, source = open_bytes(tmp_path / "some.safetensors", data)
    tensor = Tensor(name="w", dtype=dtype, shape=(8, 10), shard=0, offset=10)
    assert (tensor.elements, tensor.nbytes) == (80, 10 * bits)
    out = bytearray(b"\xff" * (2 * bits + 1))
    reader.read(tensor, 24, 16, memoryview(out))
    assert bytes(out) == data[3 * bits : 5 * bits] + b"\xff"
    reader.announce(tensor, 24, 16, 4096, lambda: None)
    assert source.expected == (10 + 3 * bits, 2 * bits, 4096)


@examples(25)
@given(dtype=st.sampled_from(sorted(FORMATS)), groups=st.integers(0, 700))
def test_a_sample_is_the_kilobyte_in_the_middle(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, groups: int
) -> None:
    bits = FORMATS[dtype].bits
    elements = groups * 8
    data = np.random.default_rng(groups).bytes(groups * bits)
    path = tmp_path_factory.mktemp("sample") / "some.safetensors"
    reader, source = open_bytes(path, data)
    tensor = Tensor(name="w", dtype=dtype, shape=(elements,), shard=0, offset=10)
    size = min(SAMPLE_BYTES, len(data))
    begin = (len(data) - size) // 2
    assert _read_middle(reader, tensor) == data[begin : begin + size]
    source.close()


def test_a_checkpoint_is_known_by_the_files_that_its_reader_reads(tmp_path: Path) -> None:
    weights = {"b": np.arange(6, dtype=np.float32), "a": np.arange(4, dtype=np.int8)}
    save_file(weights, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path, "base") as opened:
        for name, array in weights.items():
            out = bytearray(array.nbytes)
            opened.reader.read(opened.tensors[name], 0, array.size, memoryview(out))
            assert bytes(out) == array.tobytes()
        assert opened.reader.held_bytes == 0
        assert opened.reader.view(opened.tensors["b"], 0, 1) is None
        (shard,) = opened.identity()["shards"]
        assert shard["name"] == "model.safetensors"
        assert shard["bytes"] == (tmp_path / "model.safetensors").stat().st_size
