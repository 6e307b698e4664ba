"""What lies beside the shards: each file is copied, or left out for a reason."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ..errors import CheckpointError, MemoryBudgetError, RequestError
from ..names import CONFIG_FILE, SINGLE_FILE
from ..notes import Note
from .entry import shorten, show_name
from .omission import IRREGULAR, find_omission
from .sidefile import SideFile

FILE_BYTES = 1536
"""Memory of a file that is copied: its entry, its names in lists, its line in the journal."""

_WEIGHT_SUFFIXES = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".onnx", ".onnx_data"),
    *(".h5", ".msgpack", ".npz", ".tflite", ".mlmodel", ".ot"),
)
_ADAPTER, _ADAPTER_CONFIG = "adapter_model*", "adapter_config.json"
_NAMED = 3
_OUTSIDE = "a link that leads out of the folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePolicy:
    """What a user says of a checkpoint's files."""

    keep: tuple[str, ...] = ()
    """Patterns of files that are copied, whatever the rules say; ``*`` matches slashes, too."""
    drop: tuple[str, ...] = ()
    """Patterns of files that are not copied."""
    follow_links: bool = False
    """Whether links may lead anywhere."""


DEFAULT_POLICY = FilePolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file that is not copied, or a folder of such."""

    name: str
    """Relative to the checkpoint; a folder's has ``/`` at its end."""
    reason: str
    files: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFiles:
    """The files of a checkpoint besides its shards and its index, each in one of two parts."""

    copied: tuple[SideFile, ...] = ()
    """In order of name."""
    left_out: tuple[LeftOut, ...] = ()
    """In order of name."""

    @property
    def nbytes(self) -> int:
        """Size of what is copied in bytes."""
        return sum(file.nbytes for file in self.copied)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What must not be missed of the files that are copied."""
        weights = [file for file in self.copied if is_weights(file.name)]
        adapters = [file for file in weights if fnmatchcase(file.name, _ADAPTER)]
        has_adapter = any(file.name == _ADAPTER_CONFIG for file in self.copied)
        notes = []
        if weights:
            notes.append(Note(kind="not-restored", text=_describe_weights(weights)))
        if adapters and has_adapter:
            text = (
                f"The target holds an adapter beside the full model, {_name(adapters)}, and so "
                "does the output: transformers applies it on top of the restored weights where "
                "peft is installed. If it is merged into the target already, leave it out: "
                "--drop 'adapter_*'."
            )
            notes.append(Note(kind="adapter", text=text))
        return tuple(notes)

    def refuse_links(self, where: str) -> None:
        """Refuse links that lead out of a checkpoint whose files are to be copied.

        Raises
        ------
        CheckpointError
            If there are any that are not dropped.
        """
        names = [show_name(one.name) for one in self.left_out if one.reason == _OUTSIDE]
        if not names:
            return
        files = "1 of its files is a link" if len(names) == 1 else f"{len(names)} files are links"
        lines = [
            f"{where}: {files} that would copy what is elsewhere:",
            *shorten([f"  {name}" for name in names]),
        ]
        raise CheckpointError(
            "\n".join(lines) + "\nnext step: put copies in their place, leave them out by --drop, "
            "or pass --follow-links if you trust who made the folder"
        )


def _describe_weights(files: Sequence[SideFile]) -> str:
    return (
        f"Weights beside the shards are copied as they are, not restored: {_name(files)}, "
        f"{sum(file.nbytes for file in files):,} bytes."
    )


def _name(files: Sequence[SideFile]) -> str:
    largest = sorted(files, key=lambda file: -file.nbytes)[:_NAMED]
    names = ", ".join(show_name(file.name) for file in largest)
    more = len(files) - len(largest)
    return f"{names} and {more:,} more" if more else names


def is_weights(name: str) -> bool:
    """Whether a file holds weights, by its name."""
    return name.lower().endswith(_WEIGHT_SUFFIXES)


def select_side_files(
    files: Iterable[SideFile],
    taken: Collection[str],
    policy: FilePolicy,
    where: str,
    *,
    max_memory_bytes: int = sys.maxsize,
) -> SideFiles:
    """Divide a checkpoint's files into those that are copied and those that are not.

    Parameters
    ----------
    files : iterable of SideFile
        All of its files.
    taken : collection of str
        Names of its shards and of its index, which are written anew.
    policy : FilePolicy
    where : str
        The checkpoint's name, for messages.
    max_memory_bytes : int
        What the list of files may take.

    Raises
    ------
    RequestError
        If a pattern matches no file, or one that cannot be kept or dropped.
    MemoryBudgetError
        If there are too many files.
    """
    selector = _Selector(taken, policy)
    for file in files:
        selector.add(file)
        if len(selector.copied) * FILE_BYTES > max_memory_bytes:
            raise MemoryBudgetError(
                f"{where}: holds more than {len(selector.copied) - 1:,} files to be copied: to "
                f"list so many takes {max_memory_bytes >> 20:,} MiB of memory, as much as "
                "--max-memory allows: raise it, or leave some out by --drop"
            )
    selector.refuse_idle_patterns(where)
    return SideFiles(
        copied=tuple(sorted(selector.copied, key=lambda file: file.name)),
        left_out=tuple(sorted(selector.left_out.values(), key=lambda one: one.name)),
    )


class _Selector:
    """Files as they are found, until each has its place."""

    def __init__(self, taken: Collection[str], policy: FilePolicy) -> None:
        self.copied: list[SideFile] = []
        self.left_out: dict[str, LeftOut] = {}
        self._taken = {str(PurePosixPath(name)) for name in taken}
        self._overruled = SINGLE_FILE in self._taken
        self._policy = policy
        self._matched: set[str] = set()
        self._kept: set[str] = set()
        """Patterns of ``--keep`` by which a file is copied."""
        self._refused: dict[str, str] = {}
        """What a pattern names and cannot change, and why."""

    def add(self, file: SideFile) -> None:
        """Put a file where it belongs."""
        keep, drop = (self._match(patterns, file.name) for patterns in self._patterns)
        if keep and drop:
            self._refused[drop] = f"--keep {keep!r} names {show_name(file.name)}, too"
        if file.name in self._taken:
            if drop:
                self._refused[drop] = f"{show_name(file.name)} is a part of the model's weights"
            return
        if drop:
            if file.name == CONFIG_FILE:
                self._refused[drop] = f"without {CONFIG_FILE} nothing can load the model"
            self._leave_out(file, file.name, "named by --drop")
            return
        self._follow_rules(file, keep)

    @property
    def _patterns(self) -> tuple[Sequence[str], Sequence[str]]:
        return self._policy.keep, self._policy.drop

    def _match(self, patterns: Sequence[str], name: str) -> str | None:
        """Return the first pattern that matches a name; note all of them."""
        matching = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
        self._matched.update(matching)
        return matching[0] if matching else None

    def _follow_rules(self, file: SideFile, keep: str | None) -> None:
        found = find_omission(file.name, overruled=self._overruled)
        if found is None and not file.is_regular and not file.leads_outside:
            found = file.name, IRREGULAR
        if found is not None and (keep is None or not found[1].keepable):
            part, kind = found
            self._leave_out(file, part, kind.reason)
            if keep is not None:
                self._refused.setdefault(keep, f"{show_name(file.name)} is {kind.reason}")
            return
        if keep is not None:
            self._kept.add(keep)
        if file.leads_outside:
            self._leave_out(file, file.name, _OUTSIDE)
        else:
            self.copied.append(file)

    def _leave_out(self, file: SideFile, part: str, reason: str) -> None:
        known = self.left_out.get(part)
        self.left_out[part] = LeftOut(
            name=part,
            reason=reason,
            files=1 + (known.files if known else 0),
            nbytes=file.nbytes + (known.nbytes if known else 0),
        )

    def refuse_idle_patterns(self, where: str) -> None:
        """Refuse patterns that match nothing, or what they cannot change."""
        options: Mapping[str, Sequence[str]] = dict(
            zip(("--keep", "--drop"), self._patterns, strict=True)
        )
        for option, patterns in options.items():
            for pattern in patterns:
                if pattern not in self._matched:
                    raise RequestError(
                        f"{option} {pattern!r}: matches none of the files of {where}: `plan` "
                        "lists what is copied and what is left out"
                    )
                if pattern in self._refused and pattern not in self._kept:
                    raise RequestError(
                        f"{option} {pattern!r}: {self._refused[pattern]}: name files more narrowly"
                    )
