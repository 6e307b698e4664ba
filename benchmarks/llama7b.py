"""The real shapes of Llama-2-7B, 13.5 GB a side, in 512 MiB; takes 41 GB of disk.

The base lies in 2 shards, the target in 3. The weights are random tiles (see
``benchmarks.models.tiles``), larger together than the page cache of most machines. What was made
is removed at the end, whatever happens but SIGKILL. ``--layers 2`` is for trying it out;
its results are printed, not written.
"""

from __future__ import annotations

from collections.abc import Sequence

from .harness.options import add_large_options, make_parser
from .harness.results import publish
from .harness.scratch import scratch_folder
from .large.restoration import check_space, describe, restore_large
from .models.llama import LLAMA_7B, LargeModel

MAX_MEMORY = "512MiB"
SPARE_BYTES = 500_000_000


def main(arguments: Sequence[str], model: LargeModel = LLAMA_7B) -> int:
    """Make, restore, check, print the table, write the results; 1 after a problem."""
    parser = make_parser("llama7b", __doc__)
    add_large_options(parser)
    parsed = parser.parse_args(arguments)
    if parsed.layers:
        model = model.with_layers(parsed.layers)
    # The pair, and one output at a time.
    check_space(parsed.folder, 3 * model.side_bytes + SPARE_BYTES, f"{model.name} and its output")
    with scratch_folder(parsed.folder, "llama7b") as folder:
        outcome = restore_large(
            model,
            folder,
            ["--max-memory", MAX_MEMORY],
            workers=parsed.workers,
            blocks=parsed.blocks,
            with_floor=parsed.floor,
        )
    title = f"10 % of {model.name} in {MAX_MEMORY}, {parsed.workers} workers"
    return publish(describe("llama7b", title, outcome), None if parsed.layers else parsed.results)
