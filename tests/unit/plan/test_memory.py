"""Projected memory is a sum that can be checked by hand, and the budget is kept."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardrestore.errors import MemoryBudgetError
from shardrestore.granularity import DEFAULT_GRANULARITY, Granularity
from shardrestore.kernels.interface import LANES
from shardrestore.plan import memory
from shardrestore.plan.device_memory import fit_device, project_device
from shardrestore.plan.memory import Limits, Sizing, Workload, fit, project, project_downloads
from shardrestore.selection.score import BINS, LOWS
from shardrestore.units import MIB, format_mib

SIZES = DEFAULT_GRANULARITY
LOAD = Workload(
    granularity=SIZES,
    runtime_bytes=101 * MIB,
    tensors=103,
    header_bytes=10_007,
    document_bytes=20_011,
    files=109,
    profile_bytes=0,
    segments=107,
    regions=1,
    cuts=1,
    refined=0,
    random=0,
    streamed=False,
    downloads=0,
    hashed=False,
    pages=0,
    reader_bytes=0,
)


@pytest.fixture
def primes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size another large prime: a term that is dropped or doubled shows."""
    for name, value in {
        "TENSOR_BYTES": 1_000_003,
        "FILE_BYTES": 1_050_011,
        "RENAME_BYTES": 1_070_003,
        "SEGMENT_BYTES": 1_100_009,
        "CUT_BYTES": 1_200_007,
        "STATISTICS": 19,
        "HEADER_FACTOR": 17,
        "BINS": 2_000_003,
        "LOWS": 3_000_017,
        "LANES": 7,
        "PAGE_BYTES": 4_000_037,
        "ELEMENT_SCRATCH_BYTES": 499,
        "WORKER_BYTES": 11_000_027,
        "READ_AHEAD_BLOCKS": 23,
        "STREAMING_BYTES": 7_000_003,
        "HASHING_BYTES": 6_000_011,
    }.items():
        monkeypatch.setattr(memory, name, value)


# Runtime; headers, documents and profile; files with their renames; segments; arrays over all
# bins of 8 bytes (describing one distribution, two of each region, three of each random cut) and
# one over all low bits; then for each worker: thread, a block of each input and output, scratch,
# counters of 4 bytes (scores in lanes, their sum, those of each random cut), low bits of refined
# or of random cuts, twice.
@pytest.mark.parametrize(
    ("changes", "workers", "expected"),
    [
        (  # one cut of bfloat16 scores
            {},
            1,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 1 * 1_070_003)
            + 107 * (1_100_009 + 1 * 1_200_007)
            + ((19 + 2 * 1) * 2_000_003 + 3_000_017) * 8
            + (11_000_027 + 3 * 13_000_027 + 499 * 10_007 + (7 + 1) * 2_000_003 * 4),
        ),
        (  # three workers
            {},
            3,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 1 * 1_070_003)
            + 107 * (1_100_009 + 1 * 1_200_007)
            + ((19 + 2 * 1) * 2_000_003 + 3_000_017) * 8
            + 3 * (11_000_027 + 3 * 13_000_027 + 499 * 10_007 + (7 + 1) * 2_000_003 * 4),
        ),
        (  # inputs that are computed from others, with scratch for each worker
            {"reader_bytes": 17_000_023},
            2,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 1 * 1_070_003)
            + 107 * (1_100_009 + 1 * 1_200_007)
            + ((19 + 2 * 1) * 2_000_003 + 3_000_017) * 8
            + 2 * (17_000_023 + 11_000_027 + 3 * 13_000_027 + 499 * 10_007)
            + 2 * (7 + 1) * 2_000_003 * 4,
        ),
        (  # from a profile, five cuts, three of them of float32 scores
            {"cuts": 5, "refined": 3, "profile_bytes": 30_011},
            1,
            101 * MIB
            + (17 * 10_007 + 20_011 + 30_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 5 * 1_070_003)
            + 107 * (1_100_009 + 5 * 1_200_007)
            + ((19 + 2 * 1) * 2_000_003 + 3_000_017) * 8
            + (11_000_027 + 7 * 13_000_027 + 499 * 10_007 + (7 + 1) * 2_000_003 * 4)
            + 3 * 3_000_017 * 4 * 2,
        ),
        (  # random keys besides the scores, and the scores that each of three cuts selects
            {"cuts": 3, "random": 3},
            2,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 3 * 1_070_003)
            + 107 * (1_100_009 + 3 * 1_200_007)
            + ((19 + 2 * 1 + 3 * 3) * 2_000_003 + 3_000_017) * 8
            + 2 * (11_000_027 + 5 * 13_000_027 + 499 * 10_007 + (7 + 1 + 3) * 2_000_003 * 4)
            + 2 * 3 * 3_000_017 * 4 * 2,
        ),
        (  # four regions by all strategies: low bits of scores are gone when random ones come
            {"regions": 4, "cuts": 12, "refined": 8, "random": 4},
            1,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 12 * 1_070_003)
            + 107 * (1_100_009 + 12 * 1_200_007)
            + ((19 + 2 * 4 + 3 * 4) * 2_000_003 + 3_000_017) * 8
            + (11_000_027 + 14 * 13_000_027 + 499 * 10_007 + (7 + 1 + 4) * 2_000_003 * 4)
            + 8 * 3_000_017 * 4 * 2,
        ),
        (  # inputs that are streamed
            {"streamed": True},
            3,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 1 * 1_070_003)
            + 7_000_003
            + 107 * (1_100_009 + 1 * 1_200_007)
            + ((19 + 2 * 1) * 2_000_003 + 3_000_017) * 8
            + 3 * (11_000_027 + (3 + 2 * 23) * 13_000_027 + 499 * 10_007 + (7 + 1) * 2_000_003 * 4),
        ),
        (  # inputs from the Hub, which are hashed meanwhile
            {"hashed": True},
            1,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 1 * 1_070_003)
            + 6_000_011
            + 107 * (1_100_009 + 1 * 1_200_007)
            + ((19 + 2 * 1) * 2_000_003 + 3_000_017) * 8
            + (11_000_027 + 3 * 13_000_027 + 499 * 10_007 + (7 + 1) * 2_000_003 * 4),
        ),
        (  # a long sweep: remainders for every segment
            {"cuts": 16},
            1,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 16 * 1_070_003)
            + 107 * (1_100_009 + 16 * 1_200_007)
            + ((19 + 2 * 1) * 2_000_003 + 3_000_017) * 8
            + (11_000_027 + 18 * 13_000_027 + 499 * 10_007 + (7 + 1) * 2_000_003 * 4),
        ),
        (  # the pages of two regions
            {"regions": 2, "cuts": 2, "pages": 2},
            1,
            101 * MIB
            + (17 * 10_007 + 20_011 + 103 * 1_000_003)
            + 109 * (1_050_011 + 2 * 1_070_003)
            + 107 * (1_100_009 + 2 * 1_200_007)
            + ((19 + 2 * 2) * 2_000_003 + 3_000_017) * 8
            + 2 * 4_000_037
            + (11_000_027 + 4 * 13_000_027 + 499 * 10_007 + (7 + 1) * 2_000_003 * 4),
        ),
    ],
    ids=[
        "plain",
        "workers",
        "computed",
        "profile",
        "random",
        "regions",
        "streams",
        "hashed",
        "sweep",
        "pages",
    ],
)
@pytest.mark.usefixtures("primes")
def test_the_projection_is_the_sum_of_what_is_held(
    changes: dict[str, int], workers: int, expected: int
) -> None:
    granularity = Granularity(chunk_elements=10_007)
    load = dataclasses.replace(LOAD, granularity=granularity, **changes)
    assert project(load, workers=workers, block_bytes=13_000_027) == expected


@pytest.mark.parametrize(
    "more",
    [
        {"runtime_bytes": LOAD.runtime_bytes + 1},
        {"tensors": LOAD.tensors + 1},
        {"header_bytes": LOAD.header_bytes + 1},
        {"document_bytes": LOAD.document_bytes + 1},
        {"files": LOAD.files + 1},
        {"profile_bytes": LOAD.profile_bytes + 1},
        {"segments": LOAD.segments + 1},
        {"regions": LOAD.regions + 1},
        {"cuts": LOAD.cuts + 1},
        {"refined": LOAD.refined + 1},
        {"random": LOAD.random + 1},
        {"pages": LOAD.pages + 1},
        {"granularity": Granularity(chunk_elements=LOAD.granularity.chunk_elements + 1)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_needs_more_memory(more: dict[str, Any]) -> None:
    greater = dataclasses.replace(LOAD, **more)
    sizes = {"workers": 2, "block_bytes": MIB}
    assert project(greater, **sizes) > project(LOAD, **sizes)


def test_the_size_of_a_tensor_or_of_a_shard_is_no_part_of_it() -> None:
    assert {field.name for field in dataclasses.fields(Workload)} == {
        "granularity",
        "runtime_bytes",
        "tensors",
        "header_bytes",
        "document_bytes",
        "files",
        "profile_bytes",
        "segments",
        "regions",
        "cuts",
        "refined",
        "random",
        "streamed",
        "hashed",
        "downloads",
        "pages",
        "reader_bytes",
        "gpus",
        "unified",
    }


LOADS = st.builds(
    Workload,
    granularity=st.just(SIZES),
    runtime_bytes=st.integers(50 * MIB, 600 * MIB),
    tensors=st.integers(1, 50_000),
    header_bytes=st.integers(100, 20 * MIB),
    document_bytes=st.integers(0, MIB),
    files=st.integers(0, 10_000),
    profile_bytes=st.integers(0, 20 * MIB),
    segments=st.integers(1, 50_000),
    regions=st.integers(1, 5),
    cuts=st.integers(0, 20),
    refined=st.integers(0, 20),
    random=st.integers(0, 20),
    streamed=st.booleans(),
    downloads=st.sampled_from([0, 0, 1, 3, 40]),
    hashed=st.booleans(),
    pages=st.integers(0, 5),
    gpus=st.integers(0, 3),
)


@given(LOADS, st.integers(1, 64), st.integers(1, 2048))
def test_what_fits_is_within_the_budget_and_nothing_better_is(
    load: Workload, max_workers: int, budget_mib: int
) -> None:
    """Workers are kept as long as their smallest blocks fit; then blocks are the largest."""
    budget = budget_mib * MIB
    smallest = SIZES.smallest_block_bytes
    try:
        sizing = fit(load, Limits(workers=max_workers, max_memory_bytes=budget))
    except MemoryBudgetError:
        one_download = project_downloads(load, min(load.downloads, 1))
        assert max(project(load, workers=1, block_bytes=smallest), one_download) > budget
        return
    assert sizing.projected_bytes <= budget
    passes = project(load, workers=sizing.workers, block_bytes=sizing.block_bytes)
    downloading = project_downloads(load, sizing.downloads) if load.downloads else 0
    assert sizing.projected_bytes == max(passes, downloading)
    assert min(load.downloads, 1) <= sizing.downloads <= min(load.downloads, memory.DOWNLOADS)
    if 0 < sizing.downloads < min(load.downloads, memory.DOWNLOADS):
        assert project_downloads(load, sizing.downloads + 1) > budget
    assert 1 <= sizing.workers <= max_workers
    preferred = SIZES.gpu_block_bytes if load.gpus else SIZES.block_bytes
    assert smallest <= sizing.block_bytes <= preferred
    if sizing.workers < max_workers:
        assert project(load, workers=sizing.workers + 1, block_bytes=smallest) > budget
    if sizing.block_bytes < preferred:
        larger = sizing.block_bytes * 2
        assert project(load, workers=sizing.workers, block_bytes=larger) > budget


def test_a_download_that_does_not_fit_is_refused_with_both_numbers() -> None:
    load = dataclasses.replace(LOAD, runtime_bytes=480 * MIB, downloads=3)
    needed = project_downloads(load, 1)
    passes = project(load, workers=1, block_bytes=SIZES.smallest_block_bytes)
    assert passes < needed - 1, "else the passes are refused first"
    with pytest.raises(MemoryBudgetError, match=rf"download.*{format_mib(needed)}.*--stream"):
        fit(load, Limits(workers=1, max_memory_bytes=needed - 1))
    assert fit(load, Limits(workers=1, max_memory_bytes=needed)).downloads == 1


def test_with_room_enough_all_workers_have_the_preferred_blocks() -> None:
    sizing = fit(LOAD, Limits(workers=8, max_memory_bytes=4096 * MIB))
    assert (sizing.workers, sizing.block_bytes) == (8, SIZES.block_bytes)


def test_blocks_shrink_before_workers_go() -> None:
    room = project(LOAD, workers=4, block_bytes=MIB)
    assert fit(LOAD, Limits(workers=4, max_memory_bytes=room)) == Sizing(
        workers=4, block_bytes=MIB, projected_bytes=room
    )
    least_of_four = project(LOAD, workers=4, block_bytes=SIZES.smallest_block_bytes)
    sizing = fit(LOAD, Limits(workers=4, max_memory_bytes=least_of_four - 1))
    assert sizing.workers == 3
    assert sizing.block_bytes > SIZES.smallest_block_bytes


def test_the_least_that_is_possible_is_accepted_and_a_byte_less_is_not() -> None:
    least = project(LOAD, workers=1, block_bytes=SIZES.smallest_block_bytes)
    assert fit(LOAD, Limits(workers=4, max_memory_bytes=least)).projected_bytes == least
    with pytest.raises(MemoryBudgetError):
        fit(LOAD, Limits(workers=4, max_memory_bytes=least - 1))


def test_a_refusal_gives_both_numbers_and_a_budget_that_would_do() -> None:
    least = project(LOAD, workers=1, block_bytes=SIZES.smallest_block_bytes)
    with pytest.raises(MemoryBudgetError) as error:
        fit(LOAD, Limits(workers=4, max_memory_bytes=64 * MIB))
    message = str(error.value)
    assert format_mib(least) in message
    assert "--max-memory allows 64 MiB" in message
    advice = int(re.search(r"raise it to (\d+)MiB", message)[1])
    assert fit(LOAD, Limits(workers=4, max_memory_bytes=advice * MIB)).workers == 1
    with pytest.raises(MemoryBudgetError):
        fit(LOAD, Limits(workers=4, max_memory_bytes=(advice - 1) * MIB))


def test_a_chunk_fits_into_the_smallest_block_and_its_scratch_is_counted() -> None:
    assert SIZES.chunk_elements * 4 <= SIZES.smallest_block_bytes <= SIZES.block_bytes
    assert (LANES, BINS, LOWS) == (memory.LANES, memory.BINS, memory.LOWS)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 MiB"), (1, "1 MiB"), (MIB, "1 MiB"), (MIB + 1, "2 MiB"), (2**40, "1,048,576 MiB")],
)
def test_sizes_are_never_understated(nbytes: int, text: str) -> None:
    assert format_mib(nbytes) == text


# On a GPU


@given(LOADS, st.integers(1, 64), st.integers(1, 4096))
def test_what_fits_on_a_gpu_is_within_both_budgets_and_no_larger_than_on_the_host(
    load: Workload, max_workers: int, budget_mib: int
) -> None:
    load = dataclasses.replace(load, gpus=max(load.gpus, 1), unified=False, downloads=0)
    limits = Limits(
        workers=max_workers, max_memory_bytes=64 << 30, max_device_memory_bytes=budget_mib * MIB
    )
    on_host = fit(load, limits)
    least = project_device(
        load,
        workers=1,
        block_bytes=SIZES.smallest_block_bytes,
        chunk_elements=SIZES.chunk_elements,
    )
    if least > limits.max_device_memory_bytes:
        with pytest.raises(MemoryBudgetError, match=re.escape(format_mib(least))):
            fit_device(load, on_host, limits)
        return
    sizing = fit_device(load, on_host, limits)
    assert sizing.projected_device_bytes == project_device(
        load,
        workers=sizing.workers,
        block_bytes=sizing.block_bytes,
        chunk_elements=sizing.chunk_elements,
    )
    assert sizing.projected_device_bytes <= limits.max_device_memory_bytes
    assert sizing.projected_bytes <= on_host.projected_bytes
    assert sizing.workers <= on_host.workers
    assert SIZES.smallest_block_bytes <= sizing.block_bytes <= on_host.block_bytes
    assert SIZES.chunk_elements <= sizing.chunk_elements <= SIZES.gpu_chunk_elements
    assert sizing.chunk_elements * 2 <= sizing.block_bytes, "a block holds a chunk"


def test_on_a_gpu_blocks_shrink_before_workers_go_and_chunks_shrink_last() -> None:
    load = dataclasses.replace(LOAD, gpus=1)
    fitted = {}
    for mib in (2048, 400, 60):
        limits = Limits(workers=8, max_memory_bytes=64 << 30, max_device_memory_bytes=mib * MIB)
        sizing = fit_device(load, fit(load, limits), limits)
        fitted[mib] = (sizing.workers, sizing.block_bytes // MIB, sizing.chunk_elements >> 10)
    assert fitted[2048] == (8, 8, 1024)
    workers, block_mib, chunk = fitted[400]
    assert (block_mib < 8, workers < 8, chunk) == (True, True, 1024)
    assert fitted[60][0] == 1 or fitted[60][2] < 1024


def test_memory_that_host_and_gpu_share_counts_against_the_smaller_budget() -> None:
    load = dataclasses.replace(LOAD, gpus=1, unified=True)
    limits = Limits(workers=1, max_memory_bytes=1 << 30, max_device_memory_bytes=64 << 30)
    on_host = fit(load, limits)
    sizing = fit_device(load, on_host, limits)
    assert sizing.projected_bytes == on_host.projected_bytes + sizing.projected_device_bytes
    assert sizing.projected_bytes <= limits.max_memory_bytes


def test_on_processors_nothing_is_fitted() -> None:
    limits = Limits(workers=2, max_memory_bytes=1 << 30)
    sizing = fit(LOAD, limits)
    assert fit_device(LOAD, sizing, limits) is sizing
