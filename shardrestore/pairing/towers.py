"""Which model inside a checkpoint a tensor belongs to: the language model, or a tower beside it.

Most towers say it in their names (``vision_tower``, ``talker``). Others do not:
``model.encoder.layers.0.fc1`` is a text encoder's in BART and a speech encoder's in Whisper.
There the neighbours decide. A *stack* is a numbered run of blocks, named by what comes before
the number; if a checkpoint has several, a stack beside which patches or a waveform enter
(``patch_embed``, ``conv1``) and no tokens is a tower of its own.

Names decide alone, because profiles, tables and modules in memory have names but no
``config.json``, and all of them must agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from .spelling import unwrap

__all__ = ["BLOCK", "NO_TOWERS", "TOWERS", "Towers", "find_towers"]

TOWERS: tuple[str, ...] = ("language", "vision", "audio", "generator", "projector", "other")
"""What a tensor's tower may be, in the order of tables."""

BLOCK = re.compile(
    # layers (Llama), layer (BERT), h (GPT-2), block (T5), blocks (MPT), resblocks (CLIP),
    # albert_layer_groups. wav2vec2's conv_layers are a feature extractor.
    r"(?:^|\.)(h|(?!conv)\w*(?:layers?|blocks?|layer_groups)"
    # XLM numbers the parts of its blocks, one list for each; Perceiver its self-attentions.
    r"|attentions|ffns|self_attends)\.(\d+)\."
)
"""A container that numbers blocks (1), and the number (2)."""

# Words before the block that mark a tower. Collected from the child modules of every multimodal
# model in transformers 5.23, and from remote code (InternVL's mlp1, MiniCPM's vpm and apm). Not
# visual_bert and audio_spectrogram_transformer: those prefixes name a whole single-tower model.
# A projector wins over the tower that holds it (visual.merger, vision_model.vision_adapter).
_WORDS = {
    "projector": re.compile(
        r"(?:multi_?modal_|mm_|patch_|image_|audio_|speech_|vision_)?projector"
        r"|(?:layerwise|spatial)_projectors|patch_merge_mlp"
        r"|(?:modality|language|visual|vision|audio|image|img|speech|sound)_projection\w*"
        r"|\w*(?:connector|resampler(?:_model)?|qformer|aligner)|\w*merger(?:_list)?"
        r"|vision_adapter|embed_(?:vision|audio)|query_tokens|mlp1"
    ),
    # Speech, pictures and actions that are made, not read: Qwen-Omni's talker, Janus, pi0.
    "generator": re.compile(
        r"talker|code_predictor|diffusion_head|dit|gemma_expert|action_\w+"
        r"|generation_(?:embeddings|head)"
    ),
    "vision": re.compile(
        r"(?!visual_bert)(?:high_res_)?(?:vision|visual|image|img|video)(?:_\w+)?|vpm|vqmodel"
        r"|sam_model|qwen2_model"  # DeepSeek-OCR 2 reads pictures with a Qwen2
    ),
    "audio": re.compile(
        r"(?!audio_spectrogram)(?:audio|speech|sound|acoustic)(?:_\w+)?|apm|\w+2wav"
        r"|perception|codec_model|\w+_tokenizer_(?:encoder|decoder)|(?:ctc|word)_timestamp\w*"
    ),
    "other": re.compile(r"protein_encoder|patcher"),
}

_LANGUAGE = frozenset({"language_model", "text_model", "llm", "thinker"})
_DECODER = re.compile(r"\w*decoder")
# What stands where patches, a waveform or a spectrogram enter a stack, outside its blocks.
_FRONTS = {
    "vision": re.compile(
        r"patch_embed(?:s|der|ding|dings)?|patch_projection|patchifier|embed_patches"
    ),
    "audio": re.compile(
        r"conv\d*|conv_layers|subsample\w*|subsampling|pre_encode"
        r"|feature_(?:extractor|encoder|projection)"
    ),
}
_TOKENS = re.compile(r"embed_tokens|wte|word_embeddings?|tok_embeddings|token_embeddings?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Towers:
    """Towers of a checkpoint that only its names together show."""

    prefixes: tuple[tuple[str, str], ...] = ()
    """Beginning of names, up to a dot, and the tower."""

    def locate(self, head: str) -> str:
        """Return the tower of a tensor by what comes before its block."""
        return _locate(head, self.prefixes)


NO_TOWERS = Towers()
"""Where single names say enough."""


def find_towers(names: Iterable[str]) -> Towers:
    """Find the towers that a checkpoint's names show only together.

    Examples
    --------
    >>> find_towers(["vit.patch_embed.w", "vit.layers.0.fc1.w", "model.layers.0.fc1.w"]).prefixes
    (('vit', 'vision'),)
    """
    stacks: set[str] = set()
    outside: set[str] = set()
    for name in map(unwrap, names):
        block = BLOCK.search(name)
        if block is None:
            outside.add(name.rpartition(".")[0])
        elif _front((head := name[: block.start()]).split(".")):
            outside.add(head)  # the numbered convolutions of an encoder's front
        else:
            stacks.add(name[: block.end(1)])
    language = [stack for stack in sorted(stacks) if _by_word(stack) == "language"]
    found = _find_unnamed(language) | _find_fronts(language, outside)
    return Towers(prefixes=tuple(sorted(found.items())))


def _find_unnamed(stacks: list[str]) -> dict[str, str]:
    """Where one stack says that it is the language model's, others are not.

    Not so the decoder of an encoder that says it (T5Gemma 2).
    """
    parts = {stack: stack.split(".")[:-1] for stack in stacks}
    if not any(_LANGUAGE.intersection(components) for components in parts.values()):
        return {}
    return {
        ".".join(components) or stack: "other"
        for stack, components in parts.items()
        if not _LANGUAGE.intersection(components)
        and not any(_DECODER.fullmatch(component) for component in components)
    }


def _find_fronts(stacks: list[str], outside: set[str]) -> dict[str, str]:
    """Return the roots of stacks that read pictures or sound, of several in a checkpoint."""
    found: dict[str, str] = {}
    roots = {root for stack in stacks if (root := _find_root(stack, stacks)) is not None}
    for root in sorted(roots):
        own = [module.split(".") for module in outside if _lies_in(module, root)]
        if any(_TOKENS.fullmatch(component) for parts in own for component in parts):
            continue
        fronts = {front for parts in own if (front := _front(parts))}
        if fronts:
            found[root] = "vision" if "vision" in fronts else "audio"
    if {"blocks", "layers"} <= set(stacks) and "patch_embed.proj" in outside:
        # Cosmos 3 stores both models without a prefix: the vision model as Qwen-VL's.
        found |= dict.fromkeys(("blocks", "patch_embed", "pos_embed"), "vision")
    return found


def _find_root(stack: str, stacks: list[str]) -> str | None:
    """Return the shortest prefix under which only this model's stacks lie."""
    parts = stack.split(".")[:-1]
    prefix = ".".join(parts)
    for length in range(1, len(parts) + 1):
        root = ".".join(parts[:length])
        if all(
            other.rpartition(".")[0] == prefix or not _lies_in(other, root) for other in stacks
        ) and not all(_lies_in(other, root) for other in stacks):
            return root
    return None


def _lies_in(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")


def _front(components: list[str]) -> str | None:
    for tower, pattern in _FRONTS.items():
        if any(pattern.fullmatch(component) for component in components):
            return tower
    return None


# A checkpoint of 46,000 tensors has a few hundred different components and a handful of towers,
# so these answers are kept.


@lru_cache(maxsize=4096)
def _locate(head: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    tower = _by_word(head)
    if tower != "language":
        return tower
    return next((tower for root, tower in prefixes if _lies_in(head, root)), "language")


@lru_cache(maxsize=4096)
def _by_word(head: str) -> str:
    components = head.split(".")
    for tower, pattern in _WORDS.items():
        if any(pattern.fullmatch(component) for component in components):
            return tower
    return "language"
