"""Making a report: what a profile or a finished model says, as a page and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..errors import OutputError
from ..figures.path_overview import detail_of
from ..inputs.reference import Reference
from ..names import PAGE_FILE
from ..output.writer import explain_write_error
from ..report.page import encode_page
from ..report.pictures import check_renderer, encode_pictures
from .file import NewFile, check_file


def make_report(
    source: Reference,
    output: Path,
    *,
    percents: Sequence[float] | None,
    region: str | Sequence[str] | None,
    strategy: str | Sequence[str] | None,
    score: str | None,
    max_memory_bytes: int,
    png: bool,
    overwrite: bool,
) -> tuple[Path, ...]:
    """Write the report of a profile or of a finished model.

    Parameters
    ----------
    source : str or path-like
    output : Path
        The page to write; pictures lie beside it.
    percents, region, strategy, score, max_memory_bytes
        As for ``overview_of``.
    png, overwrite : bool

    Returns
    -------
    tuple of Path
        The files that were written.

    Raises
    ------
    ShardRestoreError
        Files that were there are kept then.
    """
    if png:
        check_renderer()
    overview, detail = detail_of(
        source,
        percents=percents,
        region=region,
        strategy=strategy,
        score=score,
        max_memory_bytes=max_memory_bytes,
    )
    if output.suffix not in (".html", ".htm"):
        raise OutputError(f"{output}: a report is an HTML file: name it {output.name}.html")
    place = overview.source
    if overview.origin == "profile" and output.exists() and output.samefile(place):
        raise OutputError(f"{output}: is the profile itself: choose another --output")
    notes = _find_notes(place, output) if detail is None else ()
    files = {output: encode_page(overview, detail, notes=notes)}
    if png:
        pictures = encode_pictures(overview, detail)
        files |= {output.with_suffix(f".{name}.png"): image for name, image in pictures.items()}
    for path in files:
        check_file(path, "the report", overwrite=overwrite)
    with ExitStack() as stack:
        # All of them are on disk before the first one gets its name.
        written = [
            _write(stack.enter_context(NewFile(path, overwrite=overwrite)), files[path])
            for path in files
        ]
        for file in written:
            file.publish()
    return tuple(files)


def _write(file: NewFile, content: bytes) -> NewFile:
    try:
        file.path.write_bytes(content)
    except OSError as error:
        raise explain_write_error(file.path, len(content), error) from error
    return file


def _find_notes(folder: Path, output: Path) -> tuple[str, ...]:
    """Say what a page lacks that was made of a finished model, and where to find it."""
    missing = (
        "A finished model keeps no distribution of its changes. Save a profile with "
        "`shardrestore scan`; `shardrestore report` then shows the distribution, and a slider "
        "over all percents."
    )
    page = folder / PAGE_FILE
    if page.is_file() and not (output.exists() and output.samefile(page)):
        missing += f" The run that wrote this model has also left a page of its own: {PAGE_FILE}."
    return (missing,)
