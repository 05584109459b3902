from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openvla_toolkit.checkpoints.load import load_policy
from tests.checkpoints.small_models import as_the_original, saved, small_adapter

Openvla = Callable[..., tuple[int, str, str]]


def test_all_models_are_listed(openvla: Openvla) -> None:
    code, out, _ = openvla("models", "list")
    assert code == 0
    assert "  openvla/openvla-7b " in out
    assert "  prism-dinosiglip-224px+7b " in out
    records = json.loads(openvla("models", "list", "--json")[1])
    assert len([record for record in records if record["kind"] == "vlm" and record["released"]]) == 49


def test_one_model_is_described(openvla: Openvla) -> None:
    code, out, _ = openvla("models", "describe", "prism-dinosiglip-224px+7b")
    assert code == 0
    assert "7,541,237,184" in out
    facts = json.loads(openvla("models", "describe", "Prism-DINOSigLIP 224px 7B", "--json")[1])
    assert facts["id"] == "prism-dinosiglip-224px+7b"
    assert facts["vision_backbone"]["patches"] == 256


def test_a_name_that_is_not_there_suggests_one(openvla: Openvla) -> None:
    code, _, err = openvla("models", "describe", "prism-dinosiglip-224px")
    assert code == 2
    assert "Did you mean 'prism-dinosiglip-224px+7b'?" in err


def test_a_checkpoint_is_converted_and_verified(openvla: Openvla, tmp_path: Path) -> None:
    first = saved(tmp_path / "first")
    code, out, _ = openvla("models", "convert", str(first), str(tmp_path / "run"), "--to", "prismatic")
    assert (code, out) == (0, f"{first} -> {tmp_path / 'run'}\n")
    code, out, _ = openvla("models", "verify", str(first), str(tmp_path / "run"), "--observations", "1")
    assert code == 0
    assert all(line.startswith("ok ") for line in out.splitlines())


def test_what_only_the_toolkit_does_is_noted(openvla: Openvla, tmp_path: Path) -> None:
    (tmp_path / "framing").mkdir()
    policy: Any = load_policy(saved(tmp_path / "first"), frame={"resample": "fused", "crop": 0.9})
    policy.save(tmp_path / "framing")
    code, out, _ = openvla("models", "convert", str(tmp_path / "framing"), str(tmp_path / "hf"), "--to", "hf")
    assert code == 0
    assert "Note: this policy sees frames (resample='fused' crop=0.9)." in out
    assert "center_crop" in out
    written = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert written["frame"] == {"resample": "fused", "crop": 0.9}


def test_checkpoints_that_differ_end_with_one(openvla: Openvla, tmp_path: Path) -> None:
    first, second = saved(tmp_path / "first"), saved(tmp_path / "second", resize="letterbox")
    code, out, _ = openvla("models", "verify", str(first), str(second), "--observations", "1", "--json")
    assert code == 1
    assert not {finding["what"]: finding["same"] for finding in json.loads(out)}["pixel_values"]


def test_a_checkpoint_that_is_not_there_is_the_users_to_mend(openvla: Openvla, tmp_path: Path) -> None:
    code, _, err = openvla("models", "convert", "nowhere", str(tmp_path / "x"), "--to", "hf")
    assert code == 2
    assert "no policy 'nowhere'" in err


def test_base_and_tokenizer_may_be_given_to_what_is_verified(openvla: Openvla, tmp_path: Path) -> None:
    base, adapter = saved(tmp_path / "base"), small_adapter(tmp_path / "adapter", base="/gone")
    run, one = tmp_path / "run", ["--observations", "1"]
    openvla("models", "convert", str(adapter), str(run), "--to", "prismatic", "--base", str(base))
    as_the_original(run)
    (tmp_path / "words").mkdir()
    for file in run.glob("*token*"):
        file.rename(tmp_path / "words" / file.name)
    code, _, err = openvla("models", "verify", str(adapter), str(run), *one)
    assert code == 2
    assert "/gone" in err
    words = ["--base", str(base), "--tokenizer", str(tmp_path / "words")]
    code, out, _ = openvla("models", "verify", str(adapter), str(run), *words, *one)
    assert code == 0, out
    assert "ok       actions of toy  equal" in out
