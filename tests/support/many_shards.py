"""Pairs of many shards, and what the Hub has of a restored one."""

from __future__ import annotations

from pathlib import Path

from shardrestore.synthetic import write_pair
from tests.support.hub import Hub
from tests.support.scene import SIDE_FILES, TINY, Scene, shard_names

ID = "alice/restored"


SHARD_BYTES = 12_000


PAGE = "report.html"
"""Tells time and memory: the one file that differs between equal runs."""


def make_scene(root: Path, dtype: str = "BF16") -> Scene:
    """Make a pair of more shards than the usual one: five."""
    write_pair(root, TINY, shard_bytes=SHARD_BYTES, dtype=dtype)
    for name, content in SIDE_FILES.items():
        path = root / "target" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert len(shard_names(root / "target")) >= 4
    return Scene(root)


def pushed_files(hub: Hub, id: str = ID, revision: str = "main") -> dict[str, bytes]:
    files = hub.repositories[id].files(revision)
    return {name: data for name, data in files.items() if name not in (".gitattributes", PAGE)}
