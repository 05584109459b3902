"""``openvla plan``: what it prints, and what it switches on where nothing fits."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, Literal

import pytest

from openvla_toolkit.cli import main
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.interfaces.engine import EngineConfig
from openvla_toolkit.stages.planning.plan import device_of
from openvla_toolkit.testing import tiny_policy


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe in fp32 whose data and weights are nowhere."""
    file = tmp_path / "recipe.yaml"
    content = {
        "output": str(tmp_path / "run"),
        "policy": tiny_policy().model_dump(mode="json"),
        "data": [{"name": "rlds", "root": str(tmp_path / "nowhere"), "dataset": "bridge_orig"}],
        "train": {"optimizer": {"lr": 1e-4}, "steps": 10, "batch": {"total": 64, "per_device": 8}},
    }
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``openvla plan`` in this process: exit code and what was printed."""

    def run(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["plan", *map(str, words)])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return run


def test_what_fits_is_told_with_the_largest_batch(recipe: Path, planned: Any) -> None:
    code, said = planned(recipe, "--gpu", "24GB")
    assert code == 0
    assert "engine single, 1 x RTX 4090 of 24 GB, 8 samples at a time x 8" in said
    assert "of 24: fits" in said
    assert "an estimate, at 40 % of the peak of RTX 4090" in said
    assert "64 samples at a time fit" in said


def test_what_does_not_fit_says_what_to_switch_on(recipe: Path, planned: Any) -> None:
    code, said = planned(recipe, "--gpu", "0.65GB", "train.batch={total: 4096}")
    assert code == 1
    assert "of 0.65: does not fit" in said
    assert "\ntime " not in said
    assert "the peak of an unknown device in fp32 is not known" in said
    batch = "train.batch={total: 4}"
    foot = json.loads(planned(recipe, "--gpu", "24GB", "--json", batch)[1])["footprint"]
    kept = foot["weights"] + foot["optimizer"] + foot["gradients"] + foot["overhead"]
    code, told = planned(recipe, "--gpu", f"{0.99 * kept / 1e9:.5f}GB", "--json", batch)
    assert code == 1
    plan = json.loads(told)
    assert plan["fits"] is False
    assert plan["largest"] == 0
    assert plan["footprint"]["total"] == pytest.approx(
        sum(value for key, value in plan["footprint"].items() if key != "total")
    )
    assert [one["overrides"] for one in plan["switches"]][:2] == [
        "train.engine.activation_checkpointing=true",
        "train.engine.activation_checkpointing=true train.engine.precision=bf16",
    ]


def test_several_gpus_share(recipe: Path, planned: Any) -> None:
    alone = json.loads(planned(recipe, "--gpu", "24GB", "--json")[1])
    shared = json.loads(planned(recipe, "--gpu", "24GB", "--gpus", 4, "--json", "train.engine.name=fsdp")[1])
    assert shared["footprint"]["weights"] == pytest.approx(alone["footprint"]["weights"] / 4)
    assert (shared["gpus"], shared["passes"]) == (4, 2)
    code, said = planned(recipe, "--gpu", "24GB", "--gpus", 4)
    assert code == 2
    assert "the engine 'single' is one process, and there are 4" in said


LARGE = (
    "policy.language_model.settings.hidden_size=2048",
    "policy.language_model.settings.intermediate_size=4096",
    "policy.language_model.settings.num_hidden_layers=8",
)
"""Makes the policy one whose weights count: 0.3 B parameters, 5 GB with what AdamW keeps."""


def test_an_engine_that_shards_takes_the_fewest_gpus_or_the_launchers(recipe: Path, planned: Any) -> None:
    code, said = planned(recipe, "--gpu", "5GB", *LARGE, "train.engine.name=fsdp")
    assert code == 0
    assert "engine fsdp, 4 x an unknown device of 5 GB, 8 samples at a time x 2" in said
    assert "of 5: fits on 4 GPUs" in said
    assert "16 samples at a time fit on 4 GPUs" in said
    launched = "launcher={name: local, nproc: 8}"
    plan = json.loads(planned(recipe, "--gpu", "5GB", "--json", "train.engine.name=fsdp", launched)[1])
    assert (plan["gpus"], plan["fits"]) == (8, True)


def test_what_is_trained_is_changed_last(recipe: Path, planned: Any) -> None:
    words = (*LARGE, "train.engine={precision: bf16, activation_checkpointing: true}")
    code, told = planned(recipe, "--gpu", "4GB", "--json", *words)
    assert code == 1
    found = [(one["overrides"], one["gpus"], one["largest"] > 0) for one in json.loads(told)["switches"]]
    fsdp = "'train.engine={name: fsdp, precision: bf16, activation_checkpointing: true}'"
    assert found[0] == (fsdp, 4, True)
    assert found[1] == (f"{fsdp} train.engine.cpu_offload=true", 1, True)
    said = planned(recipe, "--gpu", "4GB", *words)[1]
    assert f"  {fsdp} --nproc 4: " in said
    assert "fits on 4 GPUs, largest 16" in said
    assert re.search(r"cpu_offload=true: .*, and \d GB of the CPU's memory", said)
    assert re.search(r"^machine +[\d.]+ GB of .* the process reads the whole policy$", said, re.MULTILINE)
    offloaded = (*words, "train.engine.name=fsdp", "train.engine.cpu_offload=true", "--gpus", 2)
    with_it = planned(recipe, "--gpu", "4GB", *offloaded)[1]
    assert "when each of 2 processes reads the whole policy; " in with_it
    assert "with offloading, traffic and the CPU's optimizer decide" in with_it
    assert "\ntime " not in with_it
    plan = json.loads(planned(recipe, "--gpu", "4GB", "--json", *offloaded)[1])
    assert (plan["processes"], plan["step_seconds"]) == (2, None)
    assert plan["read"] == 2 * 4 * plan["parameters"]
    assert plan["offloaded"] == pytest.approx(16 * plan["parameters"] / 2, rel=1e-3)
    read, kept = plan["read"] / 1e9, 2 * plan["offloaded"] / 1e9
    assert f"{read:.3g} GB of its memory at the start" in with_it
    assert f"{kept:.3g} GB all the time, offloaded, {kept / 2:.3g} GB for each GPU" in with_it


def test_a_group_of_hybrid_is_a_machine(recipe: Path, planned: Any) -> None:
    hybrid = "train.engine={name: fsdp, sharding: hybrid}"
    batch = "train.batch={total: 64}"

    def weights(*words: object) -> float:
        return float(
            json.loads(planned(recipe, "--gpu", "24GB", "--json", batch, *words)[1])["footprint"]["weights"]
        )

    whole = weights()
    assert weights("--gpus", 16, hybrid) == pytest.approx(whole / 8)
    nodes = "launcher={name: slurm, nodes: 4, nproc: 4}"
    assert weights(hybrid, nodes) == pytest.approx(whole / 4)


@pytest.mark.parametrize(
    ("gpu", "name", "size"),
    [
        ("24GB", "RTX 4090", 24e9),
        ("32GB", "RTX 5090", 32e9),
        ("80 gb", "A100", 80e9),
        ("H100:80GiB", "H100", 80 * 2**30),
        ("h100:80GB", "h100", 80e9),
        ("rtx a6000:48GB", "rtx a6000", 48e9),
        ("RTX 6000 Ada:48GB", "RTX 6000 Ada", 48e9),
    ],
)
def test_devices_are_given_by_size_or_name(gpu: str, name: str, size: float) -> None:
    device = device_of(gpu)
    assert (device.name, device.memory) == (name, size)
    assert device.flops


def test_the_largest_batch_divides_a_devices_share(recipe: Path, planned: Any) -> None:
    foot = json.loads(planned(recipe, "--gpu", "24GB", "--json", "train.batch={total: 14, per_device: 2}")[1])
    per_two = foot["footprint"]["activations"]
    memory = foot["footprint"]["total"] + 2 * 1.04 * per_two  # six samples at a time
    words = ("--gpu", f"{memory / 1e9:.5f}GB", "--json", "train.batch={total: 14, per_device: 2}")
    assert json.loads(planned(recipe, *words)[1])["largest"] == 2


def test_devices_of_other_sizes_have_no_speed() -> None:
    assert device_of("10GB").flops == device_of("Voodoo:24GB").flops == {}
    with pytest.raises(UserError, match=r"^--gpu 'large': give its memory, such as 24GB"):
        device_of("large")


def seconds(planned: Any, *words: object) -> float:
    return float(json.loads(planned(*words, "--json")[1])["step_seconds"])


def test_a_steps_time_goes_by_its_operations_and_the_arithmetic(recipe: Path, planned: Any) -> None:
    many, one = "train.batch={total: 64, per_device: 8}", "train.batch={total: 64}"
    fp32 = seconds(planned, recipe, "--gpu", "A100:80GB", many)
    assert fp32 == pytest.approx(seconds(planned, recipe, "--gpu", "A100:80GB", one), rel=0.01)
    bf16 = seconds(planned, recipe, "--gpu", "a100:80GB", many, "train.engine.precision=bf16")
    assert fp32 / bf16 == pytest.approx(312 / 19.5, rel=0.01)
    said = planned(recipe, "--gpu", "A10G:24GB", many)[1]
    assert "speed       not told: the peak of A10G in fp32 is not known" in said
    said = planned(recipe, "--gpu", "Voodoo:24GB", many, "train.engine.precision=bf16")[1]
    assert "the peak of Voodoo in bf16 is not known" in said


def test_what_fits_is_never_told_not_to(recipe: Path, planned: Any) -> None:
    """One pass of all samples holds fewer gradients than several: it fits where less at a time does not."""
    words = (recipe, "--json", "train.batch={total: 4}", "train.engine.precision=bf16")
    total = json.loads(planned(*words, "--gpu", "24GB")[1])["footprint"]["total"]
    code, told = planned(*words, "--gpu", f"{(total + 2000) / 1e9:.6f}GB")
    plan = json.loads(told)
    assert (code, plan["fits"], plan["largest"], plan["switches"]) == (0, True, 4, [])


def overrides(plan: str) -> list[str]:
    return [one["overrides"] for one in json.loads(plan)["switches"]]


def test_another_engine_replaces_the_section_as_a_whole(recipe: Path, planned: Any) -> None:
    """What the engines do not share is left out; it would be a mistake under the other."""
    ddp = "train.engine={name: ddp, bucket_mb: 5, precision: bf16, activation_checkpointing: true}"
    code, told = planned(recipe, "--gpu", "5GB", "--gpus", 2, "--json", *LARGE, ddp)
    assert code == 1
    fsdp = "'train.engine={name: fsdp, precision: bf16, activation_checkpointing: true}'"
    assert overrides(told)[0] == fsdp
    hybrid = "train.engine={name: fsdp, sharding: hybrid, shard_size: 1, reshard_after_forward: false}"
    code, told = planned(recipe, "--gpu", "0.7GB", "--gpus", 2, "--json", *LARGE, hybrid)
    own = [
        "train.engine.activation_checkpointing=true",
        "train.engine.precision=bf16",
        "train.engine.reshard_after_forward=true",
        "train.engine.sharding=full train.engine.shard_size=null",
    ]
    assert overrides(told)[:4] == [" ".join(own[: count + 1]) for count in range(4)]
    assert overrides(told)[-1] == " ".join([*own, "train.engine.cpu_offload=true"])


def test_deepspeed_saves_in_its_own_ways(recipe: Path, planned: Any) -> None:
    pytest.importorskip("openvla_deepspeed")
    words = (recipe, "--gpu", "3GB", "--gpus", 2, "--json", *LARGE)
    code, told = planned(*words, "train.engine={name: deepspeed, stage: 2}")
    assert code == 1
    own = [
        "train.engine.zero.reduce_bucket_size=50000000",
        "train.engine.activation_checkpointing=true",
        "train.engine.precision=bf16",
        "train.engine.stage=3",
    ]
    assert overrides(told)[:4] == [" ".join(own[: count + 1]) for count in range(4)]
    assert not any("fsdp" in one or "cpu_offload" in one for one in overrides(told))
    last = json.loads(told)["switches"][-1]
    assert "train.engine.offload=" in last["overrides"]
    assert last["largest"] > 0
    again = planned(*words, "train.engine={name: deepspeed, stage: 2}", *shlex.split(last["overrides"]))
    assert again[0] == 0, "what is printed can be copied"


def test_a_plugins_engine_that_offers_nothing_is_offered_another(
    recipe: Path, planned: Any, install: Any
) -> None:
    engine = {"engine": {"plain": "tests.cli.test_plan:PlainConfig"}}
    install("openvla-plain", engine)
    code, told = planned(recipe, "--gpu", "4GB", "--json", *LARGE, "train.engine={name: plain, depth: 3}")
    assert code == 1
    assert overrides(told)[0] == "'train.engine={name: fsdp}'"
    assert not any("depth" in one for one in overrides(told))


class PlainConfig(EngineConfig):
    """An engine that says nothing of itself."""

    name: Literal["plain"] = "plain"
    depth: int = 1

    def build(self) -> Any:
        raise NotImplementedError


def test_a_recipe_that_trains_nothing_has_no_plan(tmp_path: Path, planned: Any) -> None:
    file = tmp_path / "only.yaml"
    file.write_text(json.dumps({"output": "run", "policy": tiny_policy().model_dump(mode="json")}))
    code, said = planned(file, "--gpu", "24GB")
    assert code == 2
    assert "trains nothing" in said
