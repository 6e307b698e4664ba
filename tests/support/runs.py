"""Random runs on small checkpoints, for property tests of whole runs."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

import shardrestore
from shardrestore.granularity import Granularity
from shardrestore.scores import SCORES
from tests.support import oracle
from tests.support.checkpoints import Case, Layout, cases, layouts, write_checkpoint
from tests.support.library import GRANULARITIES, Library

# A process that has loaded torch is larger than the default budget by itself.
BUDGET = "16GiB"
PROFILE = "pair.profile.safetensors"


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """A pair, what is asked of it, and how its files and the work are laid out."""

    case: Case
    options: dict[str, Any]
    percent: float
    layouts: tuple[Layout, Layout]
    granularity: Granularity
    workers: int
    kernels: str
    expected: oracle.Expected

    def __repr__(self) -> str:
        sides = {
            name: (self.case.base.get(name), stored) for name, stored in self.case.target.items()
        }
        how = self.layouts, self.granularity, self.workers, self.kernels
        return f"Run({sides}, {self.options}, {self.percent}, {how})"

    @property
    def library(self) -> Library:
        """What carries it out: with torch, processors' kernels are left alone."""
        return Library(self.granularity, "reference" if self.kernels == "reference" else "cpu")

    def write(self, folder: Path) -> tuple[Path, Path]:
        return (
            write_checkpoint(folder / "base", self.case.base, self.layouts[0]),
            write_checkpoint(
                folder / "target", self.case.target, self.layouts[1], self.case.side_files
            ),
        )

    def restore(
        self, folder: Path, output: str = "output", **changes: Any
    ) -> shardrestore.Restoration:
        return self.restore_from(folder / "base", folder / "target", folder / output, **changes)

    def restore_from(
        self, base: str | Path, target: str | Path, output: Path, **changes: Any
    ) -> shardrestore.Restoration:
        return self.library.restore(
            base, target, output, percent=self.percent, **self._settings(changes)
        )

    def sweep(
        self, folder: Path, percents: Sequence[float], output: str = "sweep", **changes: Any
    ) -> tuple[shardrestore.Restoration, ...]:
        return self.library.sweep(
            folder / "base",
            folder / "target",
            folder / output,
            percents=percents,
            **self._settings(changes),
        )

    def scan(self, folder: Path, output: str = PROFILE) -> Path:
        """Make the profile of which any run with these options can be made."""
        path = folder / output
        self.library.scan(
            folder / "base",
            folder / "target",
            path,
            dtype=self.options["dtype"],
            score=self.options["score"],
            **self._means(),
        )
        return path

    def _settings(self, changes: dict[str, Any]) -> dict[str, Any]:
        return self.options | self._means() | changes

    def _means(self) -> dict[str, Any]:
        device = "torch:cpu" if self.kernels == "torch" else "cpu"
        return {"workers": self.workers, "max_memory": BUDGET, "device": device}


WAYS = st.tuples(
    st.tuples(layouts(), layouts()),
    GRANULARITIES,
    st.integers(1, 4),
    st.sampled_from(["cpu", "cpu", "reference", "torch"]),
)
PERCENTS = st.sampled_from([0.5, 1, 10, 33.3, 50, 77.7, 99.9, 100])


def region_elements(case: Case) -> dict[str, int]:
    """The regions that have elements in a target, and how many."""
    elements = {
        region: sum(
            math.prod(stored.shape)
            for name, stored in case.target.items()
            if oracle.in_region(name, region)
            and not name.startswith("quantised")
            and name not in case.twins
        )
        for region in oracle.REGIONS
    }
    return {region: count for region, count in elements.items() if count}


@st.composite
def runs(
    draw: st.DrawFn, *, nonfinite: bool | None = False, percents: Any = PERCENTS, **fixed: Any
) -> Run:
    """Draw a run that selects at least one element and, if asked for, meets no NaN."""
    case = draw(cases(nonfinite=nonfinite))
    regions = list(region_elements(case))
    assume(regions)
    options = {
        "region": draw(st.sampled_from(regions)),
        "exclude": ["^quantised"],
        "strategy": draw(st.sampled_from(["top", "top", "bottom", "random"])),
        "score": draw(st.sampled_from([*SCORES])),
        "seed": draw(st.integers(0, 3)),
        "dtype": draw(st.sampled_from(["auto", "auto", "auto", "bf16", "fp16", "fp32"])),
        "approximate": draw(st.booleans()),
        "allow_nonfinite": nonfinite is None,
        **fixed,
    }
    percent = draw(percents)
    files, granularity, workers, kernels = draw(WAYS)
    expected = oracle.expect(
        case.base,
        case.target,
        percent=percent,
        segment_elements=granularity.segment_elements,
        twins=case.twins,
        **(options | {"exclude": ["quantised"]}),
    )
    assume(expected.selected)
    # Casts to float16 may overflow: such runs are another test's.
    overflows = expected.overflows or expected.outside_overflows
    assume(nonfinite is None or not (expected.nonfinite or overflows))
    return Run(case, options, percent, files, granularity, workers, kernels, expected)


# Thousands of small files are synchronised: in memory that takes a third of the time.
MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="shardrestore-test-", dir=MEMORY_DISK) as folder:
        yield Path(folder)


def assert_same_tensors(
    found: dict[str, oracle.Stored], expected: dict[str, oracle.Stored]
) -> None:
    assert found.keys() == expected.keys()
    wrong = [name for name in found if not oracle.same_weights(found[name], expected[name])]
    assert not wrong
