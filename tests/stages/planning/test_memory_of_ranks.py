"""The memory model of several ranks, held against what torch's allocator counts in two real ones.

``python -m tests.stages.planning.test_memory_of_ranks FOLDER`` is one of the two: it takes steps under every
case.
"""

from __future__ import annotations

import json
import sys
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from openvla_toolkit.core.processes import gathered, join
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.testing import run_ranks, tiny_policy
from tests.stages.planning.test_memory import LEARNED, ROBOT, TEXT, room, section

ROOT = Path(__file__).parents[3]
BELOW, ABOVE = 0.04, 0.12
"""By how much of what was measured a plan may be too small, or too large."""
RANKS, SAMPLES = 2, 1


class Case(NamedTuple):
    """An engine, how many passes a step has, and how many blocks the policy."""

    engine: dict[str, Any]
    passes: int = 1
    blocks: int = 4


BF16 = {"name": "fsdp", "precision": "bf16"}
TWICE = {**BF16, "activation_checkpointing": True}
STAYING = {**TWICE, "reshard_after_forward": False}
CASES = {
    "ddp": Case({"name": "ddp"}),
    "ddp, accumulated": Case({"name": "ddp"}, passes=2),
    "fsdp": Case({"name": "fsdp"}),
    "fsdp, bf16": Case(BF16),
    "fsdp, bf16, accumulated": Case(BF16, passes=2),
    "fsdp, bf16, computed twice": Case(TWICE),
    "fsdp, bf16, kept after forward": Case(STAYING, blocks=6),
    "fsdp, bf16, kept after forward, accumulated": Case(STAYING, blocks=6, passes=2),
}


def policy(blocks: int) -> Any:
    """Return settings of a policy in which blocks count, and little else."""
    language: dict[str, Any] = tiny_policy().model_dump(mode="json")["language_model"]
    language["settings"] |= {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": blocks}
    return tiny_policy(language_model=language, cameras=("primary",))


class Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what all tensors take that are there after each operation, whichever thread lets go of them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, and add up."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, torch.Tensor):
                storage = getattr(leaf, "_local_tensor", leaf).untyped_storage()
                self._seen[storage._cdata] = weakref.ref(storage)
        there = [one for ref in self._seen.values() if (one := ref()) is not None]
        self.peak = max(self.peak, sum(one.nbytes() for one in there))
        return out


def measured(case: Case) -> float:
    """Return the bytes at the peak of one of this rank's steps, with all that it keeps.

    The first one has no optimizer state yet. Of the others the least counts: a thread that sends tensors may
    let go of them late.
    """
    train = section(**case.engine)
    engine: Any = train.engine.build()
    module: Any = policy(case.blocks).build(robot=ROBOT).module
    size, channels = module.vision_backbone.image_recipe().size, module._channels
    engine.prepare(module, train.optimizer)

    def loss(called: Any, batch: Any) -> LossReport:
        wanted = torch.zeros(SAMPLES, TEXT, dtype=torch.bool)
        wanted[:, -LEARNED:] = True
        pixels = torch.zeros(SAMPLES, channels, size, size)
        ids = torch.zeros(SAMPLES, TEXT, dtype=torch.int64)
        logits = called(ids, pixels, torch.arange(SAMPLES), wanted)
        targets = torch.zeros(SAMPLES * LEARNED, dtype=torch.int64)
        total = F.cross_entropy(logits, targets, reduction="sum")
        return LossReport(total=total, count=torch.ones(()), metrics={})

    peaks = []
    with Living() as living:
        for _ in range(4):
            living.peak = 0
            engine.step(iter([{}] * case.passes), loss, lr=1e-4, clip_norm=1.0)
            peaks.append(living.peak)
    return float(min(peaks[1:]))


def main(folder: Path) -> None:
    """Measure every case; the first rank writes what came out."""
    join(Ranks.here(), device="cpu")
    found = {}
    for name, case in CASES.items():
        found[name] = measured(case)
        gathered(None)
    if Ranks.here().is_first:
        (folder / "measured.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What two processes measured of each case."""
    folder = tmp_path_factory.mktemp("memory")
    run_ranks(["-m", "tests.stages.planning.test_memory_of_ranks", str(folder)], count=RANKS, folder=ROOT)
    results: dict[str, float] = json.loads((folder / "measured.json").read_text())
    return results


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_near_what_a_rank_takes(name: str, found: dict[str, float]) -> None:
    case = CASES[name]
    train = section(**case.engine)
    there = room(policy(case.blocks), train, train.engine.spread(RANKS), RANKS)  # type: ignore[attr-defined]
    foot = there.footprint(SAMPLES, passes=case.passes)
    planned, real = foot.total - foot.overhead, found[name]
    assert (1 - BELOW) * real < planned < (1 + ABOVE) * real, f"{planned / real:.3f} of it: {foot}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
