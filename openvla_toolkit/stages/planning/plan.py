"""Does a training fit on a device, how fast is it at best, and what would make it fit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias, cast

import yaml

from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.registry import load as component
from openvla_toolkit.interfaces.engine import EngineConfig, Spread
from openvla_toolkit.interfaces.policy import PolicyConfig
from openvla_toolkit.stages.planning.memory import GB, Footprint, Room, in_one_machine, largest, spread_of
from openvla_toolkit.stages.planning.rehearsal import Part, Rehearsals, rehearse
from openvla_toolkit.stages.preflight import check_processes, check_recipe
from openvla_toolkit.stages.training.throughput import peak_flops

Load: TypeAlias = Callable[[Sequence[str]], Recipe]

__all__ = ["MFU", "TEXT", "Device", "Plan", "Planner", "device_of", "sample_flops"]

MFU = 0.4
"""Share of a device's peak that training is assumed to reach; measured ones are told as ``mfu`` by a run."""

TEXT = 48
"""Tokens of prompt and actions of a sample that are assumed: an instruction of some ten words."""

_BY_SIZE = {
    24: "RTX 4090",
    32: "RTX 5090",
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
_ACTIONS = 7
"""Numbers of an action, where the robot is not known before the data is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is planned for."""

    name: str
    memory: float
    """Bytes."""
    flops: dict[str, float] = field(default_factory=dict)
    """Arithmetic -> peak operations per second with matrices, where that is known."""


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
    offloaded: float
    """Bytes in the memory of the CPU all the time, for each device."""
    processes: int
    """Of one machine."""
    read: float
    """Bytes in the memory of one machine at the start: each process reads the whole policy into it."""
    fits: bool
    largest: int
    """Samples at a time that fit and divide what each device has of a batch; 0 where none does."""
    step_seconds: float | None
    """An estimate: operations over ``MFU`` of the peak; None where there is none."""
    untimed: str | None
    """Why there is no estimate."""

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
    peaks = {precision: peak_flops(name, precision) for precision in ("bf16", "fp32")}
    known = {precision: peak for precision, peak in peaks.items() if peak is not None}
    return Device(name=name or "an unknown device", memory=size * unit, flops=known)


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
        processes, engine = in_one_machine(recipe, gpus), _engine(recipe)
        untimed = self._untimed(engine.precision, offloaded=room.offloaded)
        seconds = None
        if untimed is None:
            seconds = room.rehearsed(samples).flops * passes / (device.flops[engine.precision] * MFU)
        return Plan(
            engine=engine.name,
            gpus=gpus,
            device=device,
            parameters=room.parameters,
            trained=room.trained,
            samples=samples,
            passes=passes,
            footprint=footprint,
            offloaded=room.offloaded,
            processes=processes,
            read=processes * room.read,
            fits=footprint.total <= device.memory,
            largest=largest(room, device.memory, share=share, first=samples),
            step_seconds=seconds,
            untimed=untimed,
        )

    def _untimed(self, precision: str, *, offloaded: float) -> str | None:
        """Return why a step's time cannot be told; None where it can."""
        if offloaded:
            return "with offloading, traffic and the CPU's optimizer decide, of which nothing is known"
        if precision in self._device.flops:
            return None
        return f"the peak of {self._device.name} in {precision} is not known"

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

    def switches(self, load: Load, *, gpus: int) -> Iterator[tuple[str, Plan]]:
        """Yield ways to make a training fit: overrides, as a shell takes them, and their plan, which may be
        for more devices.

        First what leaves the training as it is, one after the other, until it fits; then more devices, or
        the memory of the CPU; last what changes which parameters are trained.

        Args:
            load: gives the recipe with more overrides.
        """
        same: list[str] = []
        for more, found in self._within(load, same, gpus):
            same = more
            yield shlex.join(more), found
            if found.largest:
                return
        sharded = same if _shards(load(same)) else _instead(load(same), same, "fsdp")
        yield from self._on_more(load, sharded, gpus)
        for more, found in self._saved(load, sharded, gpus, offloading=True):
            yield shlex.join(more), found
            if found.largest:
                break
        for more, found in self._tried(load, (_adapter, _four_bits), same, gpus):
            yield shlex.join(more), found
            if found.largest:
                return

    def _within(self, load: Load, overrides: list[str], gpus: int) -> Iterator[tuple[list[str], Plan]]:
        """Yield overrides with one more of what saves memory of the same devices each time."""
        for more, found in self._saved(load, overrides, gpus, offloading=False):
            overrides = more
            yield more, found
        yield from self._tried(load, (_spread,), overrides, gpus)

    def _saved(
        self, load: Load, overrides: list[str], gpus: int, *, offloading: bool
    ) -> Iterator[tuple[list[str], Plan]]:
        """Yield overrides with one more of the engine's savings each time: those that go to the memory of
        the CPU, or the others."""
        here = _on_device(spread_of(load(overrides), gpus))
        for settings in _engine(load(overrides)).savings(gpus):
            more = _changed(overrides, _saving(settings))
            try:
                if (_on_device(spread_of(load(more), gpus)) != here) != offloading:
                    continue
                found = self.plan(load(more), gpus=gpus)
            except RecipeError:
                continue  # this recipe cannot have it
            overrides = more
            yield more, found

    def _tried(
        self,
        load: Load,
        wanted: Sequence[Callable[[Recipe, Sequence[str], int], list[str]]],
        overrides: list[str],
        gpus: int,
    ) -> Iterator[tuple[list[str], Plan]]:
        """Yield overrides with one more switch each time, and their plans."""
        for switch in wanted:
            more = switch(load(overrides), overrides, gpus)
            if more == overrides:
                continue
            try:
                found = self.plan(load(more), gpus=gpus)
            except RecipeError:
                continue  # this recipe cannot have it
            overrides = more
            yield overrides, found

    def _on_more(self, load: Load, overrides: list[str], gpus: int) -> Iterator[tuple[str, Plan]]:
        """Yield the fewest devices on which it fits, sharded, and what of the engine's savings it takes."""
        for several in _SEVERAL:
            if several <= gpus:
                continue
            for more, found in self._on(load, overrides, several):
                if found.largest:
                    yield shlex.join(more), found
                    return

    def _on(self, load: Load, overrides: list[str], gpus: int) -> Iterator[tuple[list[str], Plan]]:
        try:
            yield overrides, self.plan(load(overrides), gpus=gpus)
        except RecipeError:
            return  # the batch does not divide, or this recipe cannot have such an engine
        yield from self._saved(load, overrides, gpus, offloading=False)

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
            spread_of(recipe, gpus),
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


def _engine(recipe: Recipe) -> EngineConfig:
    return cast("EngineConfig", cast("Any", recipe.train).engine)


def _saving(settings: Mapping[str, Any]) -> list[str]:
    """Return the overrides that give a recipe's engine such settings (``EngineConfig.savings``)."""
    return [f"train.engine.{key}={_flow(value)}" for key, value in settings.items()]


def _changed(overrides: Sequence[str], more: Sequence[str]) -> list[str]:
    """Return overrides with more of them, without those of the same keys that came before."""
    new = {override.partition("=")[0] for override in more}
    return [*(one for one in overrides if one.partition("=")[0] not in new), *more]


def _instead(recipe: Recipe, overrides: Sequence[str], name: str) -> list[str]:
    """Return overrides that put another engine in place of a recipe's, which keeps what both have.

    The section is replaced as a whole, for the settings of one engine are mistakes under another.
    """
    own = _engine(recipe).model_dump(mode="json", exclude_defaults=True)
    fields = set(component("engine", name).model_fields) - {"name"}
    both = {key: value for key, value in own.items() if key in fields}
    section = _flow({"name": name, **both})
    return [*(one for one in overrides if not one.startswith("train.engine")), f"train.engine={section}"]


def _shards(recipe: Recipe) -> bool:
    """Return whether more devices leave less on each of them."""
    engine, spread = _engine(recipe), _engine(recipe).spread(2)
    return engine.distributed and min(spread.parameters, spread.gradients, spread.optimizer) < 1


def _on_device(spread: Spread) -> tuple[bool, bool]:
    """Return whether a device keeps anything of parameters, and of the optimizer's state."""
    return spread.parameters > 0, spread.optimizer > 0


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n...\n").strip()


def _spread(recipe: Recipe, overrides: Sequence[str], gpus: int) -> list[str]:
    whole = gpus > 1 and spread_of(recipe, gpus).parameters == 1
    return _instead(recipe, overrides, "fsdp") if whole else [*overrides]


def _adapter(recipe: Recipe, overrides: Sequence[str], gpus: int) -> list[str]:
    policy: Any = recipe.policy
    without = getattr(policy, "lora", "none") is None and policy.weights is not None
    return [*overrides, "policy.lora={}", "policy.dtype=bfloat16"] if without else [*overrides]


def _four_bits(recipe: Recipe, overrides: Sequence[str], gpus: int) -> list[str]:
    policy: Any = recipe.policy
    if getattr(policy, "quantization", "none") is not None or policy.lora is None:
        return [*overrides]
    if not _engine(recipe).takes_quantised:
        overrides = _instead(recipe, overrides, "ddp" if gpus > 1 else "single")
    return [*overrides, "policy.quantization=4bit"]
