"""The report: one HTML file that needs nothing else, neither now nor offline in ten years.

A template, a style sheet and scripts of our own lie in ``page/``. Beside them the
build writes ``vega.min.js``, the library that draws (see ``setup.py``).
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import OutputError
from ..figures.costs import Costs
from ..figures.detail import Detail
from ..figures.overview import Overview
from .document import describe_page, encode_document, shorten

_FOLDER = Path(__file__).with_name("page")
_LIBRARY = "vega.min.js"
_SCRIPTS = ("text.js", "views.js", "charts.js", "table.js", "page.js")
_PLACE = re.compile(rb"\{\{(\w+)\}\}")


def encode_page(
    overview: Overview,
    detail: Detail | None,
    *,
    costs: Costs | None = None,
    notes: Sequence[str] = (),
) -> bytes:
    """Return a page that shows an overview.

    Parameters
    ----------
    overview : Overview
    detail : Detail, optional
        Of the same tensors. Without it there is no distribution and no slider.
    costs : Costs, optional
        What the restoration took.
    notes : sequence of str
        Further sentences for the reader, after the overview's own notes.

    Raises
    ------
    OutputError
        If the installation lacks the library that draws.
    """
    library = _read(_LIBRARY)
    script = b'"use strict";(() => {\n%b})();' % b"\n".join(map(_read, _SCRIPTS))
    parts = {
        b"title": _escape(f"{shorten(overview.source.name)} – shardrestore report"),
        # Nothing but these two scripts may run, and nothing may be fetched from anywhere.
        b"policy": (
            f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; "
            "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
        ).encode(),
        b"style": _read("style.css"),
        b"data": encode_document(describe_page(overview, detail, costs, notes)),
        b"library": library,
        b"script": script,
    }
    pieces = _PLACE.split(_read("template.html"))
    pieces[1::2] = [parts[name] for name in pieces[1::2]]
    return b"".join(pieces)


def check_library() -> None:
    """Refuse pages, before anything is done for them, if the library that draws is missing.

    Raises
    ------
    OutputError
    """
    _read(_LIBRARY)


def _read(name: str) -> bytes:
    path = _FOLDER / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be read: {error.strerror}: reports are drawn with it: install "
            "shardrestore again, or leave the report out with --no-report"
        ) from error


def _hash(script: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    return f"'sha256-{digest}'"


def _escape(text: str) -> bytes:
    return html.escape(text).encode("utf-8", "replace")
