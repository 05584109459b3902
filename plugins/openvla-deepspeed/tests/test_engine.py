"""Two processes under DeepSpeed have the losses of one under ``single``; each goes on from the other's state.

``python test_engine.py FOLDER`` is one of the two processes: it takes the steps of every case.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from openvla_deepspeed import DeepSpeedConfig
from pydantic import ValidationError
from torch import nn

from openvla_toolkit.checkpoints.tensors import read_tensors, write_tensors
from openvla_toolkit.checkpoints.training_state import save_state
from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.core.errors import CheckpointError, NotFinite, TrainingError, UserError
from openvla_toolkit.core.processes import join, leave, told_while_saving
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.core.types import ConversationSample, Sample, Turn
from openvla_toolkit.interfaces.engine import Spread
from openvla_toolkit.testing import check_engine, run_ranks, tiny_policy

STEPS, SAVED, SAMPLES = 4, 2, 8
TEXT_ONLY: Mapping[str, tuple[int, ...]] = {"whole, text between": (1, 2), "whole, text first": (0, 1)}
"""Policy -> its steps without any picture."""
SMALL = {"stage3_param_persistence_threshold": 0}
"""Spread every parameter: DeepSpeed leaves those of a tiny policy where they are."""
OPTIMIZER = Optimizer(lr=1e-3, weight_decay=0.1)


class Case(NamedTuple):
    """An engine, what it trains, and the case whose state after the second step it goes on from."""

    engine: Mapping[str, Any]
    policy: str = "whole"
    at_a_time: int = 4
    begun_by: str | None = None


def zero(stage: int, **settings: Any) -> dict[str, Any]:
    return {"name": "deepspeed", "stage": stage, "zero": SMALL if stage == 3 else {}, **settings}


CASES = {
    "stage 1": Case(zero(1)),
    "stage 2": Case(zero(2)),
    "stage 3": Case(zero(3)),
    "stage 2, accumulated": Case(zero(2), at_a_time=1),
    "stage 3, accumulated": Case(zero(3), at_a_time=2),
    "stage 1, an adapter": Case(zero(1), policy="adapter"),
    "stage 3, an adapter": Case(zero(3), policy="adapter"),
    "stage 2, a part frozen": Case(zero(2), policy="frozen"),
    "stage 3, computed twice": Case(zero(3, activation_checkpointing=True)),
    "stage 2, offloaded": Case(zero(2, offload="optimizer")),
    "stage 3, offloaded": Case(zero(3, offload="parameters")),
    "stage 3, bf16": Case(zero(3, precision="bf16")),
    "stage 3, an adapter beside bf16": Case(zero(3, precision="bf16"), policy="adapter beside bf16"),
    "ddp": Case({"name": "ddp"}),
    "stage 3 from ddp": Case(zero(3), begun_by="ddp"),
    "stage 1 from stage 3": Case(zero(1), begun_by="stage 3"),
    "stage 2 from one process": Case(zero(2), begun_by="whole"),
    "fsdp from stage 2": Case({"name": "fsdp"}, begun_by="stage 2"),
    "stage 2 again": Case(zero(2), begun_by="stage 2"),
    "stage 3 again": Case(zero(3), begun_by="stage 3"),
    "stage 2, text between": Case(zero(2), policy="whole, text between"),
    "stage 3, text between": Case(zero(3), policy="whole, text between", at_a_time=2),
    "stage 3 from one process, text first": Case(
        zero(3), policy="whole, text first", begun_by="whole, text first"
    ),
    "fsdp from stage 3, text between": Case(
        {"name": "fsdp"}, policy="whole, text between", begun_by="stage 3, text between"
    ),
}


def made(kind: str, folder: Path) -> Any:
    """Return the policy of a case, with the same weights in every process."""
    cameras = {"primary": Camera(height=32, width=32), "wrist": Camera(height=32, width=32)}
    action = tuple(Dimension(name=name, unit="1", reference="delta") for name in ("x", "y", "gripper"))
    robot = Interface(cameras=cameras, action=action, control_hz=5)
    torch.manual_seed(1)
    if kind.startswith("adapter"):
        parts = {"vision_backbone": None, "language_model": None, "cameras": None}
        parts["dtype"] = "bfloat16" if kind.endswith("bf16") else "float32"
        return tiny_policy(**parts, weights=str(folder / "base"), lora={"rank": 2}).build(robot=robot)
    return tiny_policy(**{"freeze": ["vision_backbone"]} if kind == "frozen" else {}).build(robot=robot)


def batches(policy: Any, at_a_time: int, ranks: Ranks, *, text_only: bool = False) -> Iterator[Any]:
    """Yield this rank's share of eight samples; the second half, or all, have no pictures."""
    generator = np.random.default_rng(0)
    samples: list[Any] = [
        Sample(
            images={
                camera: generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                for camera in ("primary", "wrist")
            },
            instruction="push it " * (1 + number % 3),
            state=None,
            actions=generator.uniform(-1, 1, (1, 3)).astype(np.float32),
            dataset="toy",
        )
        for number in range(4)
    ]
    turns = (Turn("human", "which one is red?"), Turn("gpt", "the left one"))
    said = [ConversationSample(images={}, turns=turns, dataset="talk") for _ in range(4)]
    samples = [*(said if text_only else samples), *said]
    own = samples[ranks.rank * SAMPLES // ranks.world_size :][: SAMPLES // ranks.world_size]
    for start in range(0, len(own), at_a_time):
        part = own[start : start + at_a_time]
        yield policy.processor.collate([policy.processor.encode(one) for one in part])


def steps(case: Case, name: str, folder: Path) -> list[list[float]]:
    """Take the steps of a case and return loss, norm and accuracy of each."""
    ranks, policy = Ranks.here(), made(case.policy, folder)
    engine: Any = by_name("engine")({"device": "cpu", **case.engine}).build()  # type: ignore[attr-defined]
    start = 0
    if case.begun_by is not None:
        start = SAVED
        policy.module.load_state_dict(dict(read_tensors(folder / case.begun_by / "policy")))
    engine.prepare(policy.module, OPTIMIZER)
    if case.begun_by is not None:
        engine.load(folder / case.begun_by)
    taken = []
    for step in range(start, STEPS):
        if step == SAVED and case.begun_by is None:
            save(engine, folder / name)
        if step == 3:
            check_refused(engine, policy, ranks)
        at_a_time = case.at_a_time if ranks.world_size > 1 else SAMPLES
        text_only = step in TEXT_ONLY.get(case.policy, ())
        parts = batches(policy, at_a_time, ranks, text_only=text_only)
        report = engine.step(parts, policy.loss, lr=1e-3, clip_norm=0.5)
        right = report.metrics.get("token_accuracy", 0.0)  # told where there are actions
        taken.append([report.loss, report.grad_norm, right])
    return taken


def check_refused(engine: Any, policy: Any, ranks: Ranks) -> None:
    """See that all ranks refuse a step in which one of them has no loss, and that it leaves no trace."""

    def loss(module: nn.Module, batch: Any) -> Any:
        report = policy.loss(module, batch)
        return report if ranks.rank else report._replace(total=report.total * torch.nan)

    with pytest.raises(NotFinite):
        engine.step(batches(policy, 2, ranks), loss, lr=1e-3, clip_norm=None)


def save(engine: Any, folder: Path) -> None:
    weights, write = engine.full_weights(), engine.save()
    if Ranks.here().is_first:
        (folder / "policy").mkdir(parents=True)
        write_tensors(folder / "policy" / "model.safetensors", weights)
    write(told_while_saving(folder))


def main(folder: Path) -> None:
    """Take the steps of every case; the first rank writes what came out."""
    torch.set_num_threads(1)
    join(Ranks.here(), device="cpu")
    gc.freeze()  # DeepSpeed collects garbage for every engine of stage 3
    results = {name: steps(case, name, folder) for name, case in CASES.items()}
    if Ranks.here().is_first:
        (folder / "results.json").write_text(json.dumps(results))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zero")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """What one process makes of each policy; its state is where the others find it."""
    (folder / "base").mkdir()
    made("whole", folder).save(folder / "base")
    kinds = {case.policy for case in CASES.values()}
    engines = {kind: {"name": "single", "precision": "bf16" if "bf16" in kind else "fp32"} for kind in kinds}
    return {kind: steps(Case(engine, policy=kind), kind, folder) for kind, engine in sorted(engines.items())}


@pytest.fixture(scope="module")
def together(folder: Path, alone: dict[str, Any]) -> dict[str, Any]:
    """What two processes make of every case."""
    run_ranks([__file__, str(folder)], count=2)
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_losses_of_one(
    name: str, together: dict[str, Any], alone: dict[str, Any]
) -> None:
    case = CASES[name]
    expected = alone[case.policy][SAVED if case.begun_by else 0 :]
    tolerance = 2e-2 if case.engine.get("precision") == "bf16" else 1e-4
    for found, wanted in zip(together[name], expected, strict=True):
        assert found == pytest.approx(wanted, rel=tolerance)


@pytest.mark.parametrize("begun_by", ["stage 2", "stage 3", "stage 3, offloaded", "stage 2, text between"])
def test_one_process_goes_on_where_two_were(
    begun_by: str, folder: Path, together: dict[str, Any], alone: dict[str, Any]
) -> None:
    policy = CASES[begun_by].policy
    found = steps(Case({"name": "single"}, policy=policy, begun_by=begun_by), "again", folder)
    for ours, wanted in zip(found, alone[policy][SAVED:], strict=True):
        assert ours == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("stage", ["stage 2", "stage 3"])
def test_the_same_processes_go_on_bit_for_bit(stage: str, together: dict[str, Any]) -> None:
    assert together[f"{stage} again"] == together[stage][SAVED:]


@pytest.fixture
def met() -> Iterator[None]:
    """Leave no process group behind for other tests of this process."""
    yield
    leave()


@pytest.mark.usefixtures("met")
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_it_keeps_to_the_interface(stage: Any) -> None:
    check_engine(DeepSpeedConfig(device="cpu", stage=stage, zero=SMALL))


@pytest.mark.usefixtures("met")
@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"step/bias": torch.tensor(2.0)}, r"3 steps of 'weight' and 2 of 'bias', which the engine"),
        ({"ema/weight": torch.zeros(2, 3)}, r"holds 'ema' of each parameter.*train\.optimizer\.ema"),
    ],
)
def test_a_state_that_has_no_place_is_refused(
    extra: dict[str, torch.Tensor], complaint: str, tmp_path: Path
) -> None:
    module = nn.Linear(3, 2)
    moments = {f"exp_avg/{name}": torch.zeros_like(one) for name, one in module.named_parameters()}
    moments |= {f"exp_avg_sq/{name}": torch.zeros_like(one) for name, one in module.named_parameters()}
    moments |= {f"step/{name}": torch.tensor(3.0) for name, _ in module.named_parameters()}
    engine = DeepSpeedConfig(device="cpu").build()
    engine.prepare(module, OPTIMIZER)
    names = dict(module.named_parameters())
    save_state({**moments, **extra}, torch.device("cpu"), trained=names)(tmp_path)
    with pytest.raises(CheckpointError, match=complaint):
        engine.load(tmp_path)


@pytest.mark.usefixtures("met")
def test_quantised_weights_are_refused_where_they_would_be_spread() -> None:
    class Params4bit(nn.Parameter):
        """As bitsandbytes has them: another class of parameters."""

    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = Params4bit(torch.ones(8, 1))
    with pytest.raises(UserError, match=r"'1\.weight' is quantised \(Params4bit\).*train\.engine\.stage=2"):
        DeepSpeedConfig(device="cpu", stage=3).build().prepare(module, OPTIMIZER)


def test_a_module_without_anything_to_train_is_refused() -> None:
    with pytest.raises(TrainingError, match="nothing to train"):
        DeepSpeedConfig(device="cpu").build().prepare(nn.Linear(2, 2).requires_grad_(False), OPTIMIZER)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"offload": "parameters", "stage": 2}, "'offload: parameters' needs 'stage: 3'"),
        ({"zero": {"stage": 1}}, "'stage' has a key of its own"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        DeepSpeedConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "on_device", "on_cpu"),
    [
        ({"stage": 2}, (1, 0.25, 0.375), None),
        ({"stage": 2, "offload": "optimizer"}, (1, 0, 0), (0, 0.25, 0.375)),
        ({"stage": 3, "offload": "optimizer"}, (0.25, 0, 0), (0, 0.25, 0.375)),
        ({"stage": 3, "offload": "parameters"}, (0, 0, 0), (0.25, 0.25, 0.375)),
    ],
)
def test_a_plan_counts_what_is_offloaded_where_it_lies(settings: Any, on_device: Any, on_cpu: Any) -> None:
    def shares(spread: Spread) -> tuple[float, float, float]:
        return spread.parameters, spread.gradients, spread.optimizer

    found = DeepSpeedConfig(**settings).spread(4)
    assert shares(found) == on_device
    assert (found.offloaded and shares(found.offloaded)) == on_cpu
