"""Linear layers in 8 and 4 bits: near the full numbers, and a clear error without the library."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import MissingDependency, UserError
from openvla_toolkit.core.types import Observation
from tests.checkpoints.small_models import saved


@pytest.mark.filterwarnings("ignore:.*MatMul8bitLt")
@pytest.mark.parametrize(("bits", "kind"), [("8bit", torch.int8), ("4bit", torch.uint8)])
def test_few_bits_are_near_the_full_numbers(bits: str, kind: torch.dtype) -> None:
    full, few = (
        load_policy("tabletop-scenes", dtype="bfloat16"),
        load_policy("tabletop-scenes", dtype="bfloat16", quantization=bits),
    )
    assert few.module.language_model.model.layers[0].mlp.up_proj.weight.dtype == kind
    assert few.module.language_model.lm_head.weight.dtype == torch.bfloat16
    picture = np.random.default_rng(0).integers(0, 255, size=(64, 64, 3), dtype=np.uint8)
    shown = Observation(images=dict.fromkeys(full.contract.cameras, picture), instruction="push the red cube")
    ours, theirs = (policy.activations(shown)["logits"] for policy in (few, full))
    assert 0.99 < np.corrcoef(ours, theirs)[0, 1] < 1 - 1e-6
    with pytest.raises(UserError, match="quantized weights"):
        few.save(Path("nowhere"))


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependency, match=r"loading in 8bit needs bitsandbytes: pip install 'openvla"):
        load_policy(saved(tmp_path / "policy"), quantization="8bit")


def test_the_attention_is_chosen_when_loading(tmp_path: Path) -> None:
    folder = saved(tmp_path / "policy")
    eager = load_policy(folder, attention="eager")
    assert eager.module.language_model.config._attn_implementation == "eager"
    assert not eager.module.vision_backbone.featurizer.blocks[0].attn.fused_attn
    plain = load_policy(folder, dtype="bfloat16")
    assert plain.module.language_model.config._attn_implementation == "sdpa"
    assert {value.dtype for value in plain.module.state_dict().values()} == {torch.bfloat16}


def test_flash_attention_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(MissingDependency, match=r"attention 'flash_attention_2' needs flash-attn"):
        load_policy(saved(tmp_path / "policy"), attention="flash_attention_2")
