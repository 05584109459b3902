"""The recipes: those of the original say what it did, and each has a form that runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from openvla_toolkit.catalog.models import known_ids, model_entry, vla_configuration
from openvla_toolkit.cli import main
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.policies.prismatic.freezing import stage_parts
from openvla_toolkit.stages.run_recipe import run

RECIPES = Path(__file__).parents[2] / "recipes"
VLA = sorted((RECIPES / "vla").glob("*.yaml"))
TINY = sorted((RECIPES / "tiny").glob("*.yaml"))
REAL = [*VLA, *sorted(RECIPES.glob("openvla-7b-*.yaml"))]


def id_of(path: Path) -> str:
    return path.relative_to(RECIPES).with_suffix("").as_posix()


def extended(path: Path) -> str | None:
    return yaml.safe_load(path.read_text()).get("extends")


def as_data(path: Path) -> dict[str, Any]:
    return Recipe.load(path).model_dump(mode="json")


def test_check_finds_nothing_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(path) for path in RECIPES.rglob("*.yaml")]
    with pytest.raises(SystemExit) as ended:
        main(["check", *paths])
    assert ended.value.code == 0, capsys.readouterr().err


def test_every_configuration_of_the_original_has_its_recipe() -> None:
    configurations = {name for name in known_ids() if model_entry(name).kind == "configuration"}
    assert len(configurations) == 11
    assert {path.stem for path in VLA} == configurations


@pytest.mark.parametrize("path", VLA, ids=id_of)
def test_a_recipe_says_what_the_original_configured(path: Path) -> None:
    recipe, original = as_data(path), vla_configuration(path.stem)
    train = recipe["train"]
    (data,) = recipe["data"]
    assert recipe["policy"]["weights"] == original["base_vlm"]
    assert tuple(recipe["policy"]["freeze"]) == stage_parts(model_entry(path.stem).description["stage"])
    assert (data["name"], data["mixture"]) == ("open-x", original["data_mix"])
    assert train["batch"]["total"] == original["global_batch_size"]
    assert train["batch"]["per_device"] == original["per_device_batch_size"]
    assert train["optimizer"]["lr"] == original["learning_rate"]
    assert train["optimizer"]["weight_decay"] == original["weight_decay"]
    assert train["clip_norm"] == original["max_grad_norm"]
    assert (train["schedule"]["name"], train["schedule"]["warmup"]) == (original["lr_scheduler_type"], 0)
    assert train["engine"]["name"] == "fsdp"
    assert train["engine"]["precision"] == "bf16"
    assert train["engine"]["activation_checkpointing"] == original["enable_gradient_checkpointing"]
    assert train["batch"]["total"] % (original["expected_world_size"] * train["batch"]["per_device"]) == 0


@pytest.mark.parametrize("path", [path for path in REAL if extended(path) is None], ids=id_of)
def test_every_real_recipe_has_a_tiny_form(path: Path) -> None:
    forms = [tiny for tiny in TINY if (tiny.parent / str(extended(tiny))).resolve() == path]
    assert len(forms) == 1
    assert f"recipes/tiny/{forms[0].name}" in path.read_text()


@pytest.mark.parametrize("path", TINY, ids=id_of)
def test_a_tiny_form_trains_what_the_real_recipe_does(path: Path) -> None:
    real, tiny = as_data(path.parent / str(extended(path))), as_data(path)
    for key in ("freeze", "lora", "quantization"):
        assert tiny["policy"][key] == real["policy"][key]
    for key in ("optimizer", "schedule", "clip_norm"):
        assert tiny["train"][key] == real["train"][key]
    assert tiny["train"]["engine"]["name"] == real["train"]["engine"]["name"]


def test_libero_has_its_four_suites() -> None:
    suites = {}
    for path in RECIPES.glob("openvla-7b-lora-libero-*.yaml"):
        recipe = as_data(path)
        suites[recipe["data"][0]["dataset"]] = recipe["train"]["steps"]
        assert recipe["train"]["batch"]["total"] == 128
    assert suites == {
        "libero_spatial_no_noops": 50_000,
        "libero_object_no_noops": 50_000,
        "libero_goal_no_noops": 60_000,
        "libero_10_no_noops": 80_000,
    }


@pytest.mark.parametrize(
    "name", ["finetune-lora", "finetune-qlora", "siglip-224px-sandwich+mx-tdroid_carrot_in_bowl"]
)
def test_a_tiny_form_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(RECIPES / "tiny" / f"{name}.yaml", ["observers=[jsonl]"])
    assert result.checkpoint is not None
    adapter = result.checkpoint / "adapter_model.safetensors"
    assert adapter.is_file() == ("lora" in name)
    if adapter.is_file():
        assert len(load_file(adapter)) > 50
        assert result.summary[0].startswith("token accuracy")


@pytest.mark.parametrize("path", TINY, ids=id_of)
def test_a_tiny_form_can_be_foreseen(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), "--dry-run"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "not made yet: the run makes it" in told
    assert "1 process x" in told
