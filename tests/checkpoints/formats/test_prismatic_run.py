"""Training runs are read by their ids; a checkpoint that would run code is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from openvla_toolkit.catalog.backbones import language_entry
from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.formats.prismatic_run import checkpoint_file
from openvla_toolkit.checkpoints.formats.reading import read_content
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import CheckpointError
from tests.checkpoints.small_models import as_the_original, saved

PARTS = ("dinosiglip-vit-so-224px", "llama2-7b-pure", "fused-gelu-mlp")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    convert(saved(tmp_path / "policy", *PARTS), tmp_path / "run", to="prismatic")
    return as_the_original(tmp_path / "run")


def latest(run: Path) -> Path:
    return run / "checkpoints" / "latest-checkpoint.pt"


def rewritten(run: Path, content: Any) -> None:
    latest(run).unlink()  # the file has a second name
    torch.save(content, latest(run))


def test_settings_come_from_the_ids(run: Path) -> None:
    content = read_content(run)
    assert content.policy["prompt"] == {"name": "pure"}
    assert content.text_config["rms_norm_eps"] == language_entry("llama2-7b-pure").hub["rms_norm_eps"] == 1e-5
    assert content.contract.images.means[0] == (0.485, 0.456, 0.406)
    assert set(load_policy(run).statistics) == {"toy"}


def test_the_original_converter_s_numbers_are_taken_over_unless_exact_ones_are_wanted(run: Path) -> None:
    convert(run, run.parent / "port", to="hf")
    convert(run, run.parent / "exact", to="hf", exact=True)
    port, exact = read_content(run.parent / "port"), read_content(run.parent / "exact")
    assert (port.text_config["rms_norm_eps"], exact.text_config["rms_norm_eps"]) == (1e-6, 1e-5)
    assert port.contract.images.means[0] == (0.484375, 0.455078125, 0.40625)
    assert exact.contract.images.means[0] == (0.485, 0.456, 0.406)
    stored = {value.dtype for _, value in port.tensors()}
    assert stored == {torch.bfloat16}


def test_the_latest_checkpoint_is_taken_and_a_file_is_itself(run: Path) -> None:
    assert checkpoint_file(run) == latest(run)
    latest(run).unlink()  # the original does not write it under FSDP
    newer = run / "checkpoints" / "step-000012-epoch-01-loss=0.1000.pt"
    os.link(next((run / "checkpoints").glob("step-*.pt")), newer)
    assert checkpoint_file(run) == checkpoint_file(run / "checkpoints") == newer
    assert read_content(newer).place == str(newer)


def test_settings_may_be_in_yaml_alone(run: Path) -> None:
    (run / "config.json").unlink()
    (run / "config.yaml").write_text("vla: {base_vlm: prism-dinosiglip-224px+7b}\n")
    assert read_content(run).policy["projector"] == "fused-gelu-mlp"


class Command:
    """Pickled as a call of ``os.system``."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_checkpoint_that_would_run_code_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rewritten(run, {"model": Command()})
    with pytest.raises(CheckpointError, match=r"latest-checkpoint\.pt .* would run code when loaded"):
        load_policy(run)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "has no entry 'model'"),
        ({"optimizer": {}}, "has no entry 'model'"),
        (
            {"model": {"projector": {"projector.0.bias": torch.zeros(1)}}},
            "lacks 'llm_backbone'; it has projector",
        ),
    ],
)
def test_a_file_of_another_content_is_named(run: Path, content: Any, message: str) -> None:
    rewritten(run, content)
    with pytest.raises(CheckpointError, match=message):
        load_policy(run)


def test_a_file_cut_short_is_named(run: Path) -> None:
    whole = latest(run).read_bytes()
    latest(run).unlink()
    latest(run).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"latest-checkpoint\.pt cannot be read"):
        load_policy(run)


def test_missing_and_misshapen_tensors_are_named(run: Path) -> None:
    modules = torch.load(latest(run), weights_only=True)["model"]
    bias = modules["projector"].pop("projector.0.bias")
    rewritten(run, {"model": modules})
    with pytest.raises(CheckpointError, match=r"1 expected and not found, first 'projector\.fc1\.bias'"):
        load_policy(run)
    modules["projector"]["projector.0.bias"] = bias[1:]
    rewritten(run, {"model": modules})
    with pytest.raises(CheckpointError, match=r"'projector\.fc1\.bias' has shape \[159\]; .* \[160\]"):
        load_policy(run)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vla": {}}, r"no field 'vla\.base_vlm'"),
        ({"vla": {"base_vlm": "prism-dinosiglip-224px"}}, r"vla\.base_vlm: .*'prism-dinosiglip-224px'"),
        ({"model": {"vision_backbone_id": "x"}}, r"no field 'model\.llm_backbone_id'"),
        (
            {"model": {"vision_backbone_id": "x", "llm_backbone_id": "y", "arch_specifier": "linear"}},
            "no vision backbone 'x'",
        ),
    ],
)
def test_a_wrong_field_is_named(run: Path, config: dict[str, Any], message: str) -> None:
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_policy(run)
