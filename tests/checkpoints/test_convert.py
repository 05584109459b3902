"""Every backbone and projector goes from a folder to a training run and back, without losing a bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from openvla_toolkit.catalog.backbones import language_ids, vision_entry, vision_ids
from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.formats.prismatic_files import checkpoint_name
from openvla_toolkit.checkpoints.formats.reading import read_content
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import StorageError, UserError
from openvla_toolkit.testing import tiny_policy
from tests.checkpoints.small_models import as_the_original, saved

PROJECTORS = ("linear", "gelu-mlp", "fused-gelu-mlp")
COMBINATIONS = [
    *((vision, "llama2-7b-pure", PROJECTORS[number % 3]) for number, vision in enumerate(vision_ids())),
    *(
        ("siglip-vit-so400m", language, PROJECTORS[number % 3])
        for number, language in enumerate(language_ids())
    ),
]


def tensors(source: Path) -> dict[str, torch.Tensor]:
    return dict(read_content(source).tensors())


@pytest.mark.parametrize(("vision", "language", "projector"), COMBINATIONS)
def test_there_and_back(tmp_path: Path, vision: str, language: str, projector: str) -> None:
    first = saved(tmp_path / "first", vision, language, projector)
    convert(first, tmp_path / "run", to="prismatic")
    convert(tmp_path / "run", tmp_path / "again", to="hf", dtype="float32")
    before, after = read_content(first), read_content(tmp_path / "again")
    assert before.contract == after.contract
    assert before.policy == after.policy
    assert before.text_config == {**after.text_config, "torch_dtype": "float32"}
    assert before.statistics == after.statistics
    ours, theirs = tensors(first), tensors(tmp_path / "again")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    modules = torch.load(tmp_path / "run/checkpoints/latest-checkpoint.pt", weights_only=True)["model"]
    assert set(modules) == {"vision_backbone", "llm_backbone", "projector"}
    prefixes = {key.partition(".")[0] for key in modules["vision_backbone"]}
    assert prefixes == set(vision_entry(vision).native_prefixes)
    assert not any(key.endswith("scale_factor") for key in modules["vision_backbone"])


def test_a_run_has_the_originals_files_and_fields(tmp_path: Path) -> None:
    first = saved(tmp_path / "first", "dinosiglip-vit-so-224px", "llama2-7b-pure", "fused-gelu-mlp")
    convert(first, tmp_path / "run", to="prismatic")
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["vla"]["base_vlm"] == "prism-dinosiglip-224px+7b"
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text()) == config
    files = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert files == {"latest-checkpoint.pt", "step-000000-epoch-00-loss=inf.pt"}
    assert json.loads((tmp_path / "run/dataset_statistics.json").read_text()).keys() == {"toy"}


def test_a_model_that_does_not_act_becomes_a_run_of_a_vision_language_model(tmp_path: Path) -> None:
    first = saved(tmp_path / "first", "clip-vit-l-336px", "vicuna-v15-13b", resize="letterbox", acting=False)
    convert(first, tmp_path / "run", to="prismatic")
    model = json.loads((tmp_path / "run/config.json").read_text())["model"]
    assert model["vision_backbone_id"] == "clip-vit-l-336px"
    assert model["llm_backbone_id"] == "vicuna-v15-13b"
    assert not (tmp_path / "run/dataset_statistics.json").exists()
    convert(tmp_path / "run", tmp_path / "again", to="hf")
    assert json.loads((tmp_path / "again/config.json").read_text())["model_type"] == "prismatic"


def test_shards_are_no_larger_than_asked(tmp_path: Path) -> None:
    first = saved(tmp_path / "first")
    convert(first, tmp_path / "many", to="hf", dtype="float32", shard_bytes=100_000)
    assert len(list((tmp_path / "many").glob("model-*-of-*.safetensors"))) > 2
    index = json.loads((tmp_path / "many/model.safetensors.index.json").read_text())
    ours, theirs = tensors(first), tensors(tmp_path / "many")
    assert index["weight_map"].keys() == ours.keys()
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in ours.values())
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    first = saved(tmp_path / "first")
    with pytest.raises(StorageError, match="exists already"):
        convert(first, first, to="hf")


def test_an_unknown_number_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="float32, bfloat16, float16, not as 'int8'"):
        convert(saved(tmp_path / "first"), tmp_path / "second", to="hf", dtype="int8")  # type: ignore[arg-type]


def test_a_model_of_other_parts_is_no_training_run(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    tiny_policy().build().save(tmp_path / "tiny")
    with pytest.raises(UserError, match=r"no id for its .*convert it '--to hf'"):
        convert(tmp_path / "tiny", tmp_path / "run", to="prismatic")
    assert not (tmp_path / "run").exists()


def test_a_converted_run_acts_alike(tmp_path: Path) -> None:
    first = saved(tmp_path / "first", "dinov2-vit-l")
    convert(first, tmp_path / "run", to="prismatic")
    assert (
        load_policy(tmp_path / "run").module.state_dict().keys()
        == load_policy(first).module.state_dict().keys()
    )


@pytest.mark.parametrize(("exact", "first_fill"), [(False, (127,) * 3), (True, (123, 116, 103))])
def test_a_run_of_the_original_is_padded_as_its_converter_pads(
    tmp_path: Path, exact: bool, first_fill: tuple[int, ...]
) -> None:
    """With the last tower's colour for all; ``exact`` keeps each tower's own, as in training."""
    first = saved(tmp_path / "first", "dinosiglip-vit-so-224px", resize="letterbox")
    convert(first, tmp_path / "run", to="prismatic")
    run = as_the_original(tmp_path / "run")
    convert(run, tmp_path / "hf", to="hf", exact=exact, tokenizer=str(first))
    images = read_content(tmp_path / "hf").contract.images
    assert images.padding() == (first_fill, (127,) * 3)
    assert read_content(run).contract.images.padding() == ((123, 116, 103), (127,) * 3)
    written = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert written["tvf_letterbox_fill"] == [127] * 3


def resolved(specifier: str) -> str:
    """Return the projector that the originals make: the whole name, then how it ends, else none."""
    if specifier == "linear":
        return "linear"
    for name in ("fused-gelu-mlp", "gelu-mlp"):
        if specifier.endswith(name):
            return name
    raise ValueError(specifier)


@pytest.mark.parametrize("projector", PROJECTORS)
def test_the_originals_make_the_projector_that_is_named(tmp_path: Path, projector: str) -> None:
    first = saved(tmp_path / "first", "clip-vit-l", "llama2-13b-pure", projector)
    convert(first, tmp_path / "run", to="prismatic")
    convert(tmp_path / "run", tmp_path / "hf", to="hf")
    run = json.loads((tmp_path / "run/config.json").read_text())["model"]
    folder = json.loads((tmp_path / "hf/config.json").read_text())
    assert resolved(run["arch_specifier"]) == resolved(folder["arch_specifier"]) == projector


def test_names_of_checkpoints_are_the_originals() -> None:
    assert checkpoint_name(step=295000, epoch=40, loss=0.22) == "step-295000-epoch-40-loss=0.2200.pt"
    assert checkpoint_name(step=7, epoch=0, loss=None) == "step-000007-epoch-00-loss=inf.pt"
