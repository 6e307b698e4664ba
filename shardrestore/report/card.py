"""The model card of a restored model, ``README.md``: Markdown after YAML metadata.

Names, patterns and metadata come from the authors of the inputs. They appear in code spans,
in code blocks and as quoted YAML alone, in which nothing can be Markdown or HTML; the table
has labels of our own only. Like the other reports it depends on inputs and options alone,
see ``files``: not on time, workers, or the place of a folder.
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from ..figures.model import ModelFigures, TensorResult
from ..figures.overview import KINDS, Cell, layer_label, make_cells
from ..figures.result_overview import overview_of_tensor
from ..figures.side_files import SideFileFigures
from ..notes import Note
from ..version import __version__

HUB_URL = "https://huggingface.co"
PAPER_URL = "https://arxiv.org/abs/2509.16596"

TAGS = ("shardrestore", "parameter-restoration")

MAX_FILES = 32
"""Files that are listed, the largest."""

MAX_ROWS = 32
"""Rows of a tower in the table of layers, at most: neighbours share one beyond it."""

_REPOSITORY = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_OTHER_SURROGATES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_LABEL_CHARACTERS = 32
_NOTE_COLUMNS = 90  # the Hub scrolls wider blocks

_CHECKING = (
    "FOLDER is this model's, downloaded whole. Base and target are read again, and every weight "
    "is compared; `--base` and `--target` say where they are now."
)
_PAPER = (
    "Ye et al., *Analyzing the Effects of Supervised Fine-Tuning on Model Knowledge from Token and "
    f"Parameter Levels*, EMNLP 2025, [arXiv:2509.16596]({PAPER_URL})."
)
_MADE_WITH = (
    f"Made with shardrestore {__version__}. What was done is recorded in "
    "[shardrestore.json](shardrestore.json)."
)

Inputs = Mapping[str, Mapping[str, Any]]
Inherited = Mapping[str, str | Sequence[str]]


def encode_card(
    figures: ModelFigures,
    inputs: Inputs,
    options: Mapping[str, Any],
    files: SideFileFigures,
    *,
    inherited: Inherited,
    kept_card: str | None,
) -> bytes:
    """Return the model card of a restoration.

    Parameters
    ----------
    figures : ModelFigures
    inputs : mapping
        Identities of ``base`` and ``target``, as in the record.
    options : mapping
        The options that decided the result, as in the record.
    files : SideFileFigures
        What became of the target's other files.
    inherited : mapping
        Metadata of the target's card that hold for this model, too: texts or lists of texts.
    kept_card : str or None
        Name of the file in which the target's card is kept, if it has one.
    """
    names = {role: name_input(identity, role) for role, identity in inputs.items()}
    target = _code(names["target"])
    parts = [
        f"# {target}, {figures.choice.percent:.15g} % restored",
        _describe(figures, names, options),
        *_describe_notes(figures.notes),
        "## The command that makes it again",
        _fence(_command(inputs, options)),
        "## The cut",
        _tabulate(("", ""), _describe_cut(figures)),
        "## The inputs",
        "\n".join(
            f"- {role}: {_describe_input(inputs[role], names[role])}" for role in ("target", "base")
        ),
        "## Where the restored weights are",
        _tabulate(("module kind", "tensors", "weights", "restored", "share"), _sum_kinds(figures)),
        "Restored share of each layer:",
        _tabulate(*_sum_layers(figures.tensors)),
        "## The other files",
        *_describe_files(files, target),
        "## To check it",
        _fence("shardrestore verify FOLDER"),
        _CHECKING,
        "## Background",
        _PAPER,
        _MADE_WITH,
    ]
    if kept_card is not None:
        parts.append(
            f"The card of {target} is kept in [{kept_card}]({quote(kept_card)}): read it, too."
        )
    text = f"{_encode_metadata(inputs, inherited)}\n" + "\n\n".join(parts) + "\n"
    return text.encode()


def name_input(identity: Mapping[str, Any], role: str) -> str:
    """Return the name of an input that may leave this machine: without the folders above it."""
    repository = identity.get("repository")
    return str(repository) if repository else PurePath(str(identity["path"])).name or role


def _encode_metadata(inputs: Inputs, inherited: Inherited) -> str:
    """Return the YAML that the Hub reads; every text is quoted, as JSON is."""
    bases = [str(inputs[r]["repository"]) for r in ("target", "base") if _is_on_hub(inputs[r])]
    if not _is_on_hub(inputs["target"]):
        # The trainer writes paths of its machine there, too.
        known = inherited.get("base_model", ())
        named = [known] if isinstance(known, str) else known
        bases = [*(name for name in named if _REPOSITORY.fullmatch(name)), *bases]
    metadata = {
        **inherited,
        "base_model": list(dict.fromkeys(bases)),
        "library_name": "transformers",
        "tags": TAGS,
    }
    lines = []
    for key in sorted(metadata):
        value = metadata[key]
        if isinstance(value, str):
            lines.append(f"{key}: {_quote(value)}")
        elif value:
            lines += [f"{key}:", *(f"- {_quote(text)}" for text in value)]
    return "\n".join(["---", *lines, "---", ""])


def _is_on_hub(identity: Mapping[str, Any]) -> bool:
    return bool(identity.get("repository"))


def _describe(figures: ModelFigures, names: Mapping[str, str], options: Mapping[str, Any]) -> str:
    choice, cut = figures.choice, figures.cut
    chosen = {
        "top": "that fine-tuning changed most",
        "bottom": "that fine-tuning changed least",
        "random": f"that were drawn at random with seed {options['seed']}",
    }
    target, base = _code(names["target"]), _code(names["base"])
    cast = options["dtype"]
    others = "bit for bit" if cast == "auto" else f"cast to {cast}, as the restored ones are"
    return (
        f"Of the {cut.region_elements:,} weights of {target} in the region `{choice.region}`, "
        f"the {choice.percent:.15g} % {chosen[choice.strategy]} were set back to their values in "
        f"{base}: {cut.selected_elements:,} weights. All others are those of {target}, {others}."
    )


def _describe_notes(notes: Sequence[Note]) -> Iterator[str]:
    """Yield the section that must not be missed, if there is anything in it."""
    if notes:
        yield "## Notes"
        yield _fence("\n".join(_wrap(_visible(note.text)) for note in notes))


def _wrap(text: str) -> str:
    """Return a text as an item of a list, in lines that are not longer than they must be."""
    return textwrap.fill(
        text,
        _NOTE_COLUMNS,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _command(inputs: Inputs, options: Mapping[str, Any]) -> str:
    """Return the command with the options that decide the result, those that matter always."""
    words: list[tuple[str, ...]] = [("shardrestore run",)]
    for role in ("base", "target"):
        identity, name = inputs[role], name_input(inputs[role], role)
        commit = f"@{identity['commit']}" if _is_on_hub(identity) else ""
        words.append((f"--{role}", f"{name}{commit}"))
    words += [("--output", "restored"), ("-k", f"{options['percent']:.15g}")]
    words += [("--region", options["region"])]
    for option in ("include", "exclude", "rename", "keep", "drop"):
        words += [(f"--{option}", text) for text in options.get(option, ())]
    words.append(("--strategy", options["strategy"]))
    if "score" in options:
        words.append(("--score", options["score"]))
    if options["seed"] is not None:
        words.append(("--seed", str(options["seed"])))
    if options["dtype"] != "auto":
        words.append(("--dtype", options["dtype"]))
    for option in ("approximate", "allow_nonfinite", "allow_unpaired"):
        if options.get(option):
            words.append((f"--{option.replace('_', '-')}",))
    head, *rest = (" ".join([flag, *map(_quote_word, values)]) for flag, *values in words)
    return " \\\n  ".join([head, *rest])


def _describe_cut(figures: ModelFigures) -> Iterator[tuple[str, ...]]:
    cut, ties, changes = figures.cut, figures.ties, figures.changes
    if cut.threshold is not None:
        sign = "≥" if figures.choice.strategy == "top" else "≤"
        about = "" if cut.exact else ", known to 0.8 %"
        yield figures.choice.score_label, f"{sign} {cut.threshold:.6g}{about}"
        yield "at the cut", f"{ties.count:,} weights, {ties.taken:,} of them restored"
    yield "restored", f"{cut.selected_elements:,} of {cut.region_elements:,} weights"
    yield "unchanged by fine-tuning", _share(changes.unchanged_share)
    yield "zero in the base", _share(changes.zero_base_share)
    if changes.nonfinite:
        yield "NaN or infinite, of both models", f"{changes.nonfinite:,} weights"


def _describe_input(identity: Mapping[str, Any], name: str) -> str:
    if not _is_on_hub(identity):
        return f"{_code(name)}, a local folder; sizes and header hashes are in `shardrestore.json`"
    commit = str(identity["commit"])
    address = f"{HUB_URL}/{quote(name)}"
    return (
        f"[{_code(name)}]({address}) at commit "
        f"[{_code(commit[:12])}]({address}/tree/{quote(commit, safe='')})"
    )


def _sum_kinds(figures: ModelFigures) -> Iterator[tuple[str, ...]]:
    for kind in figures.module_kinds():
        counts = (f"{count:,}" for count in (kind.tensors, kind.elements, kind.restored))
        yield kind.kind, *counts, _share(kind.restored_share)


def _sum_layers(tensors: Iterable[TensorResult]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the restored share by layer and kind of module."""
    cells = make_cells(map(overview_of_tensor, tensors))
    kinds = [kind for kind in KINDS if any(cell.kind == kind and cell.elements for cell in cells)]
    columns = [*kinds, "all"]
    rows = [
        [label, *(_sum_share(c for c in row if kind in (c.kind, "all")) for kind in columns)]
        for label, row in [*_join_layers(cells), ("all", cells)]
    ]
    return ["layer", *columns], rows


def _join_layers(cells: Sequence[Cell]) -> Iterator[tuple[str, Sequence[Cell]]]:
    """Yield rows of the table: a layer each or, of a deep model, neighbouring ones."""
    for tower, of_tower in groupby(cells, key=lambda cell: cell.tower):
        layers = [list(layer) for _, layer in groupby(of_tower, key=lambda cell: cell.layer)]
        blocks = [layer for layer in layers if layer[0].layer is not None]
        step = max(-(-len(blocks) // MAX_ROWS), 1)
        for first in range(0, len(blocks), step):
            band = blocks[first : first + step]
            labels = [layer_label(tower, band[end][0].layer) for end in (0, -1)]
            last = f"–{labels[1].removeprefix(f'{tower} ')}" if len(band) > 1 else ""
            yield (labels[0] + last)[:_LABEL_CHARACTERS], list(chain.from_iterable(band))
        for outside in layers[len(blocks) :]:
            yield layer_label(tower, None), outside


def _sum_share(cells: Iterable[Cell]) -> str:
    counts = [(cell.restored[0], cell.elements) for cell in cells]
    restored, elements = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    return _share(restored / elements) if elements else ""


def _describe_files(files: SideFileFigures, target: str) -> Iterator[str]:
    """Yield what became of the target's files besides its shards."""
    copied, left_out = files.copied, files.left_out
    yield (
        f"Copied from {target} as they are: {_count_files(copied.files)}, {copied.nbytes:,} bytes."
    )
    if copied.not_restored:
        yield "Weights among them, which are no part of what was restored:"
        yield _list_files([(file.name, 1, file.nbytes, "") for file in copied.not_restored])
    if left_out.parts:
        yield f"Left out: {_count_files(left_out.files)}, {left_out.nbytes:,} bytes."
        parts = left_out.parts
        yield _list_files([(one.name, one.files, one.nbytes, f": {one.reason}") for one in parts])


def _list_files(files: Sequence[tuple[str, int, int, str]]) -> str:
    """Return a list of files with their sizes, the largest first."""
    largest = sorted(files, key=lambda file: -file[2])[:MAX_FILES]
    lines = [
        f"- {_code(name)}, {f'{_count_files(count)}, ' if count > 1 else ''}{nbytes:,} bytes{why}"
        for name, count, nbytes, why in largest
    ]
    if len(files) > len(largest):
        lines.append(f"- and {len(files) - len(largest):,} more, in `shardrestore.json`")
    return "\n".join(lines)


def _count_files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _share(share: float) -> str:
    """Return a share as a percentage; a small one is not rounded to zero."""
    return f"{share * 100:.1g} %" if 0 < share < 0.0001 else f"{share * 100:.2f} %"


def _tabulate(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is to the left, the others to the right."""
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _code(text: str) -> str:
    """Return a text as a code span, from which it cannot break out."""
    text = _visible(text)
    ticks = "`" * (_longest_run(text) + 1)
    # One space at either end is no part of the span.
    padding = " " if "`" in text or text != text.strip() else ""
    return f"{ticks}{padding}{text}{padding}{ticks}"


def _fence(text: str) -> str:
    """Return lines as a code block, which none of them can end."""
    ticks = "`" * max(_longest_run(text) + 1, 3)
    return f"{ticks}\n{text}\n{ticks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _quote_word(text: str) -> str:
    """Return a word of a command; control characters as bash and zsh read them in ``$'…'``."""
    if text.isprintable():
        return shlex.quote(text)
    # Of the surrogates only those that stand for a byte of a path can be part of a command.
    codes = _OTHER_SURROGATES.sub("\ufffd", text).encode("utf-8", "surrogateescape")
    escaped = "".join(
        chr(code) if 0x20 <= code < 0x7F and code not in b"'\\" else f"\\x{code:02x}"
        for code in codes
    )
    return f"$'{escaped}'"


def _quote(text: str) -> str:
    return json.dumps(_visible(text), ensure_ascii=False)


def _visible(text: str) -> str:
    """Return a text with its control characters as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
