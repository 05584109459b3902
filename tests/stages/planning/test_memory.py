"""The memory model, held against what torch's allocator counts while a real engine takes a real step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from openvla_toolkit.core.contract import Camera, Dimension, Interface
from openvla_toolkit.core.sections import Train
from openvla_toolkit.engines import DDPConfig, FSDPConfig, SingleConfig
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.interfaces.engine import Spread
from openvla_toolkit.stages.planning.memory import GB, Footprint, Room, largest
from openvla_toolkit.stages.planning.rehearsal import Part, Rehearsals, rehearse
from openvla_toolkit.testing import tiny_policy

TEXT, LEARNED = 40, 8
TOLERANCE = 0.1
"""Of what was measured: the model is used to choose a batch, with a margin for the allocator besides."""
ROBOT = Interface(
    cameras={"primary": Camera(height=32, width=32), "wrist": Camera(height=32, width=32)},
    action=(Dimension(name="x", unit="1", reference="delta"),),
    control_hz=5,
)


def policy(*, width: int = 128, **settings: Any) -> Any:
    """Return settings of a small policy, wide enough that its tensors count and not the rest."""
    language: dict[str, Any] = tiny_policy().model_dump(mode="json")["language_model"]
    language["settings"] |= {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": 4}
    return tiny_policy(language_model=language, cameras=("primary",), **settings)


def section(**engine: Any) -> Train:
    return Train.model_validate(
        {
            "engine": {"name": "single", "device": "cpu", **engine},
            "optimizer": {"lr": 1e-4},
            "steps": 1,
            "batch": {"total": 8},
        }
    )


def room(config: Any, train: Train, spread: Spread | None = None, ranks: int = 1) -> Room:
    rehearsals = Rehearsals(config.outline())
    return Room(rehearsals, train, spread or Spread(), ranks=ranks, text=TEXT, learned=LEARNED, pictures=1)


def measured(config: Any, train: Train, samples: int, device: str = "cpu") -> float:
    """Return the bytes at the peak of an engine's second step, with all that it keeps."""
    engine: Any = train.engine.build()
    before = _workspace() if device == "cuda" else 0
    built = config.build(robot=ROBOT)
    module: Any = built.module
    engine.prepare(module, train.optimizer)
    place = torch.ones((), device=device)

    def loss(called: Any, batch: Any) -> LossReport:
        total = module.rehearse(samples=samples, text=TEXT, learned=LEARNED, pictures=1)
        return LossReport(total=total, count=place, metrics={})

    def step() -> None:
        engine.step(iter([{}]), loss, lr=1e-4, clip_norm=1.0)

    step()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return float(torch.cuda.max_memory_allocated() - before)
    kept = sum(p.numel() * p.element_size() for p in module.parameters())
    state: Any = engine._optimizer.state
    kept += sum(v.numel() * v.element_size() for own in state.values() for v in own.values())
    return float(kept + allocated(step))


def _workspace() -> int:
    """Return the bytes on a GPU before a policy is there, with the workspace of cuBLAS."""
    for precision in (torch.float32, torch.bfloat16):
        square = torch.ones(64, 64, device="cuda", dtype=precision)
        (square @ square).sum().item()
    del square
    return torch.cuda.memory_allocated()


def allocated(step: Callable[[], None]) -> int:
    """Return the most bytes that a step allocates at once, by the allocator's own record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    results: Any = seen.profiler.kineto_results  # type: ignore[union-attr]
    events = [one for one in results.events() if one.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"activation_checkpointing": True},
        {"precision": "bf16"},
        {"precision": "bf16", "activation_checkpointing": True},
    ],
    ids=lambda engine: " ".join(engine) or "fp32",
)
def test_the_model_is_near_what_is_measured(engine: dict[str, Any]) -> None:
    config, train = policy(), section(**engine)
    foot = room(config, train).footprint(8, passes=1)
    assert foot.total - foot.overhead == pytest.approx(measured(config, train, 8), rel=TOLERANCE)


def test_frozen_parts_keep_nothing(tmp_path: Any) -> None:
    config, train = policy(freeze=("vision_backbone",)), section()
    foot = room(config, train).footprint(4, passes=1)
    assert foot.total - foot.overhead == pytest.approx(measured(config, train, 4), rel=TOLERANCE)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_adapter_beside_weights(precision: str, tmp_path: Any) -> None:
    policy().build(robot=ROBOT).save(tmp_path)
    adapted = tiny_policy(
        vision_backbone=None, language_model=None, cameras=None, weights=str(tmp_path), lora={"rank": 4}
    )
    train = section(precision=precision)
    foot = room(adapted, train).footprint(4, passes=1)
    assert foot.total - foot.overhead == pytest.approx(measured(adapted, train, 4), rel=TOLERANCE)


@pytest.mark.gpu
@pytest.mark.parametrize("engine", [{}, {"precision": "bf16"}, {"activation_checkpointing": True}], ids=str)
def test_the_model_is_near_what_a_gpu_counts(engine: dict[str, Any]) -> None:
    config = policy(width=2048)  # 0.9 GB of weights: what kernels take for themselves does not count
    train = section(**{"device": "cuda", **engine})
    foot = room(config, train).footprint(8, passes=1)
    found = measured(config, train, 8, device="cuda")
    assert foot.total - foot.overhead == pytest.approx(found, rel=2 * TOLERANCE)


def test_sharing_divides_what_is_kept_and_fetches_what_computes() -> None:
    train = section(precision="bf16")
    alone = room(policy(), train).footprint(2, passes=2)
    config = FSDPConfig(precision="bf16")
    shared = room(policy(), train, config.spread(4), 4).footprint(2, passes=2)
    for part in ("weights", "optimizer", "gradients"):
        assert getattr(shared, part) == pytest.approx(getattr(alone, part) / 4)
    assert alone.gathered == 0 < shared.gathered < alone.weights
    offloaded = FSDPConfig(cpu_offload=True).spread(4)
    assert (offloaded.parameters, offloaded.gradients, offloaded.optimizer) == (0, 0, 0)
    assert offloaded.offloaded == config.spread(4)
    kept = room(policy(), train, offloaded, 4).offloaded
    assert kept == shared.weights + shared.gradients + shared.optimizer
    assert room(policy(), train, config.spread(4), 4).offloaded == 0
    assert FSDPConfig(sharding="hybrid", shard_size=2).spread(4).parameters == 0.5
    assert FSDPConfig(sharding="hybrid").spread(16, local=8).parameters == 1 / 8
    assert FSDPConfig(sharding="hybrid").spread(4).parameters == 1 / 4
    assert FSDPConfig().spread(16, local=8).parameters == 1 / 16
    assert DDPConfig().spread(4) == Spread(gradients_stay=True, gradients_beside=True)
    assert SingleConfig().spread(1) == Spread()


def test_a_running_mean_and_earlier_passes_are_counted() -> None:
    plain, averaging = section(), section()
    averaging = averaging.model_validate({**averaging.model_dump(), "optimizer": {"lr": 1e-4, "ema": {}}})
    one, other = (room(policy(), train) for train in (plain, averaging))
    trained = one.trained
    difference = other.footprint(1, passes=1).optimizer - one.footprint(1, passes=1).optimizer
    assert difference == 4 * trained
    assert one.footprint(1, passes=2).gradients == 4 * trained


def test_the_largest_batch_is_the_largest() -> None:
    there = room(policy(), section())
    for samples in (1, 5, 11):
        memory = there.footprint(samples, passes=2).total + 1
        assert largest(there, memory, share=10 * samples, first=2 * samples) == samples
    assert largest(there, 1.0, share=64, first=4) == 0
    assert largest(there, 1000 * GB, share=64, first=4) == 64


class Counted(Room):
    """A room whose activations are a table."""

    def __init__(self, activations: dict[int, int], *, gradients: int, there: int) -> None:
        self._activations, self._all, self._there = activations, gradients, there

    def footprint(self, samples: int, *, passes: int) -> Footprint:
        held = self._all if passes > 1 else self._there
        parts = dict.fromkeys(("weights", "optimizer", "gathered", "overhead"), 10.0)
        return Footprint(**parts, gradients=held, activations=self._activations[samples])


@pytest.mark.parametrize("share", [1, 2, 7, 12, 48])
@pytest.mark.parametrize("there", [5, 60, 100], ids=lambda there: f"{there} gradients in one pass")
def test_the_largest_batch_is_that_of_trying_all_divisors(share: int, there: int) -> None:
    """One pass holds fewer gradients than several: more samples may fit where fewer do not."""
    divisors = [one for one in range(1, share + 1) if share % one == 0]
    for slope in (1, 9):
        table = {one: 3 + slope * one - one % 3 for one in divisors}
        made = Counted(table, gradients=100, there=there)
        needs = {one: made.footprint(one, passes=share // one).total for one in divisors}
        for memory in {value + more for value in needs.values() for more in (-1, 0, 1)}:
            best = max((one for one in divisors if needs[one] <= memory), default=0)
            for first in divisors:
                assert largest(made, memory, share=share, first=first) == best


def test_the_largest_batch_of_a_policy_is_that_of_trying_all_divisors() -> None:
    there = room(policy(), section(precision="bf16"))
    needs = {one: there.footprint(one, passes=4 // one).total for one in (1, 2, 4)}
    assert needs[4] < needs[1], "one pass of all samples takes less than four of one"
    for memory in {value + more for value in needs.values() for more in (-1, 1)}:
        best = max((one for one in needs if needs[one] <= memory), default=0)
        assert {largest(there, memory, share=4, first=one) for one in needs} == {best}


def test_operations_are_those_of_the_layers() -> None:
    """Twice the weights that a token meets, forward, and twice that, backward; and attention."""
    outline = policy().outline()
    assert outline is not None
    found = rehearse(outline, Part(samples=2, text=TEXT, learned=LEARNED), bf16=False, computed_twice=False)
    tokens = 2 * (TEXT + outline.vision_backbone.num_patches)
    decoder: Any = outline.language_model.base_model
    blocks = sum(p.numel() for p in decoder.layers.parameters() if p.ndim == 2)
    least = 6 * blocks * tokens
    assert least < found.flops < 1.6 * least
    again = rehearse(outline, Part(samples=2, text=TEXT, learned=LEARNED), bf16=False, computed_twice=True)
    assert 1.2 * found.flops < again.flops < 1.4 * found.flops


def test_nothing_is_rehearsed_twice() -> None:
    told: list[str] = []
    rehearsals = Rehearsals(policy().outline(), told=told.append)
    for spread, ranks in ((Spread(), 1), (DDPConfig().spread(2), 2), (Spread(), 1)):
        there = Room(rehearsals, section(), spread, ranks=ranks, text=TEXT, learned=LEARNED, pictures=1)
        there.footprint(2, passes=1)
        there.footprint(2, passes=4)
    assert told == ["rehearsing a pass of 2 samples"]


def test_the_outline_is_left_as_it_was() -> None:
    outline = policy().outline()
    assert outline is not None
    before = dict(outline.named_parameters())
    rehearse(outline, Part(samples=1, text=TEXT, learned=LEARNED), bf16=True, computed_twice=True)
    assert dict(outline.named_parameters()) == before
    assert all(parameter.is_meta for parameter in outline.parameters())
    assert not any("forward" in vars(part) for part in outline.modules())
