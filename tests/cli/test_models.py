from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.checkpoints.small_models import saved

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


def test_checkpoints_that_differ_end_with_one(openvla: Openvla, tmp_path: Path) -> None:
    first, second = saved(tmp_path / "first"), saved(tmp_path / "second", resize="letterbox")
    code, out, _ = openvla("models", "verify", str(first), str(second), "--observations", "1", "--json")
    assert code == 1
    assert not {finding["what"]: finding["same"] for finding in json.loads(out)}["pixel_values"]


def test_a_checkpoint_that_is_not_there_is_the_users_to_mend(openvla: Openvla, tmp_path: Path) -> None:
    code, _, err = openvla("models", "convert", "nowhere", str(tmp_path / "x"), "--to", "hf")
    assert code == 2
    assert "no policy 'nowhere'" in err
