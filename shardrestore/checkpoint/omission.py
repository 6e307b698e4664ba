"""What a restored model does without: the files of a target that are not copied, and why.

Everything else beside the shards is copied, whatever it is. Names decide, as the tools that write
such files choose them: a file that no rule knows may be a part of the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from pathlib import PurePosixPath

from ..names import INDEX_FILE, OWN_FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class Omission:
    """A kind of files that are not copied."""

    reason: str
    """Why not, as the end of a line that begins with a file's name."""
    keepable: bool = True
    """Whether ``--keep`` can overrule it."""
    at_top: tuple[str, ...] = ()
    """Patterns of files, or of folders with ``/`` at their end, beside the shards."""
    anywhere: tuple[str, ...] = ()
    """Patterns of files and folders in any folder."""
    _rules: tuple[re.Pattern[str], re.Pattern[str]] = field(init=False)

    def __post_init__(self) -> None:
        rules = _compile((*self.at_top, *self.anywhere)), _compile(self.anywhere)
        object.__setattr__(self, "_rules", rules)

    def applies_to(self, name: str, *, at_top: bool) -> bool:
        """Whether it names this file or, with ``/`` at its end, this folder."""
        return self._rules[not at_top].fullmatch(name) is not None


def _compile(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or "(?!)")


HIDDEN = Omission(reason="hidden", keepable=False, anywhere=(".*",))
"""Version control and caches; the folder in which a model grows uses such names, too."""

REPORT = Omission(
    reason="a report of an earlier restoration",
    keepable=False,
    at_top=tuple(name + end for name in sorted(OWN_FILES) for end in ("", "/")),
)
"""The output gets reports of its own."""

OVERRULED = Omission(
    reason="the same weights once more: model.safetensors is read, as transformers does",
    keepable=False,
    at_top=(INDEX_FILE, "model-*-of-*.safetensors"),
)
"""An index beside ``model.safetensors``. Programs that look for it first would load its shards,
which are not restored."""

_FORMATS = "fp16 bf16 fp32 fp8 int8 int4 8bit 4bit"

DUPLICATE = Omission(
    reason="the same weights in another format",
    at_top=(
        *("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
        *("tf_model*.h5", "tf_model*.h5.index.json", "rust_model.ot"),
        *("flax_model*.msgpack", "flax_model*.msgpack.index.json"),
        *("model*.onnx", "model*.onnx_data", "decoder_*model*.onnx*", "encoder_model*.onnx*"),
        *("openvino_*model*.xml", "openvino_*model*.bin"),
        *("consolidated*.safetensors", "consolidated*.pth", "consolidated*.index.json"),
        *("ggml-model*.bin", "weights*.npz", "model*.tflite", "[0-9]*.tflite", "model*.mlmodel"),
        *("onnx/", "openvino/", "original/", "coreml/", "*.mlpackage/"),
        *(
            f"{stem}{format}{end}"
            for format in _FORMATS.split()
            for stem, end in (
                ("model.", ".safetensors"),
                ("model.", "-*-of-*.safetensors"),
                ("model-*-of-*.", ".safetensors"),
                ("model.safetensors.index.", ".json"),
                ("pytorch_model.", ".bin"),
                ("pytorch_model.", "-*-of-*.bin"),
                ("pytorch_model.bin.index.", ".json"),
            )
        ),
    ),
    anywhere=("*.gguf", "*.ggml"),
)
"""They are the target's, unrestored: whatever loads them would contradict the shards.

In subfolders such names are the weights of modules, which are copied; only GGUF and GGML hold
whole models wherever they are. Variants are known by the formats they are named after.
"""

TRAINING = Omission(
    reason="the state of a training",
    at_top=("pytorch_model_fsdp*", "pytorch_model_fsdp*/", "mp_rank_*_model_states.pt"),
    anywhere=(
        *("optimizer*.pt", "optimizer*.bin", "optimizer*.pth", "optimizer*.safetensors"),
        *("optimizer/", "optimizer_*/", "*_optim_states.pt", "scaler.pt"),
        *("scheduler*.pt", "scheduler*.bin", "scheduler*.pth"),
        *("rng_state*.pth", "random_states_*.pkl", "training_args.bin"),
        *("*.distcp", "global_step*/", "checkpoint-*/", "last.ckpt", "epoch=*.ckpt"),
    ),
)
"""Of use to resume the training of the target, not of what is made of it.

``training_args.bin`` is a pickle that names folders of a machine. ``trainer_state.json`` is copied,
as all documents are: it says how the target was made. So is the ``scheduler/`` of a pipeline.
"""

LOG = Omission(reason="logs and caches", anywhere=("runs/", "wandb/", "__pycache__/"))

BACKUP = Omission(reason="a backup", anywhere=("*.bak", "*.orig", "*.old", "*~"))

_OMISSIONS = (HIDDEN, REPORT, DUPLICATE, TRAINING, LOG, BACKUP)

IRREGULAR = Omission(reason="not a regular file", keepable=False)
"""A device, a FIFO, a socket, a link that leads nowhere."""


def find_omission(name: str, *, overruled: bool = False) -> tuple[str, Omission] | None:
    """Return the part of a path that is not copied, and its kind; None if the file is copied.

    The part is the file, or a folder that it lies in, with ``/`` at its end.

    Parameters
    ----------
    name : str
        Relative to the checkpoint, with forward slashes.
    overruled : bool
        Whether ``model.safetensors`` is read and an index beside it is not.

    Examples
    --------
    >>> [find_omission(name) for name in ("tokenizer.json", "2_Dense/pytorch_model.bin")]
    [None, None]
    >>> part, kind = find_omission("onnx/model.onnx")
    >>> part, kind.reason
    ('onnx/', 'the same weights in another format')
    """
    folder, _, _ = name.rpartition("/")
    found = _find_folder(folder) if folder else None
    if found is not None:
        return found
    kind = _find_kind(name)
    if kind is None and overruled and OVERRULED.applies_to(name, at_top=True):
        kind = OVERRULED
    return None if kind is None else (name, kind)


@lru_cache(maxsize=1 << 10)
def _find_folder(name: str) -> tuple[str, Omission] | None:
    """Return the outermost folder on a path that is not copied."""
    for parent in reversed(PurePosixPath(f"{name}/x").parents[:-1]):
        kind = _find_kind(f"{parent}/")
        if kind is not None:
            return f"{parent}/", kind
    return None


def _find_kind(name: str) -> Omission | None:
    """Return the kind of a file or folder, whatever folders it lies in."""
    last = name.rstrip("/").rpartition("/")[2] + "/" * name.endswith("/")
    at_top = "/" not in name.rstrip("/")
    return next((kind for kind in _OMISSIONS if kind.applies_to(last, at_top=at_top)), None)
