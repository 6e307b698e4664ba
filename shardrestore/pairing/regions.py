"""What a tensor is, read off its name alone: region, tower, layer and module.

A name is split at its dots, and every component is judged by itself. There is no table of
architectures, so a model published tomorrow is classified by the words it shares with the
others, and on the Llama family the answer equals ParamRestore's substrings.

Two stretches of a name matter: what comes before the block index says which *tower* the
tensor belongs to (`towers`; there a name's neighbours have a say), what comes after it says
which *part* of the block it is::

    model.vision_tower.encoder.layers.3.self_attn.q_proj.weight
    ----------- tower ---------------- layer ------ part ------
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ..errors import RequestError
from .spelling import unwrap
from .towers import BLOCK, NO_TOWERS, Towers

__all__ = [
    "REGIONS",
    "Place",
    "Table",
    "find_table",
    "in_region",
    "is_input_embedding",
    "is_output_head",
    "locate",
]

REGIONS: tuple[str, ...] = ("transformer", "attention", "mlp", "embedding", "all")

_EXPERT_INDEX = re.compile(r"expert_\d+")  # Switch Transformers: experts.expert_3.wi
# gamma and beta are LayerNorm's weight and bias in BERT files from before 2019.
_LEAVES = frozenset({"weight", "bias", "weight_scale", "weight_scale_inv", "gamma", "beta"})

# q_norm, input_layernorm, pre_layrnorm (CLIP's spelling), norm1, ln_1, ln_f, ln_attn, ln2, pre_ln.
_NORM = re.compile(r"norm|(?:^|_)ln(?:_|\d|$)|^bn\d*$", re.IGNORECASE)
# These two stand after the residual sum wherever they hang (attention.output.LayerNorm in BERT,
# rel_attn.layer_norm in XLNet): the block's norms, unlike q_norm inside self_attn.
_RESIDUAL_NORMS = frozenset({"LayerNorm", "layer_norm"})

_PARTS = frozenset({"attentions", "ffns", "self_attends"})

# Containers, wherever they stand: self_attn, attn, attention, self_attention, linear_attn,
# crossattention, SelfAttention, EncDecAttention; mlp, ffn, feed_forward, block_sparse_moe ...
_CONTAINERS = {
    "attention": re.compile(
        r"\w*(?:attn|attention)s?\d*|self_attends|relative_attention_bias", re.IGNORECASE
    ),
    "mlp": re.compile(
        r"(?:\w+_)?(?:mlps?|ffn?s?|feed_?forward|moe)(?:_block|_output|_in|_out|\d)?"
        r"|(?:shared_)?experts?|router|DenseReluDense"
    ),
    "embedding": re.compile(r"(?:\w+_)?(?:embed|emb|embeddings?)(?:_\w+)?|wte|wpe|lm_heads?"),
}
# Modules that hang in the block, or in a mixer, without a container of their own: OPT and BART
# (fc1), BERT (intermediate.dense, output.dense), OLMo-1 (att_proj, ff_out), Nemotron-H
# (mixer.q_proj, mixer.up_proj, mixer.gate), NeMo (first_sub_layer.key_net). Not Mamba's in_proj,
# x_proj, dt_proj and out_proj.
_IN_BLOCK = {
    "attention": re.compile(
        r"(?:[qkvo]|qkv|att)_proj|[qkv]_lin|Wqkv|attn_out|(?:query|key|value)_net|out_projection"
    ),
    "mlp": re.compile(
        r"fc\d|fc_in|fc_out|lin\d|dense_in|dense_out|intermediate\w*|output(?:_query)?"
        r"|(?:gate|up|down|gate_up)_proj|ff_proj|ff_out|gate"
    ),
    "embedding": re.compile(r"shared_head"),  # DeepSeek's block for multi-token prediction
}
# Without these two modules of one block would share a name (intermediate.dense, output.dense).
_QUALIFIERS = frozenset({"experts", "shared_expert", "shared_experts", "intermediate", "output"})

# Ends of names that named_parameters() does not list, though older checkpoints hold them.
_BUFFER = re.compile(
    r"(?:.*\.)?(?:"
    r"\w*inv_freq|rotary_\w+\.\w+|rope\.freqs|lerope\.alpha|(?:cos|sin)_cached"  # rotary tables
    r"|masked_bias|causal_mask|attn_mask|relative_position_index"  # masks
    r"|position_ids|token_type_ids|embed_positions(?:\.weights)?"  # (sinusoidal) positions
    r"|num_batches_tracked|running_(?:mean|var)|global_(?:mean|invstd)"  # statistics
    r"|(?:input|output)_(?:min|max)"  # Gemma 4's clipping bounds
    r"|e_score_correction_bias|expert_bias|tid2eid"  # routing state, not trained by gradients
    r"|final_logits_bias|embed_scale|layer_scalar|normalizer|mup_vector"  # constants
    r"|pos_idx_to_embed|summary_idxs|layer_multipliers|codebook\.\w+"  # tables of integers, codecs
    r"|balancing_biases|router_bias"  # routing state under other names
    r"|(?:act|fc|weight|bias|norm)_scaling_factor|x_(?:min|max)|LayerNorm\.shift"  # I-BERT
    r"|(?:weight|bias)_integer"
    r"|slope_rate|(?:query|key|diagonal)_decay|act_fn\.(?:beta|eps)"  # MiniMax, Apertus
    r")"
)
# Names of real models have below 150 characters; a hostile one of a megabyte must
# not keep the expressions above busy for minutes.
_LONGEST_NAME = 512

_CAUSAL_MASK_DIMENSIONS = 4  # attn.bias of GPT-2 and GPT-NeoX is a mask [1, 1, n, n]

_OUTPUT_HEAD = re.compile(
    r"(?:.*\.)?(?:lm_head(?:\.decoder|\.linear|\.out_proj)?|generator_lm_head|embed_out|output_layer"
    r"|vocab_projector|lm_loss|predictions(?:\.decoder)?|head\.decoder"
    r"|output_projection|pred_layer\.proj|unembed)\.(?:weight|bias)"
    r"|(?:(?:language_model|model)\.)?output\.(?:weight|bias)"  # Meta's Llama files, InternLM2
    r"|(?:decoder|proj_out|head|cls)\.(?:weight|bias)"  # ModernBERT, Whisper, RWKV, UltraBERT
    r"|log_softmax\.mlp\.layer\d+\.(?:weight|bias)"  # NeMo
)
_INPUT_EMBEDDING = re.compile(
    r"(?:.*\.)?(?:embed_tokens|wte|embed_in|(?:word|input)_embeddings?|tok_embeddings"
    r"|tokens_embed|token_embedding|embeddings?|shared)\.weight"
    r"|transformer\.w\.weight"  # CTRL
)


# In blocks for multi-token prediction: DeepSeek's layers.61.embed_tokens and shared_head.head.
_EMBEDDING_IN_BLOCK = re.compile(
    r"(?:embed_tokens|(?:word|tok|input)_embeddings?|wte|embedding)\.weight"
)
_HEAD_IN_BLOCK = re.compile(r"(?:shared_head(?:\.(?:lm_)?head)?|lm_head|output_head)\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the model a tensor sits."""

    kind: str
    """``attention``, ``mlp``, ``embedding``, ``norm`` or ``other``."""
    tower: str
    """One of ``TOWERS``."""
    layer: int | None
    """Index of the transformer block within its tower; None outside the blocks."""
    module: str
    """Name of the leaf module without indices: ``q_proj``, ``experts.down_proj``."""
    buffer: bool
    """Not a trained parameter: in no region, not even ``all``."""


def locate(name: str, shape: tuple[int, ...], towers: Towers = NO_TOWERS) -> Place:
    """Say what the tensor called `name` is.

    Parameters
    ----------
    name : str
        Full name, as it stands in the checkpoint or in ``named_parameters()``.
    shape : tuple of int
        Its shape, which only serves to distinguish a 4-dimensional causal mask called ``bias``
        from a bias.
    towers : Towers
        What the other names of its checkpoint say, see ``find_towers``.

    Examples
    --------
    >>> locate("model.layers.3.mlp.experts.7.down_proj.weight", (64, 32))
    Place(kind='mlp', tower='language', layer=3, module='experts.down_proj', buffer=False)
    """
    name = unwrap(name[-_LONGEST_NAME:])
    head, layer, path = _split(name)
    owner = _owner(name, layer is not None, path)
    module = ".".join(path[-2:] if len(path) > 1 and path[-2] in _QUALIFIERS else path[-1:])
    return Place(
        kind="norm" if _role(path[-1], layer is not None) == "norm" else owner,
        tower=towers.locate(head),
        layer=layer,
        module=module,
        buffer=is_buffer(name, shape),
    )


def in_region(name: str, shape: tuple[int, ...], region: str, towers: Towers = NO_TOWERS) -> bool:
    """Say whether the tensor takes part when `region` is restored.

    ``transformer`` is everything in the language model's blocks except norms, and except the
    tables and heads that blocks for multi-token prediction hold. ``attention`` and
    ``mlp`` include the norms inside them (``q_norm``), not those around them. ``all`` is every
    parameter of every tower.

    Raises
    ------
    RequestError
        If `region` is not one of `REGIONS`.

    Examples
    --------
    >>> in_region("transformer.h.0.attn.c_attn.weight", (768, 2304), "attention")
    True
    """
    if region not in REGIONS:
        raise RequestError(f"region {region!r}: choose one of {', '.join(REGIONS)}")
    name = unwrap(name[-_LONGEST_NAME:])
    if is_buffer(name, shape):
        return False
    if region == "all":
        return True
    head, layer, path = _split(name)
    if towers.locate(head) != "language":
        return False
    in_block = layer is not None
    owner = _owner(name, in_block, path)
    if region == "transformer":
        return in_block and owner != "embedding" and _role(path[-1], in_block) != "norm"
    return owner == region


def is_output_head(name: str) -> bool:
    """Say whether `name` is the language model's output projection (``lm_head.weight``)."""
    return name.endswith(".weight") and _fits_outside_blocks(_OUTPUT_HEAD, name)


def is_input_embedding(name: str) -> bool:
    """Say whether `name` is the language model's token embedding (``embed_tokens.weight``).

    Encoder-decoder files may hold several (``shared``, ``encoder.embed_tokens``): aliases.
    """
    return _fits_outside_blocks(_INPUT_EMBEDDING, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a row for each token: what may be one and the same under several names."""

    tower: str
    """One of ``TOWERS``."""
    is_head: bool
    """An output head; else an input embedding."""
    is_bias: bool
    """A head's bias."""
    is_shared: bool
    """By its name the one embedding of encoder and decoder."""
    in_block: bool
    """In a block: a copy for multi-token prediction."""


def find_table(name: str, towers: Towers = NO_TOWERS) -> Table | None:
    """Say which table of tokens `name` is; None if it is none.

    Examples
    --------
    >>> find_table("model.layers.61.shared_head.head.weight").in_block
    True
    """
    if len(name) > _LONGEST_NAME:
        return None
    name = unwrap(name)
    head, layer, _ = _split(name)
    if layer is None:
        is_head = _OUTPUT_HEAD.fullmatch(name) is not None
        is_embedding = _INPUT_EMBEDDING.fullmatch(name) is not None
    else:
        inside = name[BLOCK.search(name).end() :]  # type: ignore[union-attr]
        is_head = _HEAD_IN_BLOCK.fullmatch(inside) is not None
        is_embedding = _EMBEDDING_IN_BLOCK.fullmatch(inside) is not None
    if not (is_head or is_embedding):
        return None
    return Table(
        tower=towers.locate(head),
        is_head=is_head,
        is_bias=name.endswith(".bias"),
        is_shared=name.endswith("shared.weight"),
        in_block=layer is not None,
    )


def _fits_outside_blocks(pattern: re.Pattern[str], name: str) -> bool:
    """Leave out DeepSeek's ``model.layers.61.embed_tokens``, a copy for token prediction."""
    if len(name) > _LONGEST_NAME:
        return False
    name = unwrap(name)
    head, layer, _ = _split(name)
    return (
        layer is None
        and NO_TOWERS.locate(head) == "language"
        and pattern.fullmatch(name) is not None
    )


def _split(name: str) -> tuple[str, int | None, list[str]]:
    """Return what marks the tower, the block's index, and the module's path in the block.

    The path holds neither indices nor a trailing ``weight`` or ``bias``, and is never empty. It
    begins with the blocks' container where that is a part of a block (XLM's ``attentions``).
    """
    block = BLOCK.search(name)
    components = (name[block.end() :] if block else name).split(".")
    if block and block[1] in _PARTS:
        components.insert(0, block[1])
    path = [c for c in components if not (c.isdecimal() or _EXPERT_INDEX.fullmatch(c))]
    while len(path) > 1 and path[-1] in _LEAVES:
        path.pop()
    if block is None:
        return name, None, path or components
    return name[: block.end(1)], int(block[2]), path or components


def _owner(name: str, in_block: bool, path: list[str]) -> str:
    """Return the outermost part that holds the tensor; ``other`` for a block's own norm."""
    if not in_block and (_OUTPUT_HEAD.fullmatch(name) or _INPUT_EMBEDDING.fullmatch(name)):
        return "embedding"
    is_norm = _role(path[-1], in_block) == "norm"
    if is_norm and path[-1] in _RESIDUAL_NORMS:
        return "other"
    role = next((r for c in path if (r := _role(c, in_block)) in _CONTAINERS), "other")
    return "other" if is_norm and role == "embedding" else role


def is_buffer(name: str, shape: tuple[int, ...] = ()) -> bool:
    """Whether a tensor is no parameter: a table, a mask, a count."""
    if len(shape) == _CAUSAL_MASK_DIMENSIONS and name.endswith(".bias"):
        return True
    tail = name[name.rfind(".", 0, name.rfind(".")) + 1 :]  # nothing in the table is longer
    return _ends_as_buffer(tail)


# A checkpoint of 46,000 tensors has a few hundred different components and a handful of towers,
# so these answers are kept: 0.2 s instead of 0.4 s for all of them.


@lru_cache(maxsize=4096)
def _ends_as_buffer(tail: str) -> bool:
    return _BUFFER.fullmatch(tail) is not None


@lru_cache(maxsize=4096)
def _role(component: str, in_block: bool) -> str:
    if _NORM.search(component):
        return "norm"
    for patterns in (_CONTAINERS, _IN_BLOCK) if in_block else (_CONTAINERS,):
        for role, pattern in patterns.items():
            if pattern.fullmatch(component):
                return role
    return "other"
