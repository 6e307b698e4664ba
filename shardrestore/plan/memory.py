"""Projected memory: a pure sum of named byte counts, and the work sized to fit it.

Nothing here measures or allocates. ``project`` adds up what a run will hold;
``fit`` chooses the largest blocks, then the most workers, whose projection stays
within the budget, or refuses before anything is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from ..checkpoint.selection import FILE_BYTES
from ..errors import MemoryBudgetError
from ..granularity import Granularity
from ..kernels.interface import LANES
from ..selection.score import BINS, LOWS
from ..units import MIB, format_mib

TENSOR_BYTES = 512
"""A tensor of either checkpoint, or a line of its metadata: entry, pair and result."""

SEGMENT_BYTES = 512
"""A segment: its tasks and the place of its histogram."""

CUT_BYTES = 224
"""A segment in one cut: the remainder of its ties, its counts, its share of the reports.

Measured, with 46,080 tensors of 2,048 elements: 186 bytes; all terms together 123 MB with
one cut, of 174 MB projected.
"""

RENAME_BYTES = 512
"""A file beside the weights in one output: the renames that publish it, planned and noted.

Measured with 2,000 to 40,000 files: a file takes 1.5 kB in a run with one cut, 3.6 kB with six.
"""

PAGE_BYTES = 4 * MIB
"""The pages of a region's models: counts for every percent, then one page after the other.

Measured at the peak: 2 MiB with 147 tensors, 2.5 MiB with 46,080.
"""

STATISTICS = 16
"""Arrays over all bins that describing a distribution takes: values, counts, their order."""

HEADER_FACTOR = 4
"""Memory of a header and its parsing, in multiples of its size."""

ELEMENT_SCRATCH_BYTES = 4 * 7
"""Scratch for an element of a chunk: two keys, three float32 values, two codes."""

GPU_SLOTS = 2
"""Sets of buffers of a worker with a GPU."""

READ_AHEAD_BLOCKS = 12
"""Blocks that a worker's read-ahead holds of an input: see ``hub.readahead``."""

STREAMING_BYTES = 8 * MIB
"""Connections, their threads and buffers, if an input is streamed."""

DOWNLOADS = 4
"""Files that are downloaded at once, at most."""

DOWNLOAD_BYTES = 64 * MIB
"""A download in progress: huggingface_hub takes 10 MB at a time, and copies it.

Measured with four at once: 58 MiB each for shards of 0.5 GB, 33 MiB for those of 40 MB.
"""

HASHING_BYTES = 3 * MIB
"""Comparing files of the Hub with their hashes: a thread, and what it reads at once."""

WORKER_BYTES = MIB
"""A thread's stack and the allocator's slack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the memory of a run depends on, besides blocks and workers."""

    granularity: Granularity
    runtime_bytes: int
    """The process before the first buffer."""
    tensors: int
    """Tensors of both checkpoints together, and lines of their metadata."""
    header_bytes: int
    """Headers of both checkpoints; one that is not ASCII counts four times."""
    document_bytes: int
    """Memory of their indexes and configurations while they are parsed."""
    files: int
    """Files beside the weights of both."""
    profile_bytes: int
    """Memory of the profile that replaces the scan; 0 without one."""
    segments: int
    """Segments of all regions together."""
    regions: int
    cuts: int
    """Outputs that are written at once."""
    refined: int
    """How many of the cuts need low bits of scores, counted by one more scan."""
    random: int
    """How many of the cuts are random."""
    streamed: bool
    """Whether an input is read from afar, ahead of the workers."""
    downloads: int
    """Files that are downloaded before anything is read."""
    hashed: bool
    """Whether files of the Hub are compared with their hashes meanwhile."""
    pages: int
    """Regions of whose models pages are written."""
    reader_bytes: int = 0
    """What each worker's reading of both inputs holds besides its buffers."""
    gpus: int = 0
    """GPUs that score and cut; none if processors do."""
    unified: bool = False
    """Whether their memory is the host's."""

    @property
    def slots(self) -> int:
        """Sets of buffers of a worker: blocks arrive in one while another's is computed."""
        return GPU_SLOTS if self.gpus else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may take."""

    workers: int
    """Worker threads at most."""
    max_memory_bytes: int
    """Peak memory of the whole process."""
    max_device_memory_bytes: int = 0
    """Peak memory on each GPU, besides what its driver takes."""

    def with_work_for(self, tasks: int, most_workers: int | None = None) -> Limits:
        """Return the limits with no more workers than there are tasks, or than may be."""
        return replace(self, workers=min(self.workers, tasks, most_workers or self.workers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How much is done at once, and the memory that this will take."""

    workers: int
    block_bytes: int
    """Buffer of a worker for each input and each output, in bytes."""
    projected_bytes: int
    """Upper bound of the process's peak memory."""
    downloads: int = 0
    """Files that are downloaded at once."""
    chunk_elements: int = 0
    """Elements that a worker's GPU scores at once; 0 without one."""
    projected_device_bytes: int = 0
    """Upper bound of the memory on each GPU, besides what its driver takes."""


def project(load: Workload, *, workers: int, block_bytes: int) -> int:
    """Return the projected peak memory of a run in bytes.

    Parameters
    ----------
    load : Workload
    workers : int
        Number of worker threads.
    block_bytes : int
        Size of each of a worker's buffers.

    Returns
    -------
    int
        The sum of everything that is held at once.
    """
    segments = load.segments * (SEGMENT_BYTES + load.cuts * CUT_BYTES)
    histograms = (STATISTICS + 2 * load.regions + 3 * load.random) * BINS * 8 + LOWS * 8
    # Of both inputs; or of a tied head and its embedding, which are read without the base.
    read_ahead = 2 * load.streamed * READ_AHEAD_BLOCKS
    buffers = (load.slots * (2 + load.cuts) + read_ahead) * block_bytes
    counters = (LANES + 1 + load.random) * BINS * 4
    # Scores are refined before random keys are: the two never coexist.
    lows = max(load.refined, load.random) * LOWS * 4 * 2
    scratch = load.granularity.chunk_elements * ELEMENT_SCRATCH_BYTES
    worker = WORKER_BYTES + load.reader_bytes + buffers + scratch + counters + lows
    streaming = STREAMING_BYTES * load.streamed
    hashing = HASHING_BYTES * load.hashed
    pages = load.pages * PAGE_BYTES
    opened = _project_opened(load)
    return opened + streaming + hashing + segments + histograms + pages + workers * worker


def project_downloads(load: Workload, downloads: int) -> int:
    """Return the projected peak memory while files are downloaded, some at once."""
    return _project_opened(load) + downloads * DOWNLOAD_BYTES


def _project_opened(load: Workload) -> int:
    """Return what is held once both inputs are opened, and of each file until its rename."""
    texts = HEADER_FACTOR * load.header_bytes + load.document_bytes + load.profile_bytes
    files = load.files * (FILE_BYTES + load.cuts * RENAME_BYTES)
    return load.runtime_bytes + texts + load.tensors * TENSOR_BYTES + files


def count_downloads(files: int, free_bytes: int) -> int:
    """Return how many of some files are downloaded at once, one at least, in free memory."""
    return max(min(files, DOWNLOADS, free_bytes // DOWNLOAD_BYTES), min(files, 1))


def fit(load: Workload, limits: Limits) -> Sizing:
    """Choose workers and block size for a budget.

    Blocks shrink first, down to ``Granularity.smallest_block_bytes``; then workers go. Downloads
    come before the passes: the larger of both is the peak.

    Raises
    ------
    MemoryBudgetError
        If one worker with the smallest blocks needs more than the budget, or one download.
    """
    sizes = load.granularity
    sizing = choose(
        partial(project, load),
        load.runtime_bytes,
        limits,
        "this run needs",
        sizes.gpu_block_bytes if load.gpus else sizes.block_bytes,
        sizes.smallest_block_bytes,
    )
    free_bytes = limits.max_memory_bytes - project_downloads(load, 0)
    downloads = count_downloads(load.downloads, free_bytes)
    downloading = project_downloads(load, downloads) if downloads else 0
    if downloading > limits.max_memory_bytes:
        raise MemoryBudgetError(
            f"to download a file takes {format_mib(downloading)} of memory, --max-memory allows "
            f"{format_mib(limits.max_memory_bytes)}: raise it, or pass --stream"
        )
    projected = max(sizing.projected_bytes, downloading)
    return replace(sizing, projected_bytes=projected, downloads=downloads)


def choose(
    projection: Callable[..., int],
    runtime_bytes: int,
    limits: Limits,
    what: str,
    largest_block_bytes: int,
    smallest_block_bytes: int,
) -> Sizing:
    """Choose the largest blocks, then the most workers, whose projection is within limits.

    Parameters
    ----------
    projection : callable
        Takes `workers` and `block_bytes`, returns the peak memory in bytes.
    runtime_bytes : int
        What the process holds before its first buffer, for the message.
    limits : Limits
    what : str
        Beginning of the message.
    largest_block_bytes, smallest_block_bytes : int

    Raises
    ------
    MemoryBudgetError
        If one worker with the smallest blocks needs more than the budget.
    """
    for workers in range(limits.workers, 0, -1):
        block_bytes = largest_block_bytes
        while block_bytes >= smallest_block_bytes:
            projected = projection(workers=workers, block_bytes=block_bytes)
            if projected <= limits.max_memory_bytes:
                return Sizing(workers=workers, block_bytes=block_bytes, projected_bytes=projected)
            block_bytes //= 2
    least = projection(workers=1, block_bytes=smallest_block_bytes)
    raise MemoryBudgetError(
        f"{what} at least {format_mib(least)} of memory (one worker, blocks of "
        f"{smallest_block_bytes >> 10} KiB; {format_mib(runtime_bytes)} of it for Python, "
        f"its libraries and the lists of files), --max-memory allows "
        f"{format_mib(limits.max_memory_bytes)}: raise it to {-(-least // MIB)}MiB"
    )
