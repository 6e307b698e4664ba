"""The real shapes of Llama-2-70B, 138 GB a side, in 1 GiB with all caches; root, 22 GB of disk.

Base, target and output, 414 GB, lie on a disk image with transparent compression, which
the repeated tiles of the weights (see ``benchmarks.models.tiles``) take little of. The run is in a
memory cgroup: page cache counts there, and none of it holds the pair when the run begins.
Image, mount and cgroup are removed at the end, whatever happens but SIGKILL. ``--layers 2``
is for trying it out; its results are printed, not written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .harness.disk_image import CompressedDisk, compressed_disk
from .harness.memory_group import memory_group
from .harness.options import add_large_options, make_parser
from .harness.results import publish
from .harness.table import MIB
from .large.restoration import check_space, describe, restore_large
from .models.llama import LLAMA_70B, LargeModel

LIMIT_BYTES = 1024 * MIB
STORED_SHARE = 1 / 20
"""Share of the written bytes that the image takes; measured with 10 layers: 1/28."""
SPARE_BYTES = 1_000_000_000


def main(arguments: Sequence[str], model: LargeModel = LLAMA_70B) -> int:
    """Make, restore, check, print the table, write the results; 1 after a problem."""
    parser = make_parser("llama70b", __doc__)
    add_large_options(parser)
    parsed = parser.parse_args(arguments)
    if parsed.layers:
        model = model.with_layers(parsed.layers)
    written_bytes = 3 * model.side_bytes
    stored_bytes = int(written_bytes * STORED_SHARE) + SPARE_BYTES
    check_space(parsed.folder, stored_bytes, f"{model.name} and its output, compressed,")
    stored: list[int] = []
    with (
        compressed_disk(parsed.folder, int(written_bytes * 1.2) + SPARE_BYTES) as disk,
        memory_group(LIMIT_BYTES) as group,
    ):
        outcome = restore_large(
            model,
            disk.folder,
            [],
            workers=parsed.workers,
            blocks=parsed.blocks,
            with_floor=parsed.floor,
            prefix=group.prefix,
            made=lambda: stored.append(_check_stored(disk, parsed.folder)),
        )
        peak_bytes, all_stored_bytes = group.peak_bytes(), disk.stored_bytes()
    limit = f"{LIMIT_BYTES / MIB:,.0f} MiB"
    extra = [
        ("memory of the cgroup, page cache included", f"{peak_bytes / MIB:,.1f} MiB", f"≤ {limit}"),
        ("disk that the pair takes, compressed", *_share(stored[0], 2 * model.side_bytes)),
        ("disk with the output", *_share(all_stored_bytes, written_bytes)),
    ]
    title = f"10 % of {model.name} in a cgroup of {limit}, {parsed.workers} workers"
    results = describe("llama70b", title, outcome, extra)
    return publish(results, None if parsed.layers else parsed.results)


def _share(stored_bytes: int, written_bytes: int) -> tuple[str, str]:
    share = stored_bytes / written_bytes
    return f"{stored_bytes / 1e9:,.1f} GB, {share:.1%} of it", f"≤ {STORED_SHARE:.0%}"


def _check_stored(disk: CompressedDisk, folder: Path) -> int:
    """Return the disk that the pair takes, if as much again is left for the output."""
    stored_bytes = disk.stored_bytes()
    print(f"it takes {stored_bytes / 1e9:.1f} GB of disk", file=sys.stderr)
    # Half as much would do if outputs were as regular as the pair: ties make them less so.
    check_space(folder, stored_bytes, "the compressed output")
    return stored_bytes
