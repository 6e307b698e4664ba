"""A target that is the folder of a whole pipeline still is one: its own library loads it back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

import shardrestore
from tests.support.runs import BUDGET

WIDTH, PROJECTED = 32, 16
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
TYPES = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}


def write_embedder(folder: Path, seed: int) -> None:
    """Write a sentence embedder: an encoder, pooling, and a projection with its own weights."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=64, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    documents: dict[str, object] = {
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer"},
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": False},
        "modules.json": [
            {"idx": number, "name": str(number), "path": path,
             "type": f"sentence_transformers.models.{name}"}
            for number, (path, name) in enumerate(TYPES.items())
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True,
        },
        "2_Dense/config.json": {
            "in_features": WIDTH, "out_features": PROJECTED, "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }  # fmt: skip
    for name, document in documents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(document))
    projection = {
        "linear.weight": torch.randn(PROJECTED, WIDTH),
        "linear.bias": torch.randn(PROJECTED),
    }
    save_file(projection, folder / "2_Dense" / "model.safetensors", metadata={"format": "pt"})


# What it brings warns of its own changes.
@pytest.mark.filterwarnings("default")
def test_a_sentence_embedder_embeds_with_the_target_s_projection(tmp_path: Path) -> None:
    library = pytest.importorskip(
        "sentence_transformers", reason="pip install sentence-transformers"
    )
    for side, seed in (("base", 0), ("target", 1)):
        write_embedder(tmp_path / side, seed)
    output = tmp_path / "out"
    result = shardrestore.restore(
        tmp_path / "base", tmp_path / "target", output, percent=20, max_memory=BUDGET
    )
    assert [file.name for file in result.files.copied.not_restored] == ["2_Dense/model.safetensors"]
    embedder = library.SentenceTransformer(str(output), device="cpu")
    assert embedder.encode(["hello world"]).shape == (1, PROJECTED)
    projection = load_file(tmp_path / "target" / "2_Dense" / "model.safetensors")
    state = {name.removeprefix("2."): tensor for name, tensor in embedder.state_dict().items()}
    assert all(torch.equal(state[name], tensor) for name, tensor in projection.items())
    restored = load_file(output / "model.safetensors")
    encoder = BertModel.from_pretrained(output).state_dict()
    assert all(torch.equal(encoder[name], tensor) for name, tensor in restored.items())
