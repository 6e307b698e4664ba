"""The inputs of a restoration, found again and proved to be the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ..checkpoint.folder import Checkpoint
from ..checkpoint.selection import FilePolicy
from ..errors import CheckpointError, RequestError
from ..hub.repository import HUB_ADDRESS
from ..inputs.reference import Reference, open_checkpoint
from ..pairing.filter import make_filter
from ..pairing.matching import match
from ..pairing.pairs import Pairing
from ..pairing.rename import parse_rename
from .record import InputIdentity, Record
from .ties import find_equal


@contextmanager
def open_inputs(
    record: Record,
    *,
    base: Reference | None = None,
    target: Reference | None = None,
    max_memory_bytes: int,
    follow_links: bool = False,
) -> Iterator[tuple[Checkpoint, Checkpoint]]:
    """Open base and target; they are closed with the context.

    Parameters
    ----------
    record : Record
    base, target : str or path-like, optional
        Where they are now; where the record says, if left out.
    max_memory_bytes : int
        What the headers, index and configuration of each may take at most.
    follow_links : bool
        Whether links in their folders may lead anywhere.

    Raises
    ------
    CheckpointError
        If one is not there, or is another one than was restored from: other
        shards, sizes or headers. Weights are not hashed: a change of theirs
        shows in the comparison.
    """
    base_policy = FilePolicy(follow_links=follow_links)
    target_policy = replace(base_policy, keep=record.keep, drop=record.drop)
    open_one = partial(_open_input, record, max_memory_bytes=max_memory_bytes)
    with (
        open_one(record.base, base, "base", policy=base_policy) as opened_base,
        open_one(record.target, target, "target", policy=target_policy) as opened_target,
    ):
        yield opened_base, opened_target


def pair_inputs(record: Record, base: Checkpoint, target: Checkpoint, block_bytes: int) -> Pairing:
    """Match the tensors of the recorded region; what is tied is compared, block by block.

    Raises
    ------
    CheckpointError
        If a pattern of the record is no regular expression.
    PairingError, RequestError
        If the region cannot be paired, which no finished run leaves behind.
    """
    try:
        admitted = make_filter(
            record.region,
            record.include,
            record.exclude,
            allow_unpaired=record.allow_unpaired,
        )
        for text in record.scoring.renames:
            parse_rename(text)
    except RequestError as error:
        raise CheckpointError(f"{record.where}: damaged: {error}") from error
    ties = find_equal(target, admitted, block_bytes, lambda: None)
    pairing = match(base, target, admitted, record.scoring, ties)
    mixed = record.scoring.cast is None and any(pair.is_mixed for pair in pairing.pairs)
    if mixed and not record.is_rounded:
        raise CheckpointError(
            f"{record.where}: was made by a version that scored pairs of two formats in float32, "
            "this one scores them in the target's: verify it with the version that wrote it"
        )
    return pairing


def _open_input(
    record: Record,
    identity: InputIdentity,
    given: Reference | None,
    role: str,
    *,
    max_memory_bytes: int,
    policy: FilePolicy,
) -> Checkpoint:
    on_hub = identity.path.startswith(HUB_ADDRESS)
    if given is None and not on_hub and not os.path.isdir(identity.path):
        raise CheckpointError(
            f"{role} {identity.path}: no longer there, where {record.where} says it was: if it "
            f"has moved, pass --{role} with its folder"
        )
    place = identity.path if given is None else given
    opened = open_checkpoint(place, role, max_memory_bytes=max_memory_bytes, policy=policy)
    difference = _find_difference(opened.identity()["shards"], identity)
    if difference is None:
        return opened
    opened.close()
    advice = (
        f"pass --{role} if it has moved"
        if given is None
        else f"pass the folder that was restored from as --{role}"
    )
    raise CheckpointError(
        f"{role} {opened.where}: not the checkpoint of {record.where}: {difference}: {advice}"
    )


def _find_difference(found: list[Mapping[str, Any]], recorded: InputIdentity) -> str | None:
    """Return the first thing in which a checkpoint differs from the recorded one."""
    names = [shard["name"] for shard in found]
    expected = [shard.name for shard in recorded.shards]
    if names != expected:
        odd = sorted(set(names) ^ set(expected)) or names
        owner = "only the record has" if odd[0] in expected else "the record lacks"
        return f"{len(names)} shards, {len(expected)} in the record; {owner} {odd[0]}"
    for shard, was in zip(found, recorded.shards, strict=True):
        if shard["bytes"] != was.nbytes:
            return f"{was.name} has {shard['bytes']} bytes, {was.nbytes} in the record"
        if shard["header_sha256"] != was.header_sha256:
            return (
                f"the header of {was.name} has SHA-256 {shard['header_sha256']}, "
                f"{was.header_sha256} in the record"
            )
    return None
