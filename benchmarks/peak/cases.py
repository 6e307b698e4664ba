"""What peak memory is measured of: a series of sizes, shardings, and all options that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..models.pairs import Pair, growing_llama, one_tensor

SERIES = tuple(growing_llama(width) for width in (768, 1024, 1280, 1536, 2048, 2560, 3328))
"""0.06 to 4.4 GB a side."""

SMALL_SERIES = SERIES[:3]

SWEEP = "1,3,5,10,20,40,60"
COMPILES = "nothing compiled yet"
PROFILED = f"-k {SWEEP} from a profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to run."""

    label: str
    pair: Pair
    options: tuple[str, ...] = ()
    percents: str = "10"
    workers: int = 2
    compiles: bool = False
    """Whether numba finds no compiled kernels, as in the first run after installation."""
    profiled: bool = False
    """Whether the pair was scanned before, and its profile is given."""
    twice: bool = False
    """Whether a second model is restored by the same command: the base, as its own target."""


def series_cases(series: Sequence[Pair]) -> list[Case]:
    """Return a run with default options for each pair."""
    return [Case(label=f"{pair.side_bytes / 1e9:.2f} GB a side", pair=pair) for pair in series]


def shape_cases(pair: Pair) -> list[Case]:
    """Return a run with default options for each way in which weights can lie in files."""
    shards = {"one file": pair.side_bytes, "64 shards": pair.side_bytes // 64}
    tensor = one_tensor(2_000_000_000)
    return [
        Case(label="one tensor of 2 GB", pair=tensor),
        *(
            Case(
                label=label,
                pair=replace(pair, name=f"{pair.name}-{label.replace(' ', '-')}", shard_bytes=size),
            )
            for label, size in shards.items()
        ),
    ]


def option_cases(pair: Pair, float32: Pair, float16: Pair) -> list[Case]:
    """Return a case for each option that changes what a run holds."""
    return [
        *_format_cases(pair, float32, float16),
        Case(label="--strategy bottom", pair=pair, options=("--strategy", "bottom")),
        Case(label="--strategy random", pair=pair, options=("--strategy", "random")),
        Case(label="--region all", pair=pair, options=("--region", "all")),
        Case(label="--exclude mlp", pair=pair, options=("--exclude", "mlp")),
        Case(label="--allow-nonfinite", pair=pair, options=("--allow-nonfinite",)),
        Case(label=f"-k {SWEEP}", pair=pair, percents=SWEEP),
        Case(label=f"float32, -k {SWEEP}", pair=float32, percents=SWEEP),
        Case(
            label="2 regions × 3 strategies × 2 percents",
            pair=pair,
            options=("--region", "attention,mlp", "--strategy", "top,bottom,random"),
            percents="1,10",
        ),
        Case(label=PROFILED, pair=pair, percents=SWEEP, profiled=True),
        Case(label="two targets", pair=pair, twice=True),
        Case(label="--checksum", pair=pair, options=("--checksum",)),
        Case(label="--workers 1", pair=pair, workers=1),
        Case(label="--workers 4", pair=pair, workers=4),
        Case(label="--max-memory 244MiB", pair=pair, options=("--max-memory", "244MiB")),
        Case(label=COMPILES, pair=pair, compiles=True),
    ]


def _format_cases(pair: Pair, float32: Pair, float16: Pair) -> list[Case]:
    casts = [("--dtype", dtype) for dtype in ("bf16", "fp16", "fp32")]
    plain = [
        Case(label="float32", pair=float32),
        Case(label="float32, --approximate", pair=float32, options=("--approximate",)),
        Case(label="float16", pair=float16),
    ]
    sides = {"float32, ": float32, "float16, ": float16, "": pair}
    return plain + [
        Case(label=f"{prefix}{' '.join(cast)}", pair=one, options=cast)
        for prefix, one in sides.items()
        for cast in casts
    ]


SMALL_OPTIONS = (
    "float32",
    "--dtype fp32",
    "--strategy random",
    f"float32, -k {SWEEP}",
    PROFILED,
)


def small_cases() -> list[Case]:
    """Return the cases of the small version, besides its series."""
    pair, float32, float16 = (growing_llama(768, dtype) for dtype in ("BF16", "F32", "F16"))
    return [case for case in option_cases(pair, float32, float16) if case.label in SMALL_OPTIONS]


def all_cases() -> list[Case]:
    """Return all cases besides the series."""
    pair, float32, float16 = (growing_llama(1280, dtype) for dtype in ("BF16", "F32", "F16"))
    return [*shape_cases(pair), *option_cases(pair, float32, float16)]
