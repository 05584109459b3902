"""Does a training fit on a device, how fast is it at best, and what would make it fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.interfaces.engine import EngineConfig
from openvla_toolkit.interfaces.policy import PolicyConfig
from openvla_toolkit.stages.memory import GB, Footprint, Room, largest
from openvla_toolkit.stages.preflight import check_processes, check_recipe
from openvla_toolkit.stages.rehearsal import Part, Rehearsals, rehearse
from openvla_toolkit.stages.throughput import peak_flops

__all__ = ["MFU", "TEXT", "Device", "Plan", "Planner", "device_of", "sample_flops"]

MFU = 0.4
"""Share of a device's peak that training is assumed to reach; measured ones are told as ``mfu`` by a run."""

TEXT = 48
"""Tokens of prompt and actions of a sample that are assumed: an instruction of some ten words."""

_BY_SIZE = {
    24: "RTX 4090",
    40: "A100",
    48: "L40S",
    80: "A100",
    94: "H100",
    96: "H100",
    141: "H200",
    192: "B200",
}
"""GB -> a device of that size, where only the size is given."""
_SEVERAL = (2, 4, 8, 16, 32, 64)
"""How many devices are tried where one is not enough."""
_IN_ONE_MACHINE = 8
"""Devices of a machine, where no launcher says."""
_ACTIONS = 7
"""Numbers of an action, where the robot is not known before the data is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is planned for."""

    name: str
    memory: float
    """Bytes."""
    flops: float | None
    """Peak operations per second with bf16 matrices; None where they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a recipe takes on each device."""

    engine: str
    gpus: int
    device: Device
    parameters: int
    trained: int
    samples: int
    """At a time on one device, as the recipe says."""
    passes: int
    footprint: Footprint
    fits: bool
    largest: int
    """Samples at a time that fit and divide what each device has of a batch; 0 where none does."""
    step_seconds: float | None
    """An estimate: operations over ``MFU`` of the peak; None where the peak is not known."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        told = asdict(self)
        return {**told, "footprint": {**told["footprint"], "total": self.footprint.total}, "assumed_mfu": MFU}


def device_of(gpu: str) -> Device:
    """Return a device by its memory (``24GB``), or by its name and memory (``H100:80GB``).

    GB are 1e9 bytes, GiB 2**30. A card that is sold as one of 24 GB may have up to 24 GiB, 7 % more, of which
    the driver takes some: 1e9 is the careful reading.

    Raises:
        UserError: it is neither.
    """
    found = re.fullmatch(
        r"(?:(?P<name>[\w -]+):)?(?P<size>\d+(?:\.\d+)?)\s*G(?P<binary>i)?B?", gpu.strip(), re.IGNORECASE
    )
    if found is None:
        raise UserError(
            f"--gpu '{gpu}': give its memory, such as 24GB, or name and memory, such as H100:80GB."
        )
    size, unit = float(found["size"]), 2**30 if found["binary"] else GB
    name = found["name"] or _BY_SIZE.get(int(size), "")
    return Device(name=name or "an unknown device", memory=size * unit, flops=peak_flops(name))


class Planner:
    """Plans trainings on one kind of device; what is rehearsed for one plan serves the others."""

    def __init__(self, device: Device, *, text: int, told: Callable[[str], None] | None = None) -> None:
        """Plan for a device.

        Args:
            text: tokens of prompt and answer that are assumed.
            told: called with a line before anything that takes seconds.
        """
        self._device, self._text, self._told = device, text, told
        self._rehearsals: dict[str, Rehearsals] = {}

    def plan(self, recipe: Recipe, *, gpus: int) -> Plan:
        """Rehearse a recipe's training, without weights or data.

        Raises:
            RecipeError: the recipe cannot run on so many devices.
            UserError: it trains nothing, or its policy cannot be rehearsed.
        """
        room, samples, passes = self._shared(recipe, gpus)
        footprint, device = room.footprint(samples, passes=passes), self._device
        share = samples * passes
        seconds = None
        if device.flops is not None:
            seconds = room.rehearsed(samples).flops * passes / (device.flops * MFU)
        return Plan(
            engine=cast("Any", recipe.train).engine.name,
            gpus=gpus,
            device=device,
            parameters=room.parameters,
            trained=room.trained,
            samples=samples,
            passes=passes,
            footprint=footprint,
            fits=footprint.total <= device.memory,
            largest=_divisor(share, at_most=largest(room, device.memory, most=share, first=samples)),
            step_seconds=seconds,
        )

    def gpus(self, recipe: Recipe) -> int:
        """Return how many devices to plan for where only the recipe says.

        Its launcher's processes; without one, under an engine that shards, the fewest on which it fits (one
        where it fits on none), and else one.
        """
        if recipe.launcher is not None:
            return int(cast("Any", recipe.launcher).processes)
        if recipe.train is None or not _shards(recipe):
            return 1
        for count in (1, *_SEVERAL):
            try:
                room, samples, passes = self._shared(recipe, count)
            except RecipeError:
                continue  # the batch does not divide
            if room.footprint(samples, passes=passes).total <= self._device.memory:
                return count
        return 1

    def switches(self, load: Callable[[Sequence[str]], Recipe], *, gpus: int) -> Iterator[tuple[str, Plan]]:
        """Yield ways to make a training fit: overrides and their plan, which may be for more devices.

        First what leaves the training as it is, one after the other, until it fits; then more devices, or
        the memory of the CPU; last what changes which parameters are trained.

        Args:
            load: gives the recipe with more overrides.
        """
        same: list[str] = []
        for more, found in self._tried(load, (_twice, _bf16, _spread), same, gpus):
            same = more
            yield " ".join(more), found
            if found.largest:
                return
        yield from self._on_more(load, same, gpus)
        for more, found in self._tried(load, (_offload,), same, gpus):
            yield " ".join(more), found
        for more, found in self._tried(load, (_adapter, _four_bits), same, gpus):
            yield " ".join(more), found
            if found.largest:
                return

    def _tried(
        self,
        load: Callable[[Sequence[str]], Recipe],
        wanted: Sequence[Callable[[Recipe, int], list[str]]],
        overrides: list[str],
        gpus: int,
    ) -> Iterator[tuple[list[str], Plan]]:
        """Yield overrides with one more switch each time, and their plans."""
        for switch in wanted:
            more = switch(load(overrides), gpus)
            if not more:
                continue
            try:
                found = self.plan(load([*overrides, *more]), gpus=gpus)
            except RecipeError:
                continue  # this recipe cannot have it
            overrides = [*overrides, *more]
            yield overrides, found

    def _on_more(
        self, load: Callable[[Sequence[str]], Recipe], overrides: list[str], gpus: int
    ) -> Iterator[tuple[str, Plan]]:
        """Yield the fewest devices on which it fits, sharded."""
        recipe = load(overrides)
        if _quantised(recipe):
            return
        more = overrides if _shards(recipe) else [*overrides, "train.engine.name=fsdp"]
        for several in _SEVERAL:
            if several <= gpus:
                continue
            try:
                found = self.plan(load(more), gpus=several)
            except RecipeError:
                continue
            if found.largest:
                yield " ".join(more), found
                return

    def _shared(self, recipe: Recipe, gpus: int) -> tuple[Room, int, int]:
        """Return the room of a recipe on each of so many devices, its samples at a time and its passes."""
        check_recipe(recipe)
        if recipe.train is None:
            raise UserError("this recipe trains nothing: there is nothing to plan.")
        check_processes(recipe, gpus)
        policy: Any = recipe.policy
        learned = _learned(policy)
        room = Room(
            self._rehearsed(policy),
            recipe.train,
            cast("EngineConfig", recipe.train.engine).spread(gpus, local=_in_one_machine(recipe, gpus)),
            ranks=gpus,
            text=max(self._text, learned + 1),
            learned=learned,
            pictures=_pictures(policy),
        )
        share = recipe.train.batch.total // gpus
        samples = recipe.train.batch.per_device or share
        return room, samples, share // samples

    def _rehearsed(self, policy: PolicyConfig) -> Rehearsals:
        key = policy.model_dump_json()
        if key not in self._rehearsals:
            outline = policy.outline()
            if outline is None:
                raise UserError(
                    f"the size of policy.weights '{getattr(policy, 'weights', None)}' is not known before "
                    "they are here: fetch them first, or plan with a model of the catalog "
                    "('openvla models list')."
                )
            self._rehearsals[key] = Rehearsals(outline, told=self._told)
        return self._rehearsals[key]


def sample_flops(recipe: Recipe) -> float | None:
    """Return the operations of learning from one sample, forward and backward, nothing computed twice.

    Counted are matrices, convolutions and attention over the pictures and ``TEXT`` tokens. None where the
    policy cannot be rehearsed.
    """
    policy: Any = recipe.policy
    outline = policy.outline()
    if not hasattr(outline, "rehearse"):
        return None
    learned = _learned(policy)
    part = Part(samples=1, text=max(TEXT, learned + 1), learned=learned, pictures=_pictures(policy))
    return float(rehearse(outline, part, bf16=False, computed_twice=False).flops)


def _learned(policy: Any) -> int:
    """Return the tokens of an answer: an action chunk and its end."""
    return _ACTIONS * (getattr(policy, "chunk", None) or 1) + 1


def _pictures(policy: Any) -> int:
    return len(getattr(policy, "cameras", None) or ("primary",))


def _divisor(number: int, *, at_most: int) -> int:
    """Return the largest divisor up to a bound; 0 where that is 0."""
    return next((one for one in range(at_most, 0, -1) if number % one == 0), 0)


def _in_one_machine(recipe: Recipe, gpus: int) -> int:
    """Return how many of the devices are in one machine: as the launcher says, else eight at most."""
    launcher: Any = recipe.launcher
    if launcher is not None and launcher.processes == gpus:
        return int(getattr(launcher, "nproc", gpus))
    return min(gpus, _IN_ONE_MACHINE)


def _shards(recipe: Recipe) -> bool:
    engine = cast("EngineConfig", cast("Any", recipe.train).engine)
    spread = engine.spread(2)
    return engine.distributed and min(spread.parameters, spread.gradients, spread.optimizer) < 1


def _quantised(recipe: Recipe) -> bool:
    return getattr(recipe.policy, "quantization", None) is not None


def _twice(recipe: Recipe, gpus: int) -> list[str]:
    engine: Any = cast("Any", recipe.train).engine
    off = getattr(engine, "activation_checkpointing", None) is False
    return ["train.engine.activation_checkpointing=true"] if off else []


def _bf16(recipe: Recipe, gpus: int) -> list[str]:
    engine: Any = cast("Any", recipe.train).engine
    return ["train.engine.precision=bf16"] if getattr(engine, "precision", None) == "fp32" else []


def _spread(recipe: Recipe, gpus: int) -> list[str]:
    engine = cast("EngineConfig", cast("Any", recipe.train).engine)
    whole = gpus > 1 and engine.spread(gpus).parameters == 1 and not _quantised(recipe)
    return ["train.engine.name=fsdp"] if whole else []


def _offload(recipe: Recipe, gpus: int) -> list[str]:
    engine: Any = cast("Any", recipe.train).engine
    if _quantised(recipe):
        return []
    if getattr(engine, "cpu_offload", None) is False:
        return ["train.engine.cpu_offload=true"]
    return [] if _shards(recipe) else ["train.engine.name=fsdp", "train.engine.cpu_offload=true"]


def _adapter(recipe: Recipe, gpus: int) -> list[str]:
    policy: Any = recipe.policy
    without = getattr(policy, "lora", "none") is None and policy.weights is not None
    return ["policy.lora={}", "policy.dtype=bfloat16"] if without else []


def _four_bits(recipe: Recipe, gpus: int) -> list[str]:
    policy: Any = recipe.policy
    whole = getattr(policy, "quantization", "none") is None and policy.lora is not None
    return (
        ["policy.quantization=4bit", f"train.engine.name={'ddp' if gpus > 1 else 'single'}"] if whole else []
    )
