"""Regions by name: a table of real names, and models of transformers as the judge."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from shardrestore.errors import RequestError
from shardrestore.pairing.regions import (
    REGIONS,
    in_region,
    is_input_embedding,
    is_output_head,
    locate,
)

# Regions beside `all`, by the sign that opens a line of the table.
SIGNS = {
    "A": {"transformer", "attention"},
    "M": {"transformer", "mlp"},
    "T": {"transformer"},  # in a block, neither attention nor mlp: a mixer, a gate
    "E": {"embedding"},
    "a": {"attention"},  # a norm inside attention, a bias shared by all blocks
    "m": {"mlp"},  # a norm inside the mlp
    "-": set(),  # only in `all`: norms, other heads, other towers
    "X": set(),  # a buffer: not even in `all`
}

# Names as they stand on disk (from model.safetensors.index.json files) or in memory.
NAMES = {
    "Llama, Mistral, Qwen2": """
        E model.embed_tokens.weight
        A model.layers.0.self_attn.q_proj.weight
        A model.layers.31.self_attn.k_proj.bias
        A model.layers.0.self_attn.o_proj.weight
        M model.layers.0.mlp.gate_proj.weight
        M model.layers.0.mlp.down_proj.weight
        - model.layers.0.input_layernorm.weight
        - model.layers.0.post_attention_layernorm.weight
        - model.norm.weight
        E lm_head.weight
        X model.layers.0.self_attn.rotary_emb.inv_freq
        X model.rotary_emb.inv_freq""",
    "Llama, Meta's own files": """
        E tok_embeddings.weight
        A layers.0.attention.wq.weight
        M layers.0.feed_forward.w1.weight
        - layers.0.attention_norm.weight
        - layers.0.ffn_norm.weight
        - norm.weight
        E output.weight
        X rope.freqs""",
    "Qwen3, Gemma 3, OLMo 2": """
        a model.layers.0.self_attn.q_norm.weight
        a model.layers.0.self_attn.k_norm.weight
        - model.layers.0.pre_feedforward_layernorm.weight
        - model.layers.0.post_feedforward_layernorm.weight
        - model.layers.0.post_attention_layernorm.weight""",
    "Phi-3": """
        A model.layers.0.self_attn.qkv_proj.weight
        M model.layers.0.mlp.gate_up_proj.weight""",
    "BitNet": """
        a model.layers.0.self_attn.attn_sub_norm.weight
        m model.layers.0.mlp.ffn_sub_norm.weight""",
    "Mixtral": """
        M model.layers.0.block_sparse_moe.gate.weight
        M model.layers.0.block_sparse_moe.experts.7.w1.weight
        M model.layers.0.mlp.experts.gate_up_proj""",
    "Qwen2-MoE, Qwen3-MoE": """
        M model.layers.0.mlp.gate.weight
        M model.layers.0.mlp.experts.59.up_proj.weight
        M model.layers.0.mlp.shared_expert.down_proj.weight
        M model.layers.0.mlp.shared_expert_gate.weight""",
    "DeepSeek-V2, V3": """
        A model.layers.3.self_attn.q_a_proj.weight
        a model.layers.3.self_attn.q_a_layernorm.weight
        A model.layers.3.self_attn.kv_a_proj_with_mqa.weight
        a model.layers.3.self_attn.kv_a_layernorm.weight
        M model.layers.3.mlp.experts.255.down_proj.weight
        M model.layers.3.mlp.shared_experts.up_proj.weight
        X model.layers.3.mlp.gate.e_score_correction_bias
        - model.layers.61.enorm.weight
        T model.layers.61.eh_proj.weight
        E model.layers.61.embed_tokens.weight
        E model.layers.61.shared_head.head.weight
        - model.layers.61.shared_head.norm.weight""",
    "XLM, Perceiver: lists of parts": """
        A transformer.attentions.0.q_lin.weight
        M transformer.ffns.0.lin1.weight
        E pred_layer.proj.weight
        A perceiver.encoder.self_attends.0.attention.self.query.weight""",
    "NeMo": """
        A model.transf_decoder._decoder.layers.0.first_sub_layer.key_net.weight
        M model.transf_decoder._decoder.layers.0.third_sub_layer.dense_in.weight
        E log_softmax.mlp.layer0.weight""",
    "heads and tables by other names": """
        E head.weight
        E model.llm.unembed.weight
        E output_projection.weight
        E transformer.w.weight
        E lm_head.out_proj.weight
        E lm_heads.0.weight""",
    "generators, codecs and others": """
        - talker.model.layers.0.self_attn.q_proj.weight
        - talker.model.embed_tokens.weight
        - model.diffusion_head.layers.0.ffn.down_proj.weight
        - model.dit.layers.0.mlp.up_proj.weight
        - codec_model.decoder_transformer.layers.0.mlp.fc1.weight
        - perception.encoder.layers.0.feed_forward1.linear1.weight
        - model.semantic_tokenizer_encoder.stem.conv.weight
        - model.sam_model.blocks.0.attn.qkv.weight
        - model.protein_encoder.model.layers.0.fc1.weight
        - model.patcher.layers.0.mlp.up_proj.weight
        A thinker.model.layers.0.self_attn.q_proj.weight""",
    "gpt-oss": """
        A model.layers.0.self_attn.sinks
        M model.layers.0.mlp.router.weight
        M model.layers.0.mlp.experts.gate_up_proj_bias""",
    "Qwen3-Next": """
        A model.layers.0.linear_attn.in_proj_qkvz.weight
        A model.layers.0.linear_attn.conv1d.weight
        A model.layers.0.linear_attn.A_log
        A model.layers.0.linear_attn.dt_bias
        a model.layers.0.linear_attn.norm.weight""",
    "GPT-2": """
        E transformer.wte.weight
        E wte.weight
        E wpe.weight
        A transformer.h.0.attn.c_attn.weight
        A h.0.attn.c_attn.weight
        A h.11.attn.c_proj.bias
        M h.0.mlp.c_fc.weight
        - h.0.ln_1.weight
        - transformer.ln_f.bias
        X transformer.h.0.attn.masked_bias""",
    "GPT-NeoX": """
        E gpt_neox.embed_in.weight
        A gpt_neox.layers.0.attention.query_key_value.weight
        A gpt_neox.layers.0.attention.dense.bias
        M gpt_neox.layers.0.mlp.dense_h_to_4h.weight
        - gpt_neox.layers.0.post_attention_layernorm.bias
        - gpt_neox.final_layer_norm.weight
        E embed_out.weight
        X gpt_neox.layers.0.attention.masked_bias
        X gpt_neox.layers.0.attention.rotary_emb.inv_freq""",
    "GPT-J": """
        A transformer.h.0.attn.out_proj.weight
        M transformer.h.0.mlp.fc_in.weight
        X transformer.h.0.attn.embed_positions""",
    "OPT": """
        E model.decoder.embed_positions.weight
        A model.decoder.layers.0.self_attn.out_proj.bias
        M model.decoder.layers.0.fc1.weight
        M model.decoder.layers.0.fc2.bias
        - model.decoder.layers.0.self_attn_layer_norm.weight
        - model.decoder.layers.0.final_layer_norm.weight
        - model.decoder.final_layer_norm.weight""",
    "Falcon, BLOOM": """
        E transformer.word_embeddings.weight
        - transformer.word_embeddings_layernorm.weight
        A transformer.h.0.self_attention.query_key_value.weight
        M transformer.h.0.mlp.dense_4h_to_h.weight
        - transformer.h.0.ln_attn.weight
        - transformer.h.0.ln_mlp.bias""",
    "Phi": """
        A model.layers.0.self_attn.dense.weight
        M model.layers.0.mlp.fc2.bias
        - model.final_layernorm.bias
        E lm_head.bias""",
    "MPT, DBRX": """
        A transformer.blocks.0.attn.Wqkv.weight
        M transformer.blocks.0.ffn.up_proj.weight
        - transformer.blocks.0.norm_1.weight
        - transformer.norm_f.weight
        A transformer.blocks.0.norm_attn_norm.attn.Wqkv.weight
        M transformer.blocks.0.ffn.experts.mlp.w1
        M transformer.blocks.0.ffn.router.layer.weight""",
    "StableLM": """
        a model.layers.0.self_attn.q_layernorm.norms.31.weight""",
    "ChatGLM": """
        E transformer.embedding.word_embeddings.weight
        A transformer.encoder.layers.0.self_attention.query_key_value.weight
        E transformer.output_layer.weight""",
    "InternLM2": """
        E model.tok_embeddings.weight
        A model.layers.0.attention.wqkv.weight
        M model.layers.0.feed_forward.w2.weight""",
    "BERT, RoBERTa": """
        E bert.embeddings.word_embeddings.weight
        E bert.embeddings.token_type_embeddings.weight
        - bert.embeddings.LayerNorm.weight
        A bert.encoder.layer.0.attention.self.query.weight
        A bert.encoder.layer.0.attention.output.dense.weight
        - bert.encoder.layer.0.attention.output.LayerNorm.weight
        - bert.encoder.layer.0.attention.output.LayerNorm.gamma
        M bert.encoder.layer.0.intermediate.dense.weight
        M bert.encoder.layer.0.output.dense.weight
        - bert.encoder.layer.0.output.LayerNorm.bias
        - bert.pooler.dense.weight
        - cls.predictions.transform.dense.weight
        E cls.predictions.decoder.weight
        X bert.embeddings.position_ids
        X roberta.embeddings.token_type_ids
        A roberta_prelayernorm.encoder.layer.0.attention.self.query.weight""",
    "DistilBERT": """
        A distilbert.transformer.layer.0.attention.q_lin.weight
        M distilbert.transformer.layer.0.ffn.lin1.weight
        - distilbert.transformer.layer.0.sa_layer_norm.weight
        E vocab_projector.weight""",
    "ModernBERT": """
        E model.embeddings.tok_embeddings.weight
        - model.embeddings.norm.weight
        A model.layers.0.attn.Wqkv.weight
        - model.layers.1.attn_norm.weight
        M model.layers.0.mlp.Wi.weight
        E decoder.weight""",
    "MPNet, ALBERT, XLNet": """
        a mpnet.encoder.relative_attention_bias.weight
        - mpnet.encoder.layer.0.attention.LayerNorm.weight
        A albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight
        M albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output.weight
        A transformer.layer.0.rel_attn.r_w_bias
        - transformer.layer.0.rel_attn.layer_norm.weight
        M transformer.layer.0.ff.layer_1.weight""",
    "T5": """
        E shared.weight
        A encoder.block.0.layer.0.SelfAttention.q.weight
        A encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight
        - encoder.block.0.layer.0.layer_norm.weight
        A decoder.block.3.layer.1.EncDecAttention.k.weight
        M decoder.block.3.layer.2.DenseReluDense.wi_0.weight
        - decoder.final_layer_norm.weight""",
    "BART, Whisper": """
        E model.shared.weight
        A model.decoder.layers.0.encoder_attn.k_proj.weight
        - model.decoder.layers.0.encoder_attn_layer_norm.weight
        M model.encoder.layers.0.fc1.weight
        - model.encoder.layernorm_embedding.weight
        X final_logits_bias
        - model.encoder.conv1.weight""",
    "Mamba, Jamba, Nemotron-H": """
        E backbone.embeddings.weight
        T backbone.layers.0.mixer.A_log
        T backbone.layers.0.mixer.out_proj.weight
        - backbone.layers.0.norm.weight
        T model.layers.0.mamba.in_proj.weight
        - model.layers.0.mamba.dt_layernorm.weight
        M model.layers.1.feed_forward.experts.0.gate_proj.weight
        A backbone.layers.4.mixer.q_proj.weight
        M backbone.layers.5.mixer.up_proj.weight""",
    "LLaVA": """
        - vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight
        - model.vision_tower.encoder.layers.0.mlp.fc1.weight
        - vision_tower.vision_model.embeddings.patch_embedding.weight
        X vision_tower.vision_model.embeddings.position_ids
        - multi_modal_projector.linear_1.weight
        - model.mm_projector.0.weight
        - image_newline
        A language_model.model.layers.0.self_attn.q_proj.weight
        E language_model.model.embed_tokens.weight
        E language_model.lm_head.weight""",
    "Qwen2-VL, 2.5-VL, 3-VL": """
        - visual.blocks.0.attn.qkv.weight
        - model.visual.blocks.0.mlp.gate_proj.weight
        - visual.patch_embed.proj.weight
        - visual.merger.mlp.0.weight
        - model.visual.deepstack_merger_list.0.linear_fc1.weight
        A model.language_model.layers.0.self_attn.q_proj.weight""",
    "Gemma 3, multimodal": """
        - model.vision_tower.vision_model.head.attention.in_proj_weight
        - multi_modal_projector.mm_input_projection_weight
        - model.embed_vision.embedding_projection.weight
        a language_model.model.layers.0.self_attn.q_norm.weight""",
    "Mllama": """
        - vision_model.global_transformer.layers.0.self_attn.q_proj.weight
        - vision_model.gated_positional_embedding.embedding
        - multi_modal_projector.weight
        A language_model.model.layers.3.cross_attn.q_proj.weight
        a language_model.model.layers.3.cross_attn.k_norm.weight
        T language_model.model.layers.3.cross_attn_mlp_gate""",
    "Idefics, SmolVLM": """
        - model.connector.modality_projection.proj.weight
        - model.connector.perceiver_resampler.layers.0.self_attn.q_proj.weight
        M model.text_model.layers.0.mlp.up_proj.weight""",
    "Qwen2-Audio": """
        - audio_tower.layers.0.self_attn.k_proj.weight
        - audio_tower.layers.0.fc1.weight
        - audio_tower.embed_positions.weight""",
    "InternVL": """
        - vision_model.encoder.layers.0.attn.qkv.weight
        - vision_model.encoder.layers.0.mlp.fc1.weight
        - mlp1.1.weight
        E language_model.model.tok_embeddings.weight
        E language_model.output.weight""",
    "CLIP": """
        - vision_model.encoder.layers.0.self_attn.q_proj.weight
        A text_model.encoder.layers.0.self_attn.q_proj.weight
        E text_model.embeddings.token_embedding.weight
        - logit_scale""",
    "nothing but a vision or audio encoder": """
        A vit.encoder.layer.0.attention.attention.query.weight
        M vit.encoder.layer.0.intermediate.dense.weight
        - vit.encoder.layer.0.layernorm_before.weight
        E vit.embeddings.patch_embeddings.projection.weight
        A wav2vec2.encoder.layers.0.attention.k_proj.weight
        M wav2vec2.encoder.layers.0.feed_forward.intermediate_dense.weight
        A visual_bert.encoder.layer.0.attention.self.query.weight
        - wav2vec2.feature_extractor.conv_layers.0.conv.weight
        X bn.num_batches_tracked
        X bn.running_mean""",
}


def table() -> Iterator[tuple[str, str]]:
    """Yield each name with its sign."""
    for lines in NAMES.values():
        for line in lines.split("\n")[1:]:
            sign, name = line.split()
            yield name, sign


def regions_of(name: str, shape: tuple[int, ...] = (8, 8)) -> set[str]:
    return {region for region in REGIONS if in_region(name, shape, region)}


def test_real_names_lie_in_the_regions_their_modules_belong_to() -> None:
    for name, sign in table():
        expected = SIGNS[sign] | ({"all"} if sign != "X" else set())
        assert regions_of(name) == expected, name


@pytest.mark.parametrize("name", ["h.0.attn.bias", "gpt_neox.layers.0.attention.bias"])
def test_a_bias_of_four_dimensions_is_a_causal_mask(name: str) -> None:
    assert locate(name, (1, 1, 1024, 1024)).buffer
    assert regions_of(name, (1, 1, 1024, 1024)) == set()
    assert regions_of(name, (1024,)) == {"transformer", "attention", "all"}


@pytest.mark.parametrize(
    ("name", "layer", "module", "kind", "tower"),
    [
        ("model.layers.17.self_attn.q_proj.weight", 17, "q_proj", "attention", "language"),
        ("model.layers.17.self_attn.q_norm.weight", 17, "q_norm", "norm", "language"),
        ("h.3.attn.c_attn.bias", 3, "c_attn", "attention", "language"),
        ("model.layers.2.mlp.experts.7.w1.weight", 2, "experts.w1", "mlp", "language"),
        ("model.layers.2.mlp.experts.down_proj", 2, "experts.down_proj", "mlp", "language"),
        ("encoder.block.4.layer.1.DenseReluDense.wo.weight", 4, "wo", "mlp", "language"),
        ("encoder.layer.5.output.dense.weight", 5, "output.dense", "mlp", "language"),
        ("model.layers.0.linear_attn.A_log", 0, "A_log", "attention", "language"),
        ("backbone.layers.9.mixer.in_proj.weight", 9, "in_proj", "other", "language"),
        ("model.embed_tokens.weight", None, "embed_tokens", "embedding", "language"),
        ("model.norm.weight", None, "norm", "norm", "language"),
        ("visual.blocks.6.attn.qkv.weight", 6, "qkv", "attention", "vision"),
        ("visual.merger.mlp.0.weight", None, "mlp", "mlp", "projector"),
        ("audio_tower.layers.1.fc1.weight", 1, "fc1", "mlp", "audio"),
        ("logit_scale", None, "logit_scale", "other", "language"),
    ],
)
def test_a_place_names_layer_module_kind_and_tower(
    name: str, layer: int | None, module: str, kind: str, tower: str
) -> None:
    place = locate(name, (8, 8))
    assert (place.layer, place.module, place.kind, place.tower) == (layer, module, kind, tower)


def test_copies_of_the_embedding_inside_blocks_or_towers_do_not_serve_tying() -> None:
    assert not is_input_embedding("model.layers.61.embed_tokens.weight")
    assert not is_input_embedding("qformer.embeddings.word_embeddings.weight")
    assert not is_output_head("vision_model.head.weight")
    assert not is_output_head("lm_head.dense.weight")
    assert not is_output_head("lm_head.bias")


def test_an_unknown_region_is_refused_with_the_choices() -> None:
    with pytest.raises(RequestError, match=r"'layers'.*transformer, attention, mlp, embedding"):
        in_region("lm_head.weight", (8, 8), "layers")


def test_a_name_is_classified_in_a_bounded_number_of_calls() -> None:
    """Mixture-of-Experts models have 46,000 names: calls are counted, time is the machine's."""
    names = [
        f"model.layers.{layer}.mlp.experts.{expert}.{projection}_proj.weight"
        for layer in range(4)
        for expert in range(16)
        for projection in ("gate", "up", "down")
    ]
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    locate(names[0], (2048, 7168))  # what is made once, for all names
    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        for name in names:
            locate(name, (2048, 7168))
    finally:
        sys.setprofile(previous)
    assert calls <= 64 * len(names)  # 31 when this was written


# Models of transformers, built without storage, are the judge of everything below.

LLAMA_FAMILY = {
    "LlamaForCausalLM": {"attention_bias": True, "mlp_bias": True},
    "MistralForCausalLM": {},
    "Qwen2ForCausalLM": {},
    "Qwen3ForCausalLM": {},
    "GemmaForCausalLM": {},
    "Gemma2ForCausalLM": {},
    "Gemma3ForCausalLM": {},
    "Phi3ForCausalLM": {},
    "Olmo2ForCausalLM": {},
}
TWO_LAYERS = {"num_hidden_layers": 2}
MODELS: dict[str, dict[str, Any]] = {
    **LLAMA_FAMILY,
    "GPT2LMHeadModel": {},
    "GPTNeoXForCausalLM": {},
    "GPTJForCausalLM": {},
    "OPTForCausalLM": {},
    "FalconForCausalLM": {"bias": True},
    "BloomForCausalLM": {},
    "PhiForCausalLM": {"qk_layernorm": True},
    "MixtralForCausalLM": {},
    "Qwen2MoeForCausalLM": {},
    "Qwen3MoeForCausalLM": {},
    "DeepseekV3ForCausalLM": {"num_hidden_layers": 4},
    "BertForMaskedLM": {},
    "RobertaForMaskedLM": {},
    "DistilBertForMaskedLM": {},
    "T5ForConditionalGeneration": {},
    "BartForConditionalGeneration": {"encoder_layers": 2, "decoder_layers": 2},
    "WhisperForConditionalGeneration": {"encoder_layers": 2, "decoder_layers": 2},
    "Starcoder2ForCausalLM": {},
    "StableLmForCausalLM": {"qk_layernorm": True},
    "CohereForCausalLM": {"use_qk_norm": True},
    "MptForCausalLM": {},
    "Qwen3NextForCausalLM": {"num_hidden_layers": 4},
    "LlavaForConditionalGeneration": {"vision_config": {"model_type": "clip_vision_model"}},
    "Qwen2VLForConditionalGeneration": {"vision_config": {"depth": 2}},
    "Qwen3VLForConditionalGeneration": {"vision_config": {"depth": 2}},
    "Gemma3ForConditionalGeneration": {"vision_config": TWO_LAYERS},
    "MllamaForConditionalGeneration": {"vision_config": TWO_LAYERS},
    "Idefics3ForConditionalGeneration": {"vision_config": TWO_LAYERS},
    "Qwen2AudioForConditionalGeneration": {},
    "InternVLForConditionalGeneration": {"vision_config": TWO_LAYERS},
}
LANGUAGE_MODELS = ("language_model", "text_model")

NORM_CLASS = re.compile(r"Norm")
ATTENTION_CLASS = re.compile(r"Attention\d?$|GatedDeltaNet$")
MLP_CLASS = re.compile(
    r"(?:MLP\w?|Experts?|MoE|MoeBlock|FeedForward|FFN|LayerFF|Intermediate|TopKRouter)$"
)


@dataclass(frozen=True)
class Parameter:
    """One parameter with what its modules, not its name, say about it."""

    name: str
    shape: tuple[int, ...]
    layer: int | None
    classes: tuple[str, ...]
    language: bool

    def is_norm(self) -> bool:
        return bool(NORM_CLASS.search(self.classes[-1]))

    def within(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(cls) for cls in self.classes)


@cache
def build(architecture: str) -> Any:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    cls = getattr(transformers, architecture)
    options = dict(MODELS[architecture])
    if "ConditionalGeneration" not in architecture:
        options.setdefault("num_hidden_layers", 2)
    with torch.device("meta"):
        return cls(cls.config_class(**options))


def parameters(architecture: str) -> list[Parameter]:
    model = build(architecture)
    modules = dict(model.named_modules())
    inner = getattr(model, "model", model)
    towers = [getattr(inner, name) for name in LANGUAGE_MODELS if hasattr(inner, name)]
    towers = [*towers, model.get_output_embeddings()] if towers else [model]
    language = {id(p) for tower in towers for p in tower.parameters()}
    found = []
    for name, parameter in model.named_parameters():
        parts = name.split(".")[:-1]
        chain = [modules[".".join(parts[:i])] for i in range(1, len(parts) + 1)]
        classes = tuple(type(module).__name__ for module in chain) or ("",)
        lists = [i for i, cls in enumerate(classes[:-1]) if cls == "ModuleList"]
        found.append(
            Parameter(
                name=name,
                shape=tuple(parameter.shape),
                layer=int(parts[lists[0] + 1]) if lists else None,
                classes=classes,
                language=id(parameter) in language,
            )
        )
    assert found
    return found


def published_rule(name: str, region: str) -> bool:
    """Repeat ParamRestore's substrings."""
    return {
        "transformer": "layers" in name and "norm" not in name,
        "attention": "self_attn." in name,
        "mlp": "mlp." in name,
        "embedding": "embed_tokens" in name or "lm_head" in name,
        "all": True,
    }[region]


def test_on_the_llama_family_regions_equal_the_published_substrings() -> None:
    for region, architecture in itertools.product(REGIONS, LLAMA_FAMILY):
        for p in parameters(architecture):
            assert in_region(p.name, p.shape, region) == published_rule(p.name, region), p.name


def test_attention_and_mlp_are_what_their_module_classes_say() -> None:
    for architecture in MODELS:
        judged = 0
        for p in parameters(architecture):
            if not p.language or p.is_norm():
                continue
            owner = (
                "attention" if p.within(ATTENTION_CLASS) else "mlp" if p.within(MLP_CLASS) else None
            )
            if owner:
                judged += 1
                assert locate(p.name, p.shape).kind == owner, p
                assert in_region(p.name, p.shape, owner), p
                assert not in_region(p.name, p.shape, "embedding"), p
        assert judged


def test_transformer_is_every_block_parameter_but_norms() -> None:
    for architecture in MODELS:
        for p in parameters(architecture):
            expected = p.language and p.layer is not None and not p.is_norm()
            assert in_region(p.name, p.shape, "transformer") == expected, p
            assert (locate(p.name, p.shape).kind == "norm") == p.is_norm(), p


def test_attention_and_mlp_share_nothing_and_leave_little_of_the_blocks() -> None:
    for architecture in MODELS:
        rest = set()
        for p in parameters(architecture):
            attention, mlp = (in_region(p.name, p.shape, region) for region in ("attention", "mlp"))
            assert not (attention and mlp), p
            if in_region(p.name, p.shape, "transformer") and not (attention or mlp):
                rest.add(locate(p.name, p.shape).module)
        assert rest <= {
            "cross_attn_attn_gate",
            "cross_attn_mlp_gate",
        }  # Mllama's gates of the residual


def test_layer_is_the_index_in_the_outermost_module_list() -> None:
    for architecture in MODELS:
        for p in parameters(architecture):
            if p.language:
                assert locate(p.name, p.shape).layer == p.layer, p


def test_other_towers_take_part_in_nothing_but_all() -> None:
    for architecture in MODELS:
        for p in parameters(architecture):
            assert (locate(p.name, p.shape).tower == "language") == p.language, p
            if not p.language:
                assert regions_of(p.name, p.shape) == {"all"}, p


def test_embedding_holds_every_embedding_table_outside_the_blocks() -> None:
    for architecture in MODELS:
        for p in parameters(architecture):
            if p.language and p.layer is None and "Embedding" in p.classes[-1]:
                assert in_region(p.name, p.shape, "embedding"), p


def test_tied_ends_are_recognised_under_every_alias() -> None:
    for architecture in MODELS:
        model = build(architecture)
        named = list(model.named_modules(remove_duplicate=False))
        for end, recognises in (
            (model.get_input_embeddings(), is_input_embedding),
            (model.get_output_embeddings(), is_output_head),
        ):
            aliases = [f"{name}.weight" for name, module in named if module is end]
            assert aliases
            for alias in aliases:
                assert recognises(alias), alias
                assert regions_of(alias) == {"embedding", "all"}
        tables = [p.name for p in parameters(architecture) if is_input_embedding(p.name)]
        heads = [p.name for p in parameters(architecture) if is_output_head(p.name)]
        assert len(tables) == 1
        assert len(heads) <= 1


def test_saved_buffers_are_in_no_region_and_parameters_are_no_buffers() -> None:
    for architecture in MODELS:
        model = build(architecture)
        saved = model.state_dict()
        for name, buffer in model.named_buffers():
            if name in saved:
                assert regions_of(name, tuple(buffer.shape)) == set(), name
        for name, parameter in model.named_parameters():
            assert not locate(name, tuple(parameter.shape)).buffer, name


def test_regions_are_as_large_under_the_names_on_disk_as_in_memory() -> None:
    for architecture in MODELS:
        loading = pytest.importorskip("transformers.core_model_loading")
        model = build(architecture)
        in_memory = model.state_dict()
        on_disk = loading.revert_weight_conversion(model, in_memory)

        def sizes(tensors: dict[str, Any]) -> dict[str, int]:
            return {
                region: sum(
                    t.numel() for name, t in tensors.items() if in_region(name, t.shape, region)
                )
                for region in REGIONS
            }

        assert sizes(on_disk) == sizes(in_memory)
