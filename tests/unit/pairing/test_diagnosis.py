"""One cause behind many mismatches is named first, with what helps against it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import shardrestore
from tests.support.checkpoints import Stored, store, write_checkpoint

LINEAR = [
    f"model.layers.{layer}.{module}"
    for layer in (0, 1)
    for module in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj")
]
OTHERS = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]


def full(factor: float = 1.0) -> dict[str, Stored]:
    names = [f"{name}.weight" for name in LINEAR] + OTHERS
    return {
        name: store([factor * (n + i) for i in range(64)], "BF16", (8, 8))
        for n, name in enumerate(names)
    }


def codes(dtype: str, *shape: int) -> Stored:
    size = {"U8": 1, "I8": 1, "F8_E4M3": 1, "I32": 4}[dtype]
    for length in shape:
        size *= length
    return Stored(dtype, shape, bytes(size))


def bitsandbytes() -> dict[str, Stored]:
    stored = full()
    for name in LINEAR:
        stored[f"{name}.weight"] = codes("U8", 32, 1)
        stored[f"{name}.weight.absmax"] = codes("U8", 1)
        stored[f"{name}.weight.quant_state.bitsandbytes__nf4"] = codes("U8", 9)
    return stored


def gptq() -> dict[str, Stored]:
    stored = {name: one for name, one in full().items() if name in OTHERS}
    for name in LINEAR:
        stored[f"{name}.qweight"] = codes("I32", 1, 8)
        stored[f"{name}.qzeros"] = codes("I32", 1, 1)
        stored[f"{name}.scales"] = store([[1.0] * 8], "F16", (1, 8))
    return stored


def fp8() -> dict[str, Stored]:
    stored = full()
    for name in LINEAR:
        stored[f"{name}.weight"] = codes("F8_E4M3", 8, 8)
        stored[f"{name}.weight_scale_inv"] = store([[1.0]], "F32", (1, 1))
    return stored


def eight_bits() -> dict[str, Stored]:
    stored = full()
    for name in LINEAR:
        stored[f"{name}.weight"] = codes("I8", 8, 8)
        stored[f"{name}.SCB"] = store([1.0] * 8, "F32", (8,))
    return stored


QUANTISED = {
    "bitsandbytes": (bitsandbytes, {"quant_method": "bitsandbytes", "load_in_4bit": True},
                     "bitsandbytes, 4 bits"),
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4}, "gptq, 4 bits"),
    "fp8": (fp8, {"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    "bitsandbytes_without_config": (bitsandbytes, None, "bitsandbytes, 4 bits"),
    "eight_bits_without_config": (eight_bits, None, "bitsandbytes, 8 bits"),
    "gptq_without_config": (gptq, None, "GPTQ or AWQ"),
    "fp8_without_config": (fp8, None, "FP8 or FP4"),
}  # fmt: skip


def write(folder: Path, tensors: Mapping[str, Stored], settings: object = None) -> None:
    config = {"quantization_config": settings} if settings else {}
    write_checkpoint(folder, tensors, side_files={"config.json": json.dumps(config).encode()})


def plan(folder: Path, **options: Any) -> shardrestore.Plan:
    return shardrestore.plan(
        folder / "base", folder / "target", percent=10, max_memory="16GiB", **options
    )


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(shardrestore.PairingError) as error:
        plan(folder, **options)
    return str(error.value)


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("role", ["base", "target"])
def test_a_quantised_model_is_called_so_before_its_shapes_are_compared(
    tmp_path: Path, kind: str, role: str
) -> None:
    make, settings, method = QUANTISED[kind]
    write(tmp_path / "base", full())
    write(tmp_path / "target", full(1.5))
    write(tmp_path / role, make(), settings)
    message = refusal(tmp_path)
    assert message.splitlines()[1].startswith(f"{role} {tmp_path / role} is quantised ({method}): ")
    regions = re.search(r"--region (.*)$", message)
    assert regions, message
    for region in regions[1].split(" or "):  # the next step leads to a plan
        assert plan(tmp_path, region=region).models[0].region_elements


def test_both_sides_may_be_quantised(tmp_path: Path) -> None:
    other = gptq() | {f"{name}.qweight": Stored("I32", (1, 8), bytes([1] * 32)) for name in LINEAR}
    write(tmp_path / "base", gptq(), {"quant_method": "gptq", "bits": 4})
    write(tmp_path / "target", other, {"quant_method": "gptq", "bits": 4})
    causes = refusal(tmp_path).splitlines()[1:3]
    assert [cause.split()[0] for cause in causes] == ["base", "target"]


def test_a_region_without_codes_is_restored(tmp_path: Path) -> None:
    write(tmp_path / "base", fp8(), {"quant_method": "fp8"})
    write(tmp_path / "target", fp8(), {"quant_method": "fp8"})
    assert plan(tmp_path, region="embedding").models[0].region_elements == 128


def test_a_configuration_that_stayed_behind_does_not_quantise(tmp_path: Path) -> None:
    write(tmp_path / "base", full(), {"quant_method": "fp8"})
    write(tmp_path / "target", full(1.5) | {"model.layers.2.mlp.up_proj.weight": store([1.0])})
    assert "quantised" not in refusal(tmp_path)


def test_an_adapter_that_is_not_merged_is_called_so(tmp_path: Path) -> None:
    target = {}
    for name, stored in full().items():
        name = f"base_model.model.{name}"
        if "q_proj" in name:
            name = name.replace(".weight", ".base_layer.weight")
            target[name.replace("base_layer", "lora_A.default")] = store([[1.0] * 8], "BF16")
            target[name.replace("base_layer", "lora_B.default")] = store([[1.0]] * 8, "BF16")
        target[name] = stored
    write(tmp_path / "base", full())
    write(tmp_path / "target", target)
    message = refusal(tmp_path)
    assert "holds an adapter that is not merged: 6 of its 13 tensors are peft's" in message
    assert "merge_and_unload()" in message
    assert "--exclude" not in message


def test_an_adapter_outside_the_region_draws_a_note(tmp_path: Path) -> None:
    lora = {"model.layers.0.self_attn.q_proj.lora_A.default.weight": store([1.0])}
    write(tmp_path / "base", full())
    write(tmp_path / "target", full(1.5) | lora)
    assert [note.kind for note in plan(tmp_path, region="mlp").notes] == ["unmerged-adapter"]


@pytest.mark.parametrize("place", ["inside", "outside", "excluded"])
def test_weights_that_zero3_lost_are_called_so_wherever_they_are(
    tmp_path: Path, place: str
) -> None:
    lost = "lm_head.weight" if place == "outside" else "model.layers.1.mlp.up_proj.weight"
    write(tmp_path / "base", full())
    write(tmp_path / "target", full(1.5) | {lost: Stored("BF16", (0,), b"")})
    exclude = [lost] if place == "excluded" else []
    message = refusal(tmp_path, exclude=exclude)
    assert f"empty tensors: 1, the first {lost}" in message
    assert f"{lost}: empty in the target, shape [8, 8] in the base" in message
    assert "zero_to_fp32.py" in message
    assert "--exclude" not in message
    assert "--region" not in message


def test_a_base_that_lost_weights_is_called_so_in_the_region(tmp_path: Path) -> None:
    lost = "model.layers.1.mlp.up_proj.weight"
    write(tmp_path / "base", full() | {lost: Stored("BF16", (0,), b"")})
    write(tmp_path / "target", full(1.5))
    assert f"{lost}: empty in the base, shape [8, 8] in the target" in refusal(tmp_path)
    assert plan(tmp_path, region="attention").models[0].region_elements == 128


def test_tensors_that_both_sides_have_empty_are_no_loss(tmp_path: Path) -> None:
    empty = {"model.layers.0.mlp.none.weight": Stored("BF16", (0, 4), b"")}
    write(tmp_path / "base", full() | empty)
    write(tmp_path / "target", full(1.5) | empty)
    assert plan(tmp_path).models[0].region_elements == 6 * 64
