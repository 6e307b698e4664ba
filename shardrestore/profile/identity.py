"""Whether a profile is of these weights: sizes, header hashes, and a sample of the data."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..checkpoint.entry import show_name
from ..checkpoint.model import Model
from ..checkpoint.reader import TensorReader
from ..checkpoint.tensor import Tensor
from ..errors import ProfileError
from ..formats import FORMATS
from ..scoring import Scoring
from .file import Profile

SAMPLE_BYTES = 1024
"""Bytes of each tensor that are compared: an update that touches a tensor touches most of it."""


SAMPLES_AT_ONCE = 16
"""Samples that are requested at once from the Hub."""


def identify(model: Model) -> dict[str, Any]:
    """Return what distinguishes a checkpoint's weights from others, as JSON values."""
    return {**model.identity(), "sample_sha256": _hash_sample(model)}


def _hash_sample(model: Model) -> str:
    """Hash a kilobyte from the middle of every tensor, in canonical order."""
    digest = hashlib.sha256()
    tensors = model.tensors.values()

    def read_sample(tensor: Tensor) -> bytes:
        return _read_middle(model.reader, tensor)

    if model.on_disk:
        for tensor in tensors:
            digest.update(read_sample(tensor))
        return digest.hexdigest()
    # Each is a request of its own, which takes the time of a round trip.
    with ThreadPoolExecutor(SAMPLES_AT_ONCE) as pool:
        try:
            for sample in pool.map(read_sample, tensors):
                digest.update(sample)
        except BaseException:
            model.hang_up()  # the pool's exit waits for its readers
            raise
    return digest.hexdigest()


def _read_middle(reader: TensorReader, tensor: Tensor) -> bytes:
    """Read the bytes in the middle, out of the fewest elements that are whole bytes."""
    nbytes = min(SAMPLE_BYTES, tensor.nbytes)
    begin = (tensor.nbytes - nbytes) // 2
    unit_bits = math.lcm(FORMATS[tensor.dtype].bits, 8)
    unit, unit_bytes = unit_bits // FORMATS[tensor.dtype].bits, unit_bits // 8
    first = begin // unit_bytes * unit
    last = -(-(begin + nbytes) // unit_bytes) * unit
    around = bytearray(tensor.count_bytes(last - first))
    reader.read(tensor, first, last - first, memoryview(around))
    skipped = begin - tensor.count_bytes(first)
    return bytes(around[skipped : skipped + nbytes])


def find_difference(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Say what differs between two identities, wherever their files lie; None if nothing does.

    Raises
    ------
    KeyError, TypeError, ValueError
        If `recorded` is no identity.
    """
    shards = {shard["name"]: shard for shard in recorded["shards"]}
    for shard in found["shards"]:
        known = shards.pop(shard["name"], None)
        if known is None:
            return f"{shard['name']} was not there"
        if known["bytes"] != shard["bytes"]:
            return f"{shard['name']} had {known['bytes']:,} bytes, it has {shard['bytes']:,}"
        if known["header_sha256"] != shard["header_sha256"]:
            hashes = _short(known["header_sha256"]), shard["header_sha256"][:12]
            return f"the header of {shard['name']} had SHA-256 {hashes[0]}…, it has {hashes[1]}…"
    if shards:
        return f"{min(shards)} is missing"
    if recorded["sample_sha256"] != found["sample_sha256"]:
        hashes = _short(recorded["sample_sha256"]), found["sample_sha256"][:12]
        return (
            f"the weights differ: a sample of {SAMPLE_BYTES:,} bytes of each tensor had SHA-256 "
            f"{hashes[0]}…, it has {hashes[1]}…"
        )
    return None


def _short(recorded: Any) -> str:
    """Return the beginning of a recorded hash; TypeError, ValueError if it is none."""
    return f"{int(recorded[:12], 16):012x}"


def _show(scoring: Scoring) -> dict[str, str]:
    """Return the options as a shell takes them: two lists that differ look different."""
    options = {"score": scoring.score, **scoring.record()}  # a record names no default score
    return {
        option: value if isinstance(value, str) else shlex.join(value) or "none"
        for option, value in options.items()
    }


def check_profile(profile: Profile, base: Model, target: Model, scoring: Scoring) -> None:
    """Refuse a profile that was made of other weights, or made otherwise.

    Raises
    ------
    ProfileError
        Saying what differs.
    """
    contents = profile.contents
    made, asked = _show(contents.scoring), _show(scoring)
    for option in made:
        if made[option] != asked[option]:
            raise ProfileError(
                f"profile {profile.path}: was made with --{option} {show_name(made[option])}, "
                f"this run has {asked[option]}: scan again, or run with the same"
            )
    for role, checkpoint in (("base", base), ("target", target)):
        recorded = contents.inputs[role]
        try:
            difference = find_difference(recorded, identify(checkpoint))
        except (KeyError, TypeError, ValueError) as error:
            raise ProfileError(
                f"profile {profile.path}: its record of the {role} is damaged: scan again"
            ) from error
        if difference:
            raise ProfileError(
                f"profile {profile.path}: was made of another {role} than {checkpoint.where}: "
                f"{difference}. It was made of {show_name(str(recorded.get('path')))}: "
                "name that one, or scan again"
            )
