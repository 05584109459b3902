"""A few steps of the smallest real policy under every engine, in every rank of ``test_several_ranks.py``.

Four steps over the same eight samples, of which a whole micro-batch has no picture; some policies have steps
in which no sample at all has one. After the second step the state is saved; ``from ENGINE`` takes the third
and fourth one under another engine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from openvla_toolkit.checkpoints.tensors import read_tensors, write_tensors
from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.core.processes import gathered, join, told_while_saving
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.core.sections import Optimizer
from openvla_toolkit.core.step_totals import StepTotals
from openvla_toolkit.core.types import ConversationSample, Sample, Turn
from openvla_toolkit.pipeline.sampler import micro_batches
from openvla_toolkit.testing import tiny_policy

TOTAL, STEPS, SAVED = 8, 4, 2
TEXT_ONLY: Mapping[str, tuple[int, ...]] = {"whole, text between": (1, 2), "whole, text first": (0, 1)}
"""Policy -> its steps without any picture."""
FOLDER = "state"
MEASURED = "measured"
"""Where the results have the loss without gradients."""


class Case(NamedTuple):
    """An engine and what it trains."""

    engine: Mapping[str, Any]
    policy: str = "whole"
    per_device: int = 4
    begun_by: str | None = None
    """The case whose state after the second step this one goes on from."""


FSDP: Mapping[str, Any] = {"name": "fsdp"}
CASES = {
    "ddp": Case({"name": "ddp"}),
    "ddp, accumulated": Case({"name": "ddp"}, per_device=1),
    "ddp, a part frozen": Case({"name": "ddp"}, policy="frozen", per_device=2),
    "ddp, an adapter": Case({"name": "ddp"}, policy="adapter"),
    "fsdp": Case(FSDP),
    "fsdp, accumulated": Case(FSDP, per_device=2),
    "fsdp, computed twice": Case({**FSDP, "activation_checkpointing": True}),
    "fsdp, kept after forward": Case({**FSDP, "reshard_after_forward": False}),
    "fsdp, offloaded": Case({**FSDP, "cpu_offload": True}),
    "fsdp, hybrid": Case({**FSDP, "sharding": "hybrid", "shard_size": 1}),
    "fsdp, a part frozen": Case(FSDP, policy="frozen"),
    "fsdp, an adapter": Case(FSDP, policy="adapter"),
    "fsdp, an adapter beside bf16": Case({**FSDP, "precision": "bf16"}, policy="adapter beside bf16"),
    "ddp, an adapter beside bf16": Case({"name": "ddp", "precision": "bf16"}, policy="adapter beside bf16"),
    "fsdp, bf16": Case({**FSDP, "precision": "bf16"}, policy="whole in bf16"),
    "fsdp, tied weights": Case(FSDP, policy="tied", per_device=2),
    "fsdp from ddp": Case(FSDP, begun_by="ddp"),
    "ddp from fsdp": Case({"name": "ddp"}, begun_by="fsdp"),
    "fsdp from single": Case(FSDP, begun_by="whole"),
    "ddp, text between": Case({"name": "ddp"}, policy="whole, text between"),
    "fsdp, text between": Case(FSDP, policy="whole, text between", per_device=2),
    "fsdp, text first": Case(FSDP, policy="whole, text first"),
    "ddp from fsdp, text first": Case(
        {"name": "ddp"}, policy="whole, text first", begun_by="fsdp, text first"
    ),
    "fsdp from single, text first": Case(FSDP, policy="whole, text first", begun_by="whole, text first"),
    "fsdp from ddp, text between": Case(FSDP, policy="whole, text between", begun_by="ddp, text between"),
}


def made(kind: str, folder: Path) -> Any:
    """Return the policy of a case, with the same weights in every process."""
    names = ("x", "y", "gripper")
    robot = Interface(
        cameras={camera: Camera(height=32, width=32) for camera in ("primary", "wrist")},
        action=tuple(Dimension(name=name, unit="1", reference="delta") for name in names),
        control_hz=5,
    )
    torch.manual_seed(1)
    if kind.startswith("adapter"):
        return tiny_policy(
            vision_backbone=None,
            language_model=None,
            cameras=None,
            weights=str(folder / "base"),
            lora={"rank": 2},
            dtype="bfloat16" if kind.endswith("bf16") else "float32",
        ).build(robot=robot)
    settings: dict[str, Any] = {"freeze": ["vision_backbone"]} if kind == "frozen" else {}
    if kind == "tied":
        language: dict[str, Any] = tiny_policy().model_dump(mode="json")["language_model"]
        language["settings"]["tie_word_embeddings"] = True
        settings["language_model"] = language
    return tiny_policy(**settings).build(robot=robot)


def items(policy: Any, *, text_only: bool = False) -> list[Any]:
    """Return eight encoded samples; the last four, or all, have no picture."""
    generator = np.random.default_rng(0)

    def picture() -> Any:
        return generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)

    shown = [
        Sample(
            images={"primary": picture(), "wrist": picture()},
            instruction="lift it " * (1 + number % 3),
            state=None,
            actions=generator.uniform(-1, 1, (1, 3)).astype(np.float32),
            dataset="toy",
        )
        for number in range(4)
    ]
    turns = (Turn("human", "where is the cube?"), Turn("gpt", "left"))
    said = [ConversationSample(images={}, turns=turns, dataset="talk") for _ in range(4)]
    return [policy.processor.encode(one) for one in (*(said if text_only else shown), *said)]


def steps(case: Case, name: str, folder: Path) -> list[list[float]]:
    """Take the steps of a case and return loss and norm of each."""
    ranks = Ranks.here()
    policy = made(case.policy, folder)
    engine = by_name("engine")({"device": "cpu", **case.engine}).build()  # type: ignore[attr-defined]
    start = 0
    if case.begun_by is not None:
        start = SAVED
        policy.module.load_state_dict(dict(read_tensors(folder / FOLDER / case.begun_by / "policy")))
    engine.prepare(policy.module, Optimizer(lr=1e-3, weight_decay=0.1))
    if case.begun_by is not None:
        engine.load(folder / FOLDER / case.begun_by)
    taken = []
    for step in range(start, STEPS):
        if step == SAVED and case.begun_by is None:
            _save(engine, folder / FOLDER / name)
        encoded = items(policy, text_only=step in TEXT_ONLY.get(case.policy, ()))
        parts = _parts(policy, encoded, case.per_device if ranks.world_size > 1 else TOTAL, ranks)
        report = engine.step(parts, policy.loss, lr=1e-3, clip_norm=0.5)
        right = report.metrics.get("token_accuracy", 0.0)  # told where there are actions
        taken.append([report.loss, report.grad_norm, right])
    return taken


def measured(folder: Path) -> float:
    """Return the loss without gradients under fsdp; the second rank's samples have no pictures."""
    policy = made("whole", folder)
    engine = by_name("engine")({"device": "cpu", **FSDP}).build()  # type: ignore[attr-defined]
    engine.prepare(policy.module, Optimizer(lr=1e-3))
    totals = StepTotals()
    with torch.no_grad():
        for part in _parts(policy, items(policy), TOTAL // 2, Ranks.here()):
            tensors = {key: torch.from_numpy(array) for key, array in part.items()}
            totals.add(policy.loss(policy.module, tensors))
    totals.close()
    return totals.loss


def _parts(policy: Any, encoded: Sequence[Any], per_device: int, ranks: Ranks) -> Iterator[Any]:
    numbers = micro_batches(
        start=0, stop=1, total=TOTAL, per_device=per_device, rank=ranks.rank, world_size=ranks.world_size
    )
    return (policy.processor.collate([encoded[number] for number in part]) for part in numbers)


def _save(engine: Any, folder: Path) -> None:
    weights, write = engine.full_weights(), engine.save()
    folder.mkdir(parents=True, exist_ok=True)
    if Ranks.here().is_first:
        (folder / "policy").mkdir()
        write_tensors(folder / "policy" / "model.safetensors", weights)
    write(told_while_saving(folder))


def main(folder: Path) -> None:
    """Take the steps of every case; the first rank writes what came out."""
    join(Ranks.here(), device="cpu")
    results: dict[str, Any] = {}
    for name, case in CASES.items():
        results[name] = steps(case, name, folder)
        gathered(None)
    results[MEASURED] = measured(folder)
    if Ranks.here().is_first:
        (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
