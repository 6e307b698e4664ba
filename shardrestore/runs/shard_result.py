"""What was done in one shard, as JSON values and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..passes.restore import Restored, ShardResult
from ..selection.histogram import Histogram


def encode_result(result: ShardResult) -> list[dict[str, Any]]:
    """Return what was done in a shard, for each cut, as JSON values."""
    return [_encode(part) for part in result]


def decode_result(documents: Sequence[Mapping[str, Any]]) -> ShardResult:
    """Return what ``encode_result`` has encoded; a ``ValueError`` or its like if nothing."""
    return [_decode(document) for document in documents]


def _encode(part: Restored) -> dict[str, Any]:
    document: dict[str, Any] = {"selected": part.selected}
    if part.scores is not None:
        for kind, counts in (("exact", part.scores.exact), ("binned", part.scores.binned)):
            bins = np.flatnonzero(counts)
            document[kind] = [_pack(bins.astype(np.uint16)), _pack(counts[bins])]
    return document


def _decode(document: Mapping[str, Any]) -> Restored:
    part = Restored(selected=dict(document["selected"]))
    if "exact" in document:
        part.scores = Histogram.empty()
        for kind, counts in (("exact", part.scores.exact), ("binned", part.scores.binned)):
            bins, values = document[kind]
            counts[_unpack(bins, np.uint16)] = _unpack(values, np.uint64)
    return part


def _pack(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _unpack(text: str, dtype: Any) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype)
