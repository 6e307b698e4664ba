"""Which links of a checkpoint are followed: those that stay in what is the checkpoint's.

A folder may come from anybody, and carry a link to a private file: what is copied through it can
be read by all, and is pushed. A link may lead into the checkpoint's own folder, or into the blobs
of the Hub's cache, if the folder is a snapshot there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRule:
    """Which links are followed."""

    homes: tuple[Path, ...] | None
    """Real folders that they may lead into; None for any."""

    def allows(self, path: Path) -> bool:
        """Whether what a path leads to may be read."""
        if self.homes is None:
            return True
        real = Path(os.path.realpath(path))
        return any(home in real.parents or home == real for home in self.homes)

    def check(self, path: Path) -> None:
        """Refuse a path that leads to a file elsewhere.

        Raises
        ------
        CheckpointError
        """
        if os.path.exists(path) and not self.allows(path):
            raise CheckpointError(
                f"{path}: leads out of the checkpoint, to {os.path.realpath(path)}: put a copy in "
                "its place, or pass --follow-links if you trust who made the folder"
            )


def find_homes(folder: Path, *, follow: bool) -> LinkRule:
    """Return the rule for the links of a folder.

    Parameters
    ----------
    folder : Path
    follow : bool
        Whether links may lead anywhere.
    """
    if follow:
        return LinkRule(homes=None)
    real = Path(os.path.realpath(folder))
    return LinkRule(homes=(real, *_find_blobs(real)))


def _find_blobs(folder: Path) -> list[Path]:
    """Return the blobs that a snapshot in the Hub's cache links to; none of other folders."""
    for place in folder.parents:
        if place.name == "snapshots" and place.parent.name.startswith("models--"):
            return [Path(os.path.realpath(place.parent / "blobs"))]
    return []
