"""One file of a checkpoint, opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .header import Header
from .source import ShardFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One safetensors file of a checkpoint."""

    filename: str
    """Relative to the checkpoint's folder."""
    header: Header
    source: ShardFile

    def identity(self) -> dict[str, Any]:
        """Return what it is known by in any place, as JSON values."""
        return {
            "name": self.filename,
            "bytes": self.source.nbytes,
            "header_sha256": self.header.sha256(),
        }
