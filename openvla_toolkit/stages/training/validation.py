"""The loss on data that is not trained on: the same samples every time, no trace left in the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import torch

from openvla_toolkit.core.batches import on_device
from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.core.hooks import Facts
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.sections import Train, Validation
from openvla_toolkit.core.step_totals import StepTotals
from openvla_toolkit.interfaces.engine import Engine
from openvla_toolkit.interfaces.policy import Policy
from openvla_toolkit.pipeline.loader import batches
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source
from openvla_toolkit.stages.prepare import Prepared, prepare, sources
from openvla_toolkit.stages.training.measures import measured
from openvla_toolkit.stages.training.steps import samples_at_a_time

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe

__all__ = ["STAGE", "Validator", "dealt", "distinct", "held_out", "prepare_held_out"]

STAGE = "validation"


def held_out(recipe: Recipe) -> list[ComponentConfig]:
    """Return the data sets that are measured: those named, else a split of every one that is trained on.

    Raises:
        RecipeError: a data set has no splits, or the same one is trained on.
    """
    assert recipe.train is not None
    section = recipe.train.validation
    if section is None or section.data:
        return [] if section is None else section.data
    return [_split(config, section, position) for position, config in enumerate(recipe.data)]


def _split(config: ComponentConfig, section: Validation, position: int) -> ComponentConfig:
    own = getattr(config, "split", None)
    if own is None:
        raise RecipeError(
            f"data.{position} ({config.name}) has no splits to hold one out: name data sets that are not "
            "trained on in train.validation.data, or leave train.validation out.",
            path="train.validation",
        )
    if own == section.split or section.split is None:
        raise RecipeError(
            f"data.{position} trains on the split '{own}', so it cannot be validated on: give another one, "
            f"such as data.{position}.split=train[:95%] and train.validation.split=train[95%:].",
            path="train.validation.split",
        )
    return config.model_copy(update={"split": section.split})


def prepare_held_out(recipe: Recipe, trained: Sequence[Prepared], tell: Facts) -> list[Prepared]:
    """Prepare what is measured, normalised as the training data of the same name are.

    Raises:
        RecipeError: a split does not exist, or a data set has no statistics among those trained on.
    """
    configs: Any = held_out(recipe)
    try:
        prepared = prepare(configs, tell)
    except RecipeError as error:
        raise RecipeError(
            f"{error.reason} Hold a part of the training data out: data.0.split=train[:95%] and "
            "train.validation.split=train[95%:]; or leave train.validation out.",
            path="train.validation",
        ) from error
    statistics = {item.name: item.statistics for item in trained}
    for item in prepared:
        if item.name not in statistics:
            raise RecipeError(
                f"'{item.name}' is measured and not trained on, so nothing says how its actions are "
                f"normalised; trained on are {', '.join(statistics)}.",
                path="train.validation.data",
            )
    return [replace(item, statistics=statistics[item.name]) for item in prepared]


class Validator:
    """Measures the policy that an engine has prepared; all ranks take part, each with its share."""

    def __init__(
        self,
        train: Train,
        policy: Policy,
        prepared: Sequence[Prepared],
        *,
        engine: Engine,
        seed: int,
        tell: Facts,
    ) -> None:
        assert train.validation is not None
        self._section, self._policy = train.validation, policy
        self._loss = measured(policy, prepared)
        self._members, shares = sources(prepared, policy.contract, seed=seed, tell=tell)
        if sum(share.size for share in shares) <= self._section.samples:  # all of them, whatever they weigh
            shares = [share._replace(weight=share.size) for share in shares]
        self._sampler = MixtureSampler(shares, seed=seed)
        self._numbers = distinct(self._sampler, shares, self._section.samples)
        self._at_a_time = samples_at_a_time(train)
        self._averaged = getattr(engine, "averaged", nullcontext)
        self._device = usable_device(getattr(train.engine, "device", "auto"), setting="train.engine.device")
        self._bf16 = getattr(train.engine, "precision", "fp32") == "bf16"
        self.figures: dict[str, float] = {}
        """The newest figures, as ``validation/<name>``."""
        self.measured_at: int | None = None
        """The step after which they were measured."""

    def is_due(self, done: int, steps: int) -> bool:
        """Tell whether to measure after ``done`` steps: once, also where a signal came between."""
        return self.measured_at != done and (done % self._section.every == 0 or done == steps)

    def measure(self, done: int, tell: Facts, *, stopped: Callable[[], object] = lambda: None) -> None:
        """Measure and tell; or leave it, untold, when the run is asked to stop.

        Args:
            stopped: asked between batches, gives all ranks the same answer.

        Raises:
            UserError: no sample has anything to learn.
        """
        module = self._policy.module
        random = torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else [])
        training = {part: part.training for part in module.modules()}
        module.eval()
        try:
            with random, torch.no_grad(), self._averaged():
                found = self._measured(stopped)
        finally:
            for part, trains in training.items():
                part.training = trains
        if found is None:
            return
        self.measured_at = done
        self.figures = {f"{STAGE}/{name}": value for name, value in found.items()}
        tell.metrics_logged(stage=STAGE, step=done, values=found)

    def _measured(self, stopped: Callable[[], object]) -> Mapping[str, float] | None:
        totals, ranks = StepTotals(), Ranks.here()
        parts = dealt(self._numbers, self._at_a_time, rank=ranks.rank, world_size=ranks.world_size)
        # Spread weights are fetched by all ranks together: one without a sample goes through with another's.
        numbers = [part or self._numbers[:1] for part in parts]
        stream = batches(self._members, self._sampler, self._policy.processor, numbers, loader=Loader())
        for batch, part in zip(stream, parts, strict=True):
            tensors = on_device(batch, self._device)
            with torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext():
                report = self._loss(self._policy.module, tensors)
            if part:
                totals.add(report)
            if stopped():
                stream.close()
                return None
        totals.close()
        if not totals.count:
            raise UserError("train.validation: the held-out samples hold nothing to learn.")
        return {"loss": totals.loss, **totals.metrics}


def distinct(sampler: MixtureSampler, shares: Sequence[Source], samples: int) -> list[int]:
    """Return the first ``samples`` numbers of samples that did not come before, or of all there are."""
    there = min(samples, sum(share.size for share in shares))
    new = (number for number in count() if sampler.visit(number) < shares[sampler.pick(number).source].size)
    return list(islice(new, there))


def dealt(numbers: Sequence[int], at_a_time: int, *, rank: int, world_size: int) -> list[list[int]]:
    """Return one rank's part of each pass; all ranks pass equally often, some at the end with an empty part.

    Together the ranks have each number once, whatever ``at_a_time`` and however many they are.
    """
    step = at_a_time * world_size
    return [list(numbers[first : first + step][rank::world_size]) for first in range(0, len(numbers), step)]
