"""The recipes: those of the original say what it did, and each has a form that runs here."""

from __future__ import annotations

import re
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

OWN = re.compile(
    r"output|policy\.weights|data(\..*)?|train\.(steps|log_every|save_every|batch\.(total|per_device))"
    r"|train\.loader\.(workers|prefetch)|evaluate\.\d+\.(data(\..*)?|frames|unnorm_key)"
)
"""What a tiny form, or a recipe for another data set, may set anew: sizes, data and paths."""


def id_of(path: Path) -> str:
    return path.relative_to(RECIPES).with_suffix("").as_posix()


def extended(path: Path) -> str | None:
    return yaml.safe_load(path.read_text()).get("extends")


def as_data(path: Path) -> dict[str, Any]:
    return Recipe.load(path).model_dump(mode="json")


def leaves(settings: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict | list) or not settings:
        return {path: settings}
    entries = settings.items() if isinstance(settings, dict) else enumerate(settings)
    return {
        key: leaf
        for name, value in entries
        for key, leaf in leaves(value, f"{path}.{name}".lstrip(".")).items()
    }


def differences(one: Path, other: Path) -> set[str]:
    """Return the keys at which two recipes say something else."""
    first, second = leaves(as_data(one)), leaves(as_data(other))
    absent = object()
    return {key for key in first | second if first.get(key, absent) != second.get(key, absent)}


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


@pytest.mark.parametrize("path", REAL, ids=id_of)
def test_every_real_recipe_has_a_tiny_form_that_changes_only_sizes_data_and_paths(path: Path) -> None:
    base = path if extended(path) is None else (path.parent / str(extended(path))).resolve()
    assert all(OWN.fullmatch(key) for key in differences(base, path))
    forms = [tiny for tiny in TINY if (tiny.parent / str(extended(tiny))).resolve() == base]
    faithful = [tiny for tiny in forms if all(OWN.fullmatch(key) for key in differences(base, tiny))]
    assert len(faithful) == 1
    assert f"recipes/tiny/{faithful[0].name}" in path.read_text()


def test_the_other_recipes_run_here_as_they_are() -> None:
    others = {path.stem for path in RECIPES.glob("*.yaml") if path not in REAL}
    assert others == {
        "bridge-tiny", "mixture-tiny", "quickstart",
        "tabletop-evaluate", "tabletop-pretrain", "tabletop-scenes",
    }  # fmt: skip


def test_one_more_form_compares_engines_in_fp32() -> None:
    forms = {path.stem: differences((path.parent / str(extended(path))).resolve(), path) for path in TINY}
    foreign = {name: {key for key in keys if not OWN.fullmatch(key)} for name, keys in forms.items()}
    assert {name: keys for name, keys in foreign.items() if keys} == {
        "finetune-lora": {"policy.dtype", "train.engine.precision"}
    }


@pytest.mark.parametrize("path", [*RECIPES.glob("*.yaml"), *VLA, *TINY], ids=id_of)
def test_the_first_command_of_a_header_runs_the_recipe(path: Path) -> None:
    header = path.read_text().partition("version:")[0].partition("extends:")[0]
    joined = header.replace("\\\n#", "")
    commands = [
        line for line in joined.splitlines() if " openvla run " in line or "openvla_toolkit run " in line
    ]
    assert f"run recipes/{id_of(path)}.yaml" in commands[0]
    assert commands[0].startswith("#   torchrun --nnodes 8") == ("in 8 nodes" in header)


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
    "name",
    [
        "finetune-lora",
        "finetune-lora-bf16",
        "finetune-qlora",
        "siglip-224px-sandwich+mx-tdroid_carrot_in_bowl",
    ],
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
