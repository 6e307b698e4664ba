"""Documents of a finished model, or of a profile, that would fill the memory or make no sense.

Such folders are handed around: whoever shows, verifies or resumes one has not written it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shardrestore
from shardrestore import MemoryBudgetError, ShardRestoreError
from shardrestore.checkpoint.header import encode_header
from shardrestore.names import (
    CHECKSUM_FILE,
    INDEX_FILE,
    RECORD_FILE,
    SHARES_FILE,
    STATISTICS_FILE,
    SUMMARY_FILE,
    UPLOADED_FILE,
)
from tests.support.scene import Scene

LARGE = 4_000_000
"""Bytes of a document whose parsing would take more than the usual budget."""

DOCUMENTS = {
    "lists": b"[" + b"[]," * (LARGE // 3) + b"[]]",
    "objects": b'{"a":[' + b"{}," * (LARGE // 3) + b"{}]}",
    "rows": b"\t\n" * (LARGE // 2),
}


@pytest.fixture
def finished(scene: Scene) -> Path:
    """A finished model, with checksums."""
    out = scene.root / "out"
    shardrestore.restore(scene.base, scene.target, out, percent=10, checksum=True)
    return out


def actions(scene: Scene, out: Path) -> dict[str, Callable[[], Any]]:
    return {
        "show": lambda: shardrestore.show(out),
        "report": lambda: shardrestore.write_report(out, scene.root / "page.html"),
        "verify": lambda: shardrestore.verify(out),
        "resume": lambda: shardrestore.restore(
            scene.base, scene.target, out, percent=10, checksum=True, resume=True
        ),
    }


READ_BY = {
    RECORD_FILE: ("show", "report", "verify", "resume"),
    SUMMARY_FILE: ("show", "report", "resume"),
    SHARES_FILE: ("show", "report", "resume"),
    STATISTICS_FILE: ("resume",),
    UPLOADED_FILE: ("verify", "resume"),
    CHECKSUM_FILE: ("verify",),
}
"""The documents of a finished model, and what reads them."""


@pytest.mark.parametrize("name", READ_BY)
def test_a_document_that_would_fill_the_memory_is_refused_unparsed(
    scene: Scene, finished: Path, name: str
) -> None:
    kinds = ["rows"] if name in (SUMMARY_FILE, SHARES_FILE, CHECKSUM_FILE) else ["lists", "objects"]
    for kind in kinds:
        (finished / name).write_bytes(DOCUMENTS[kind])
        for action in READ_BY[name]:
            with pytest.raises(MemoryBudgetError, match="to parse record and reports") as told:
                actions(scene, finished)[action]()
            assert name in str(told.value), (kind, action)


def test_max_memory_decides_what_is_too_large(scene: Scene, finished: Path) -> None:
    path = finished / RECORD_FILE
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"more": [{}] * 100_000}))  # some 60 MB when parsed
    assert shardrestore.show(finished).elements
    with pytest.raises(MemoryBudgetError, match="--max-memory leaves 16 MiB"):
        shardrestore.show(finished, max_memory="100MiB")


def test_an_index_of_the_output_that_would_fill_the_memory_is_refused(scene: Scene) -> None:
    out = scene.root / "out"
    shardrestore.restore(scene.base, scene.target, out, percent=10)
    (out / INDEX_FILE).write_bytes(DOCUMENTS["lists"])
    with pytest.raises(MemoryBudgetError, match=INDEX_FILE):
        shardrestore.verify(out)


@pytest.mark.parametrize("kind", ["lists", "objects"])
def test_a_profile_whose_text_would_fill_the_memory_is_refused(scene: Scene, kind: str) -> None:
    path = scene.root / "p"
    shardrestore.scan(scene.base, scene.target, path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    text = DOCUMENTS[kind].decode()
    arrays = [
        (name, entry["dtype"], tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
    ]
    digest = hashlib.sha256(text.encode() + data).hexdigest()
    metadata = {"shardrestore_profile": text, "sha256": digest}
    path.write_bytes(encode_header(arrays, metadata) + data)
    with pytest.raises(MemoryBudgetError, match="--max-memory"):
        shardrestore.show(path)
    # The default from Python is beside what the process holds: in a suite, a gigabyte.
    sides = scene.base, scene.target, scene.root / "o"
    with pytest.raises(MemoryBudgetError, match="--max-memory"):
        shardrestore.restore(*sides, percent=10, profile=path, max_memory="300MiB")


STATISTICS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda values: [values],
    "nothing": lambda values: None,
    "no statistics": lambda values: {"k_count": 1},
    "statistics of another kind": lambda values: values | {"total_rel_diffs": 5},
    "a missing number": lambda values: values | {"total_rel_diffs": {"max": 1.0}},
    "a number of another kind": lambda values: (
        values | {"selected_rel_diffs": values["selected_rel_diffs"] | {"max": "1"}}
    ),
    "a list of numbers": lambda values: values | {"total_rel_diffs": [1, 2, 3, 4, 5]},
}


@pytest.mark.parametrize("kind", [*STATISTICS, "no JSON", "deep", "a byte", "empty", "a folder"])
def test_a_run_is_resumed_or_refused_over_a_damaged_report_never_lost_in_it(
    scene: Scene, finished: Path, kind: str
) -> None:
    path = finished / STATISTICS_FILE
    if kind in STATISTICS:
        path.write_text(json.dumps(STATISTICS[kind](json.loads(path.read_text()))))
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {"no JSON": b"{", "deep": b"[" * 100_000, "a byte": b"\xff", "empty": b""}[kind]
        )
    with pytest.raises(ShardRestoreError) as told:
        actions(scene, finished)["resume"]()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", [RECORD_FILE, SUMMARY_FILE, SHARES_FILE, STATISTICS_FILE])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_report_that_was_cut_short_is_one_message(
    scene: Scene, finished: Path, name: str, share: float
) -> None:
    path = finished / name
    text = path.read_bytes()
    path.write_bytes(text[: int(len(text) * share)])
    for action in READ_BY[name]:
        with pytest.raises(ShardRestoreError) as told:
            actions(scene, finished)[action]()
        assert "\n" not in str(told.value)
