"""What a folder or a repository holds that is not to be opened as a model: one message for each.

Everything is read off names: nothing is opened. The kinds are looked for in the order of
``_KINDS``; the first that fits says what is there, and what to do.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..names import INDEX_FILE, SINGLE_FILE
from .entry import show_name
from .omission import TRAINING
from .weights import find_numbered, find_weights

MAX_LISTED_DEPTH = 5
"""How deep a folder is looked into: files of snapshots lie so deep below HF_HOME."""
MAX_LISTED_FILES = 10_000
"""How many names are looked at: any folder of a disk may be named by mistake."""

_SHARDED_STATE = re.compile(r".+\.distcp|(?:mp|zero_pp)_rank_\w+_states\.pt|zero_to_fp32\.py")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_OTHER_FORMATS = (".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".ot", ".tflite", ".npz", ".nemo")
_TRANSFORMERS_PICKLE = re.compile(r"pytorch_model(?:-\d+-of-\d+)?\.bin")
_VARIANT_INDEX = re.compile(r"[\w.-]+\.safetensors\.index(?:\.[\w-]+)?\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The files of a folder or of a repository, as far as it was looked into."""

    where: str
    """Name for messages; of a folder, its path."""
    folders: Mapping[str, Sequence[str]]
    """Names of the files in each folder, by its relative path; ``""`` is the top."""
    repository: str | None = None
    """Its id, if it is one on the Hub."""
    revision: str | None = None
    """Of the repository; None for the default branch."""

    @property
    def top(self) -> Sequence[str]:
        """Names of the files at the top."""
        return self.folders.get("", ())

    def find_folders(self, holds: Callable[[Sequence[str]], bool]) -> list[str]:
        """Return the folders below it whose files are such, ``checkpoint-1000`` after ``-500``."""
        found = [folder for folder, names in self.folders.items() if folder and holds(names)]
        return sorted(found, key=_by_number)

    @property
    def copy(self) -> str:
        """Folder that it is, or would be downloaded to."""
        return self.where if self.repository is None else self.repository.rpartition("/")[2]

    def download(self, include: str = "") -> str:
        """Return what is to be done before ``copy`` can be used: nothing for a folder."""
        if self.repository is None:
            return ""
        words = ["hf", "download", self.repository]
        words += ["--revision", self.revision] if self.revision else []
        words += ["--include", include] if include else []
        return f"download it by `{_command(*words, '--local-dir', self.copy)}`, then "


def by_folder(files: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of files by the folders that they lie in, both in order.

    Examples
    --------
    >>> by_folder(["b/x", "a", "b/c/y"])
    {'': ['a'], 'b': ['x'], 'b/c': ['y']}
    """
    folders: dict[str, list[str]] = {}
    for folder, name in sorted((file.rpartition("/")[0], file) for file in files):
        folders.setdefault(folder, []).append(name.rpartition("/")[2])
    return folders


def explain_absence(contents: Contents) -> str:
    """Say what is there instead of a model, and the next step."""
    said = (explain(contents) for explain in _KINDS)
    return f"{contents.where}: {next(text for text in said if text is not None)}"


def _command(*words: str) -> str:
    """Return a command for a shell; names in it are not its own, and may hold anything."""
    safe = (one if one.isprintable() and len(one) <= 1000 else show_name(one) for one in words)
    return shlex.join(safe)


def _by_number(path: str) -> tuple[list[tuple[str, int]], str]:
    parts = re.findall(r"(\D*)(\d*)", path)
    return [(text, int(number[:18] or -1)) for text, number in parts], path


def _is_model(names: Sequence[str]) -> bool:
    return find_weights(names, {}) is not None


def _is_adapter(names: Sequence[str]) -> bool:
    return any(name.startswith("adapter_model.") or name == "adapter_config.json" for name in names)


def _is_state(name: str) -> bool:
    return TRAINING.applies_to(name, at_top=True)


def _has_safetensors(names: Sequence[str]) -> bool:
    return any(name.endswith(".safetensors") for name in names)


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(show_name, names[:3])) + more


def _name_part(contents: Contents, folders: Sequence[str], chosen: str) -> str:
    """Return the next step where models lie in folders below."""
    what = "it" if len(folders) == 1 else "one of them"
    part = _command(f"{contents.copy}/{chosen}")
    return f"{_list(folders)}: {contents.download(f'{chosen}/*')}name {what}: {part}"


def _explain_cache(contents: Contents) -> str | None:
    """The folder of a repository in the Hub's cache, or that of all repositories."""
    found = contents.find_folders(_is_model)
    found = [folder for folder in found if "snapshots" in PurePosixPath(folder).parts[-2:-1]]
    if not found or contents.repository is not None:
        return None
    return f"a folder of the Hub's cache; models lie in {_name_part(contents, found, found[-1])}"


def _explain_adapter(contents: Contents) -> str | None:
    place = f" ({_list([name for name in contents.top if _is_adapter([name])])})"
    if not _is_adapter(contents.top):
        adapters = contents.find_folders(_is_adapter)
        if not adapters or contents.find_folders(_is_model):
            return None
        place = f" in {_list(adapters)}"
    return (
        f"holds an adapter{place}, not a model: merge it into its base first (peft: "
        "merge_and_unload, then save_pretrained), and name the merged model"
    )


def _explain_shards(contents: Contents) -> str | None:
    """Numbered shards that are not all there, or of several models."""
    sets = find_numbered(contents.top)
    if not sets:
        return None
    if len(sets) > 1:
        first = ", ".join(show_name(one.shards[0]) for one in sets[:3])
        return (
            f"holds several sets of shards and no index; they begin with {first}: keep one model "
            "in the folder, and move the others elsewhere"
        )
    missing = ", ".join(map(str, sets[0].missing))
    return (
        f"holds {len(sets[0].shards)} of {sets[0].count} shards and no index; there is no number "
        f"{missing}: copy or download what is missing"
    )


def _explain_parts(contents: Contents) -> str | None:
    """A pipeline, a training's folder, or several models."""
    pipeline = "model_index.json" in contents.top
    models = contents.find_folders(_is_model)
    if pipeline and not models:
        models = contents.find_folders(_has_safetensors)
    steps = [folder for folder in models if "checkpoint-" in folder]
    parts = [folder for folder in models if folder not in steps]
    if not models:
        return None
    what = "holds no model, but others do, below it"
    if pipeline:
        what = "a pipeline of diffusers, whose models lie below it"
    elif not parts:
        what = "a training's folder, whose models lie below it"
    chosen = parts[0] if parts else steps[-1]
    return f"{what}, in {_name_part(contents, parts or steps, chosen)}"


def _explain_misnamed(contents: Contents) -> str | None:
    """Weights in safetensors, or an index of them, that no library takes for a model's."""
    indexes = [name for name in contents.top if _VARIANT_INDEX.fullmatch(name)]
    found = indexes or [name for name in contents.top if name.endswith(".safetensors")]
    if not found:
        return None
    usual = INDEX_FILE if indexes else SINGLE_FILE
    link = _command("ln", "-s", found[0], f"{contents.copy}/{usual}")
    which = "the one that is the model" if len(found) > 1 else "it"
    return (
        f"neither {SINGLE_FILE} nor {INDEX_FILE}; it holds only {_list(found)}: "
        f"{contents.download()}give {which} the usual name by a link, `{link}`: restored models "
        "have that name too"
    )


def _explain_sharded_state(contents: Contents) -> str | None:
    everywhere = [name for names in contents.folders.values() for name in names]
    found = [name for name in everywhere if _SHARDED_STATE.fullmatch(name)]
    if not found:
        return None
    return (
        f"holds the state of a distributed training ({_list(found)}), not a model: export it "
        "(DeepSpeed: zero_to_fp32.py with --safe_serialization; FSDP: accelerate merge-weights), "
        "and name what that makes"
    )


def _explain_pickles(contents: Contents) -> str | None:
    found = [name for name in contents.top if name.endswith(_PICKLES)]
    found = [name for name in found if not _is_state(name)]
    if not found:
        return None
    usual = [name for name in found if _TRANSFORMERS_PICKLE.fullmatch(name)]
    by_transformers = bool(usual) and "config.json" in contents.top
    chosen = (usual or found)[0]
    convert = _convert_model(contents) if by_transformers else _convert_file(contents, chosen)
    return f"holds {show_name(chosen)} but no safetensors. Convert it: {convert}"


def _convert_model(contents: Contents) -> str:
    source = json.dumps(contents.where)
    if contents.repository is not None:
        revision = f", revision={json.dumps(contents.revision)}" if contents.revision else ""
        source = f"{json.dumps(contents.repository)}{revision}"
    code = (
        "from transformers import AutoModelForCausalLM as M; "
        f"M.from_pretrained({source}).save_pretrained({json.dumps(f'{contents.copy}-safetensors')})"
    )
    return f"{_command('python', '-c', code)} and copy the tokenizer files along"


def _convert_file(contents: Contents, name: str) -> str:
    copy = f"{contents.copy}-safetensors"
    code = (
        "import os, torch; from safetensors.torch import save_file; "
        f'weights = torch.load({json.dumps(f"{contents.copy}/{name}")}, "cpu", weights_only=True); '
        f"os.makedirs({json.dumps(copy)}, exist_ok=True); "
        "save_file({name: weights[name].clone() for name in weights}, "
        f"{json.dumps(f'{copy}/{SINGLE_FILE}')})"
    )
    command = _command("python", "-c", code)
    return f"{contents.download(name)}{command} and copy configuration and tokenizer along"


def _explain_other_format(contents: Contents) -> str | None:
    found = [name for name in contents.top if name.endswith(_OTHER_FORMATS)]
    if not found:
        return None
    return (
        f"holds {_list(found)}, in a format that is not read: name the safetensors that it was "
        "made from"
    )


def _explain_state(contents: Contents) -> str | None:
    found = [name for name in contents.top if _is_state(name)]
    if not found:
        return None
    return (
        f"holds what a training keeps to go on ({_list(found)}), but no weights: name the folder "
        "that the model was saved to"
    )


def _explain_nothing(contents: Contents) -> str:
    found = f", only {_list(contents.top)}" if contents.top else ""
    return (
        f"neither {SINGLE_FILE} nor {INDEX_FILE}; it holds no safetensors file{found}: name the "
        "folder of the model, or download it again if that was not finished"
    )


_KINDS: tuple[Callable[[Contents], str | None], ...] = (
    _explain_cache,
    _explain_adapter,
    _explain_shards,
    _explain_parts,
    _explain_misnamed,
    _explain_sharded_state,
    _explain_pickles,
    _explain_other_format,
    _explain_state,
    _explain_nothing,
)
