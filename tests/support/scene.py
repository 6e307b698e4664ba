"""Tiny checkpoints, the command line as a whole process, and proof that nothing was written."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import deserialize

from shardrestore.checkpoint.header import encode_header
from shardrestore.synthetic import LlamaShape, write_pair
from tests.support.process.command import run_cli, start_cli

TINY = LlamaShape(
    num_hidden_layers=2,
    hidden_size=32,
    intermediate_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=96,
)
"""18,432 elements in region ``transformer``; with `SHARD_BYTES`, three shards."""

SHARD_BYTES = 20_000
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
STAGING = ".shardrestore-partial"

SIDE_FILES = {
    "generation_config.json": b'{"max_new_tokens": 7}\n',
    "tokenizer.model": bytes(range(256)),
    "chat_template.jinja": "{{ messages }} – ünïcode\n".encode(),
    "modeling_tiny.py": b"raise SystemExit('remote code is copied, never run')\n",
    "templates/extra.jinja": b"in a folder\n",
}
"""What the target holds besides weights and ``config.json``."""

Tensor = tuple[str, tuple[int, ...], bytes]
"""Dtype as safetensors spells it, shape, bytes."""
Tensors = dict[str, Tensor]

_ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I8": 1, "U8": 1, "F8_E4M3": 1, "I64": 8}


def alter(value: Any, changes: Mapping[str, object]) -> Any:
    """Return a copy of nested dataclasses with fields, named by their dotted paths, changed."""
    for path, new in changes.items():
        field, _, rest = path.partition(".")
        inner = alter(getattr(value, field), {rest: new}) if rest else new
        value = dataclasses.replace(value, **{field: inner})
    return value


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Return everything below a folder: kind, mode, and contents, times and links of files.

    Folders have no time here: a run that fails may have made and removed its work folder.
    """
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        seen: tuple[object, ...] = (stat.filemode(status.st_mode),)
        if path.is_symlink():
            seen += (os.readlink(path),)
        elif path.is_file():
            seen += (hashlib.sha256(path.read_bytes()).hexdigest(), status.st_mtime_ns)
        found[str(path.relative_to(root))] = seen
    return found


@functools.cache
def _pair_to_copy(dtype: str) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="shardrestore-test-pair-")
    write_pair(Path(folder.name), TINY, shard_bytes=SHARD_BYTES, dtype=dtype)
    for name, content in SIDE_FILES.items():
        path = Path(folder.name, "target", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return folder


@dataclass(frozen=True)
class Scene:
    """A folder with a good tiny pair, ``base`` and ``target``, to be spoilt; no output yet."""

    root: Path

    @classmethod
    def make(cls, root: Path, dtype: str = "BF16") -> Scene:
        for side in ("base", "target"):
            shutil.copytree(Path(_pair_to_copy(dtype).name, side), root / side)
        return cls(root)

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def target(self) -> Path:
        return self.root / "target"

    @property
    def output(self) -> Path:
        return self.root / "out"

    def cli(
        self, *args: str | Path, command: str = "run", **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the pair; see `words`."""
        return run_cli(command, *self.words(*args), **{"cwd": self.root} | options)

    def words(self, *args: str | Path) -> list[str]:
        """Return the arguments of a command on the pair, into ``out`` unless they say else."""
        usual = {"--base": "base", "--target": "target", "--output": "out"}
        paths = [word for pair in usual.items() if pair[0] not in args for word in pair]
        return [*paths, *map(str, args)]

    def run(self, *args: str | Path, **options: Any) -> dict[str, Any]:
        """Run ``shardrestore run --json``, which must succeed; return its document."""
        done = self.cli(*args, "--json", **options)
        assert (done.returncode, done.stderr) == (0, "")
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        return document


def shard_names(folder: Path) -> list[str]:
    """Return a checkpoint's shards in order."""
    return sorted(path.name for path in folder.glob("model*.safetensors"))


def read_shard(path: Path) -> Tensors:
    """Read a shard with safetensors itself."""
    return {
        name: (tensor["dtype"], tuple(tensor["shape"]), bytes(tensor["data"]))
        for name, tensor in deserialize(path.read_bytes())
    }


def read_tensors(folder: Path) -> Tensors:
    """Read all tensors of a checkpoint."""
    found: Tensors = {}
    for name in shard_names(folder):
        found |= read_shard(folder / name)
    return found


def write_shard(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a shard anew."""
    header = encode_header([(n, d, s) for n, (d, s, _) in tensors.items()], {"format": "pt"})
    path.write_bytes(header + b"".join(data for _, _, data in tensors.values()))


def write_index(folder: Path) -> None:
    """Write the index that fits a folder's shards."""
    names = {name: shard for shard in shard_names(folder) for name in read_shard(folder / shard)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))


def edit(folder: Path, change: Callable[[str, Tensor], Mapping[str, Tensor]]) -> None:
    """Replace every tensor of a checkpoint by those that `change` returns for it."""
    for shard in shard_names(folder):
        new: Tensors = {}
        for name, tensor in read_shard(folder / shard).items():
            new |= change(name, tensor)
        write_shard(folder / shard, new)
    if (folder / INDEX).exists():
        write_index(folder)


def zeros(dtype: str, *shape: int) -> Tensor:
    """Return a tensor of zero bytes."""
    elements = 1
    for length in shape:
        elements *= length
    return dtype, shape, bytes(elements * _ITEM_BYTES[dtype])


def header_file(document: object, data: bytes = b"") -> bytes:
    """Return a file with any JSON for a header, right or wrong; text stands as it is."""
    text = document if isinstance(document, str) else json.dumps(document)
    return len(text).to_bytes(8, "little") + text.encode() + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    """Return a header's entry."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def start(scene: Scene, *args: str | Path, command: str = "run") -> Any:
    """Begin a command on the pair, which the test will stop."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return start_cli(command, *scene.words(*args), cwd=scene.root, **streams)


def make_large_pair(scene: Scene) -> None:
    """Replace the pair by one of 640 MB a side that takes no disk: zeros in sparse files."""
    rows, columns, layers = 10_000, 16_000, 2
    nbytes = rows * columns * 2
    tensors = {
        f"model.layers.{layer}.mlp.up_proj.weight": entry(
            "BF16", [rows, columns], layer * nbytes, (layer + 1) * nbytes
        )
        for layer in range(layers)
    }
    for side in (scene.base, scene.target):
        shutil.rmtree(side)
        side.mkdir()
        header = header_file(tensors)
        (side / SINGLE).write_bytes(header)
        os.truncate(side / SINGLE, len(header) + layers * nbytes)


GROWING = Path(".unfinished", SINGLE)
"""Where a shard is in the hidden folder until it is complete."""


def stop_at(
    milestone: Path, sent: signal.Signals, begin: Callable[[], Any]
) -> tuple[int, str, str]:
    """Send a signal as soon as a path exists; begin again if the run was faster."""
    for _ in range(5):
        process = begin()
        while process.poll() is None and not os.path.lexists(milestone):
            time.sleep(0.001)
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=60)
        if process.returncode:
            return process.returncode, stdout, stderr
        staging = next(path for path in (milestone, *milestone.parents) if path.name == STAGING)
        shutil.rmtree(staging.parent)
    raise AssertionError("five runs were done before the signal came")
