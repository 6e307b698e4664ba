"""What lies beside the weights of an output: the target's own, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from ..checkpoint.config import recast_config
from ..checkpoint.entry import show_name
from ..checkpoint.folder import Checkpoint
from ..checkpoint.sidefile import SideFile
from ..checkpoint.source import LocalFile
from ..errors import CheckpointError
from ..names import CARD_FILE, CONFIG_FILE, OWN_FILES
from ..output.card import output_name
from ..output.foreign import find_foreign_files
from .findings import Findings

_BLOCK_BYTES = 1 << 20


def check_side_files(
    folder: Path, target: Checkpoint, cast: str | None, findings: Findings
) -> frozenset[str]:
    """Compare every file beside the weights with the target's, small ones first.

    Parameters
    ----------
    folder : Path
    target : Checkpoint
        Its files are where their bytes can be read.
    cast : str or None
        Format that floating tensors must have: the configuration names it.
    findings : Findings

    Returns
    -------
    frozenset of str
        Names of all files that belong to the output.
    """
    copies = {output_name(file.name): file for file in target.side_files.copied}
    copies = {name: file for name, file in copies.items() if name != CARD_FILE}
    config = recast_config(target.config, cast)
    if config is not None:
        copies.pop(CONFIG_FILE, None)
        _compare_config(folder / CONFIG_FILE, config, findings)
    _compare(folder, copies, findings)
    own = {*OWN_FILES, CARD_FILE, *(shard.filename for shard in target.shards)}
    own |= set() if target.index is None else {target.index}
    own |= {CONFIG_FILE} if config is not None else set()
    expected = frozenset({*own, *copies})
    for name in find_foreign_files(folder, expected):
        findings.add(
            f"{folder / name}: put there by neither the target nor the restoration: move it "
            "elsewhere, or copy it into the target and restore again"
        )
    return expected


def _compare(folder: Path, copies: Mapping[str, SideFile], findings: Findings) -> None:
    for name, file in sorted(copies.items(), key=lambda item: (item[1].nbytes, item[0])):
        path = folder / name
        if not path.is_file():
            findings.add(f"{path}: missing, the target has it: copy it from there")
            continue
        try:
            at = _find_difference(path, file)
        except CheckpointError as error:
            findings.add(str(error))
            continue
        if at is not None:
            findings.add(
                f"{path}: not the target's {show_name(file.name)}, from byte {at:,} on: copy it "
                "from there"
            )


def _find_difference(path: Path, file: SideFile) -> int | None:
    """Return the first byte in which a copy differs from its original; None if nowhere."""
    with closing(LocalFile(path)) as copy, closing(LocalFile(file.fetch())) as original:
        if copy.nbytes != original.nbytes:
            return min(copy.nbytes, original.nbytes)
        sides = [bytearray(min(_BLOCK_BYTES, copy.nbytes)) for _ in range(2)]
        for begin in range(0, copy.nbytes, _BLOCK_BYTES):
            parts = [memoryview(side)[: copy.nbytes - begin] for side in sides]
            copy.read_into(begin, parts[0])
            original.read_into(begin, parts[1])
            if parts[0] != parts[1]:
                pairs = enumerate(zip(*parts, strict=True), start=begin)
                return next(at for at, (one, other) in pairs if one != other)
    return None


def _compare_config(path: Path, config: bytes, findings: Findings) -> None:
    if not path.is_file():
        findings.add(f"{path}: missing: restore again")
        return
    with closing(LocalFile(path)) as source:
        found = bytearray(source.nbytes if source.nbytes == len(config) else 0)
        source.read_into(0, memoryview(found))
    if found != config:
        findings.add(f"{path}: not the target's, with the format that the weights were cast to")
