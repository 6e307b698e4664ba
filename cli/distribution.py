"""The distribution of scores as people read it, 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .text import format_facts, format_share, format_table

if TYPE_CHECKING:
    from shardrestore import Overview, ScoreGroup

_COLUMNS = ("elements", "mean", "p50", "p90", "p99", "max", "un-", "zero")
_MORE = ("", "", "", "", "", "", "changed", "base")


def describe_distribution(overview: Overview) -> str:
    """Return the scores of a profile's regions, kinds of modules and layers."""
    tables = (
        ("region", overview.regions),
        ("kind", overview.kinds),
        ("layer", overview.layers),
    )
    return "\n\n".join(
        [
            describe_source(overview),
            f"{overview.score_label}; shares of unchanged weights and of zero base weights in %",
            *(_tabulate(name, groups) for name, groups in tables),
        ]
    )


def describe_source(overview: Overview) -> str:
    """Return what an overview is about."""
    facts = [
        (overview.origin, str(overview.source)),
        *((role, _show_path(identity)) for role, identity in overview.inputs.items()),
        ("scored", f"{overview.elements:,} elements of {len(overview.tensors):,} tensors"),
        ("unchanged", f"{format_share(overview.unchanged_share)} of them"),
        ("zero base", f"{format_share(overview.zero_base_share)} of them"),
    ]
    if overview.nonfinite:
        facts.append(("non-finite", f"{overview.nonfinite:,} weights"))
    if overview.unpaired:
        facts.append(("not scored", f"{len(overview.unpaired):,} tensors: `--json` says why"))
    return format_facts(facts)


def _show_path(identity: Mapping[str, Any]) -> str:
    # It was read from a file, which may have come from anyone: no control characters.
    path = str(identity.get("path", "?"))
    return path if path.isprintable() else repr(path)


def _tabulate(name: str, groups: Sequence[ScoreGroup]) -> str:
    rows: list[tuple[str, ...]] = [(name, *_COLUMNS), ("", *_MORE)]
    rows += [
        (
            group.label,
            _format_count(group.elements),
            format_score(group.mean_score),
            *(format_score(group.quantiles[p]) for p in (0.5, 0.9, 0.99)),
            format_score(group.max_score),
            _format_percent(group.unchanged_share),
            _format_percent(group.zero_base_share),
        )
        for group in groups
    ]
    return format_table(rows)


def _format_count(count: float) -> str:
    """Return a number of elements in at most seven characters."""
    if count < 10_000:
        return f"{count:,}"
    for unit in ("k", "M", "G"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} T"


def _format_percent(share: float) -> str:
    """Return a share in percent without its sign; a small one is not rounded to zero."""
    if 0 < share < 0.0001:
        return f"{share * 100:.1g}"
    return f"{share * 100:.2f}".replace("100.00", "100")


def format_score(score: float) -> str:
    """Return a score in six characters, unless it is extreme: 0.0123, 0.0012, 1.2e6."""
    if score == 0 or 0.01 <= score < 999.5:
        return f"{score:.3g}"
    if 0.001 <= score < 0.01:
        return f"{score:.2g}"
    # As 1.2e+06 it would be too wide.
    digits, exponent, power = f"{score:.1e}".partition("e")
    return f"{digits}e{int(power)}" if exponent else digits
