"""Names decide what is not copied; a name that no rule knows is copied."""

from __future__ import annotations

import pytest

from shardrestore.checkpoint.omission import (
    BACKUP,
    DUPLICATE,
    HIDDEN,
    LOG,
    OVERRULED,
    REPORT,
    TRAINING,
    Omission,
    find_omission,
)

NEEDED = [
    "config.json",
    "modeling_tiny.py",
    "trainer_state.json",  # says how the target was made
    "zero_to_fp32.py",
    # Modules with weights of their own, by names that mean duplicates only beside the shards.
    "2_Dense/model.safetensors",
    "2_Dense/pytorch_model.bin",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "text_encoder/model.safetensors.index.json",
    "mel_vocoder/consolidated.pth",
    "scheduler/scheduler_config.json",
    "tokenizer/original/vocab.json",
    # Weights of other things.
    "spk_dict.pt",
    "speakers.bin",
    "value_head.safetensors",
    "v_head.bin",
    "mtp.safetensors",
    "model-mtp.safetensors",
    "model-00009-of-00009.safetensors",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "campplus.onnx",
    "speech_tokenizer_v2.onnx",
    "vad.tflite",
    "modelling.onnx.md",
    # Near misses.
    "checkpoint-500",
    "pytorch_model.py",
    "optimizer.py",
    "optimizer_config.json",
    "scheduler.json",
    "onnx",
    "docs/runs.md",
    "onnx_export/readme.md",
    "a/shardrestore.json",
    "old/config.json",
    "model.safe",
    "epoch.ckpt",
]

LEFT_OUT = [
    (DUPLICATE, "pytorch_model.bin"),
    (DUPLICATE, "pytorch_model-00001-of-00002.bin"),
    (DUPLICATE, "pytorch_model.bin.index.json"),
    (DUPLICATE, "pytorch_model.fp16.bin"),
    (DUPLICATE, "tf_model.h5"),
    (DUPLICATE, "tf_model-00001-of-00002.h5"),
    (DUPLICATE, "flax_model.msgpack"),
    (DUPLICATE, "flax_model.msgpack.index.json"),
    (DUPLICATE, "rust_model.ot"),
    (DUPLICATE, "model.onnx"),
    (DUPLICATE, "model_quantized.onnx"),
    (DUPLICATE, "model.onnx_data"),
    (DUPLICATE, "decoder_with_past_model_q4.onnx"),
    (DUPLICATE, "decoder_model_merged.onnx_data"),
    (DUPLICATE, "encoder_model.onnx"),
    (DUPLICATE, "onnx/model.onnx"),
    (DUPLICATE, "onnx/deep/er.json"),
    (DUPLICATE, "openvino/config.json"),
    (DUPLICATE, "openvino_model.bin"),
    (DUPLICATE, "openvino_language_model.xml"),
    (DUPLICATE, "original/consolidated.00.pth"),
    (DUPLICATE, "original/params.json"),
    (DUPLICATE, "consolidated.safetensors"),
    (DUPLICATE, "consolidated-00001-of-00002.safetensors"),
    (DUPLICATE, "consolidated.safetensors.index.json"),
    (DUPLICATE, "q4_k_m.gguf"),
    (DUPLICATE, "gguf/q4/model-00001-of-00003.gguf"),
    (DUPLICATE, "ggml-model-q4_0.bin"),
    (DUPLICATE, "weights.00.npz"),
    (DUPLICATE, "64.tflite"),
    (DUPLICATE, "coreml/model.mlpackage/Data/weights.bin"),
    (DUPLICATE, "model.fp16.safetensors"),
    (DUPLICATE, "model.fp16-00001-of-00002.safetensors"),
    (DUPLICATE, "model-00001-of-00002.fp16.safetensors"),
    (DUPLICATE, "model.safetensors.index.fp16.json"),
    (TRAINING, "optimizer.pt"),
    (TRAINING, "optimizer-00001.safetensors"),
    (TRAINING, "optimizer_0/__0_0.distcp"),
    (TRAINING, "scheduler.pt"),
    (TRAINING, "rng_state_7.pth"),
    (TRAINING, "random_states_0.pkl"),
    (TRAINING, "training_args.bin"),
    (TRAINING, "scaler.pt"),
    (TRAINING, "__1_0.distcp"),
    (TRAINING, "pytorch_model_fsdp_0/__0_0.distcp"),
    (TRAINING, "pytorch_model_fsdp.bin"),
    (TRAINING, "global_step500/mp_rank_00_model_states.pt"),
    (TRAINING, "checkpoint-500/model.safetensors"),
    (TRAINING, "runs-of-mine/checkpoint-best/config.json"),
    (TRAINING, "last.ckpt"),
    (TRAINING, "epoch=3-step=900.ckpt"),
    (LOG, "runs/Nov28/events.out.tfevents.1"),
    (LOG, "wandb/latest-run/files/config.yaml"),
    (LOG, "a/__pycache__/modeling_tiny.cpython-311.pyc"),
    (BACKUP, "model.safetensors.bak"),
    (BACKUP, "config.json~"),
    (BACKUP, "2_Dense/config.json.orig"),
    (HIDDEN, ".gitattributes"),
    (HIDDEN, ".git/lfs/objects/ab/cd"),
    (HIDDEN, "a/.cache/x"),
    (REPORT, "shardrestore.json"),
    (REPORT, "SHA256SUMS"),
    (REPORT, "report.html/x"),
]


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_model_may_need_is_copied(name: str) -> None:
    assert find_omission(name) is None


@pytest.mark.parametrize(("kind", "name"), LEFT_OUT, ids=[name for _, name in LEFT_OUT])
def test_duplicates_states_of_trainings_and_leftovers_are_left_out(
    kind: Omission, name: str
) -> None:
    found = find_omission(name)
    assert found is not None
    part, why = found
    assert why is kind
    assert name == part or (part.endswith("/") and name.startswith(part))


def test_the_outermost_folder_is_named() -> None:
    assert find_omission("a/checkpoint-5/onnx/.cache/x") == ("a/checkpoint-5/", TRAINING)


@pytest.mark.parametrize(
    "name", ["model.safetensors.index.json", "model-00001-of-00002.safetensors"]
)
def test_an_index_and_its_shards_are_left_out_where_a_single_file_is_read(name: str) -> None:
    assert find_omission(name) is None
    assert find_omission(name, overruled=True) == (name, OVERRULED)
    assert find_omission(f"text_encoder/{name}", overruled=True) is None


def test_what_is_nobodys_or_ours_cannot_be_kept() -> None:
    assert [kind.keepable for kind in (HIDDEN, REPORT, OVERRULED)] == [False] * 3
    assert [kind.keepable for kind in (DUPLICATE, TRAINING, LOG, BACKUP)] == [True] * 4
