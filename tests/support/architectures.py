"""Every language model that transformers can build, small and without storage.

What a parameter is gets read off the module tree: the classes of the modules that hold it, the
model's own word for its embedding and its head, the configuration of each model inside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

LAYERS = 4
"""Blocks of a stack; hybrids repeat their pattern within so many, or are named below."""
EXPERTS = 8

_MAPPINGS = (
    "CAUSAL_LM",
    "IMAGE_TEXT_TO_TEXT",
    "MULTIMODAL_LM",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "MASKED_LM",
    "SPEECH_SEQ_2_SEQ",
)

NOT_BUILT = {
    "FastVlmForConditionalGeneration": "its vision model wants timm",
    "Gemma3nForConditionalGeneration": "its vision model wants timm",
    "PerceptionLMForConditionalGeneration": "its vision model wants timm",
    "InklingForConditionalGeneration": "wants scipy",
    "Gemma4AssistantForCausalLM": "no default configuration passes its own checks",
}

_INDEXER = {
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 64,
}
_ROPES = {kind: {"rope_type": "default", "rope_theta": 1e4}
          for kind in ("full_attention", "sliding_attention")}  # fmt: skip
_KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 2, "rope_parameters": _ROPES}
_NEEDS: dict[str, dict[str, Any]] = {
    "AyaVisionForConditionalGeneration": {"vision_config.num_attention_heads": 16},
    "ChameleonForConditionalGeneration": {"vocabulary_map": {"<image>": 4}},
    "CohereCompassForCausalLM": _KINDS,
    "CohereCompassForConditionalGeneration": {f"text_config.{k}": v for k, v in _KINDS.items()},
    "DbrxForCausalLM": {"attn_config.rope_theta": 1e4},
    "DeepseekOcr2ForConditionalGeneration": {
        "text_config.mlp_layer_types": ["dense", "sparse"] * 2
    },
    "DiffusionGemmaForBlockDiffusion": {
        "text_config.num_experts": EXPERTS,
        "text_config.moe_intermediate_size": 64,
        "text_config.top_k_experts": 2,
    },
    "Dots1ForCausalLM": {"n_routed_experts": EXPERTS, "n_shared_experts": 1},
    "Emu3ForConditionalGeneration": {"vocabulary_map": {"<image>": 4, "<|extra_200|>": 5}},
    "EsmForMaskedLM": {"vocab_size": 33, "pad_token_id": 1},
    "Gemma3nForCausalLM": {"num_kv_shared_layers": 0},
    "Gemma4UnifiedAssistantForCausalLM": {"text_config.num_kv_shared_layers": 0},
    "Granite4VisionForConditionalGeneration": {
        "deepstack_layer_map": [[0, 0]],
        "downsample_rate": "1/2",
    },
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"] * 2},
    "MoonshineStreamingForConditionalGeneration": {"num_key_value_heads": 8},
    "Qwen3OmniMoeForConditionalGeneration": {
        "talker_config.text_config.shared_expert_intermediate_size": 64,
        "talker_config.spatial_merge_size": 2,
    },
    "Qwen4ExpForCausalLM": _INDEXER,
    "Qwen4ExpForConditionalGeneration": {f"text_config.{k}": v for k, v in _INDEXER.items()},
    "ReformerModelWithLMHead": {"is_decoder": True},
    "ZambaForCausalLM": {"layers_block_type": ["linear_attention", "hybrid"] * 2},
}
"""What default configurations lack, or what lacks after they were made small."""

_LAYERS = re.compile(r"(?!.*adapter)(?:\w+_)?layers|depths?|n_layer|num_blocks")
_EXPERTS = re.compile(r"(?:n_routed|num_local|num_routed|moe_num|num|n)_experts")


@cache
def architectures() -> tuple[str, ...]:
    """Return the names of all classes that have a language model in them."""
    from transformers.models.auto import modeling_auto

    names: dict[str, None] = {}
    for mapping in _MAPPINGS:
        for classes in getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES").values():
            names |= dict.fromkeys([classes] if isinstance(classes, str) else classes)
    return tuple(names)


def build(architecture: str) -> Any:
    """Return a model on the meta device."""
    import torch
    import transformers

    cls = getattr(transformers, architecture)
    config = cls.config_class()
    _shrink(config, 6 if architecture == "JambaForCausalLM" else LAYERS)
    for path, value in _NEEDS.get(architecture, {}).items():
        *owners, last = path.split(".")
        owner = config
        for name in owners:
            owner = getattr(owner, name)
        setattr(owner, last, value)
    with torch.device("meta"):
        return cls(config)


def _shrink(config: Any, layers: int) -> None:
    values = vars(config)
    before = values.get(config.attribute_map.get("num_hidden_layers", "num_hidden_layers"))
    for key, value in list(values.items()):
        if hasattr(value, "attribute_map"):
            _shrink(value, layers)
        elif type(value) is int and _LAYERS.fullmatch(key):
            values[key] = min(value, layers)
        elif type(value) is int and _EXPERTS.fullmatch(key):
            values[key] = min(value, EXPERTS)
        elif isinstance(value, list) and type(before) is int and len(value) == before > layers:
            values[key] = _shorten(value, layers)
    if values.get("head_dim", 0) is None:
        values["head_dim"] = 64
    if values.get("num_key_value_heads", 0) is None:
        values["num_key_value_heads"] = values.get("num_attention_heads")


def _shorten(kinds: list[Any], length: int) -> list[Any]:
    """Keep one block of every kind; DOTS wants those with an index in place."""
    if not all(isinstance(kind, str) for kind in kinds) or "indexed_attention" in kinds:
        return kinds[:length]
    return [*dict.fromkeys(kinds), *[kinds[-1]] * length][:length]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the module tree says of an entry of a state dictionary."""

    shape: tuple[int, ...]
    parameter: bool
    """Whether it is a parameter, no buffer."""
    language: bool
    """Whether it is the language model's."""
    in_block: bool
    norm: bool
    table: bool
    """Whether it is an embedding table, or the output head."""
    owner: str | None
    """``attention`` or ``mlp`` by the innermost class that is one."""

    @property
    def in_transformer(self) -> bool:
        """Whether it is in the default region."""
        return (
            self.parameter
            and self.language
            and self.in_block
            and not self.norm
            and (not self.table or self.owner == "attention")
        )


_NORM = re.compile(r"Norm")
_TABLE = re.compile(r"Embedding$")
_OWNERS = {
    "attention": re.compile(
        r"(?!.*(?:Layer|Block|Attend))\w*(?:Attention\w{0,8}|GatedDeltaNet|Attn|MLA)"
    ),
    "mlp": re.compile(
        r"\w*(?:MLP\w?|Experts?|MoE|Moe|MoeBlock|FeedForward|FFN|LayerFF|Intermediate"
        r"|Router)"
    ),
}
_TEXT_INPUTS = {"input_ids", "inputs_embeds", "decoder_input_ids"}


def read_truth(model: Any) -> dict[str, Truth]:
    """Return what the module tree says, for every name in the model's state dictionary."""
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    speaker = _Speaker(model)
    found = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")[:-1]
        chain = [modules[".".join(parts[:depth])] for depth in range(1, len(parts) + 1)]
        classes = [type(module).__name__ for module in chain]
        owner = classes[-1] if classes else ""
        found[name] = Truth(
            shape=tuple(tensor.shape),
            parameter=name in parameters,
            language=speaker.owns(chain),
            in_block="ModuleList" in classes[:-1],
            norm=bool(_NORM.search(owner)),
            table=bool(_TABLE.search(owner)) or any(module in speaker.ends for module in chain),
            owner=next(_owners(classes), None),
        )
    return found


def _owners(classes: list[str]) -> Iterator[str]:
    for cls in reversed(classes):
        for owner, pattern in _OWNERS.items():
            if pattern.fullmatch(cls):
                yield owner


class _Speaker:
    """Which of a model's modules are its language model."""

    def __init__(self, model: Any) -> None:
        self._root = model
        config = model.config
        # A decoder of an encoder-decoder has a configuration of the same class.
        self._text = config.get_text_config(decoder=True)
        if hasattr(model, "thinker"):  # the Omni models: its talker speaks, but no language
            self._text = config.thinker_config.get_text_config()
        self.inputs = _end(model, "input")
        self.ends = [*self.inputs, *_end(model, "output")]

    def owns(self, chain: list[Any]) -> bool:
        composite = type(self._text) is not type(self._root.config)
        for module in chain:
            if module in self.ends:
                return True
            if not hasattr(module, "main_input_name"):
                continue  # a layer, no model
            holds_input = any(end in module.modules() for end in self.inputs)
            if not holds_input and module.main_input_name not in _TEXT_INPUTS:
                return False
            if composite and type(module.config) is type(self._text):
                return True
            if not holds_input and type(module.config) is not type(self._root.config):
                return False
        return not composite


def _end(model: Any, end: str) -> list[Any]:
    """Return the model's embedding or head, if it has one that is a module of its own."""
    try:
        found = getattr(model, f"get_{end}_embeddings")()
    except (NotImplementedError, AttributeError):
        return []
    return [found] if hasattr(found, "modules") else []
