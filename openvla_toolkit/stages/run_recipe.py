"""One recipe, start to end: the sections that are present, in the order of a policy's life."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from openvla_toolkit.checkpoints.layout import checkpoints_of, way_past
from openvla_toolkit.core.errors import CheckpointError, OutOfMemory, RecipeError, UserError
from openvla_toolkit.core.hooks import Facts, Observers
from openvla_toolkit.core.processes import (
    Pulse,
    after_first,
    by_first,
    from_first,
    join,
    leave,
    lost_ranks_named,
)
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.worker import fork_server
from openvla_toolkit.stages.claim import claimed, stop_noted
from openvla_toolkit.stages.preflight import check_processes, check_recipe
from openvla_toolkit.stages.signals import ended_by_signals

if TYPE_CHECKING:
    import torch

    from openvla_toolkit.core.sections import Train
    from openvla_toolkit.interfaces.dataset import DatasetConfig
    from openvla_toolkit.interfaces.evaluator import EvaluatorConfig
    from openvla_toolkit.interfaces.mixture import MixtureConfig
    from openvla_toolkit.interfaces.policy import Policy, PolicyConfig
    from openvla_toolkit.stages.prepare import Prepared

__all__ = ["RunResult", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run leaves behind."""

    output: Path
    checkpoint: Path | None
    """The trained policy, ready for ``load_policy``; None where nothing was trained."""
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Evaluator -> figures, ``before`` and ``after`` training."""
    self_check: Sequence[Mapping[str, Any]] = ()
    """Whether the best checkpoint, if one is kept, and the last one act as they were trained; empty where
    that was not looked at."""

    @property
    def summary(self) -> list[str]:
        """Return the figures as lines for a person: before training, where asked for, and at the end."""
        before = self._lines(before=True)
        checked = [line for figures in self.self_check for line in figures["summary"]]
        after = [*self._lines(), *checked]
        return ["before training:", *before, "after training:", *after] if before else after

    def _lines(self, *, before: bool = False) -> list[str]:
        chosen = [
            figures for name, figures in self.evaluations.items() if name.startswith("before") == before
        ]
        return [line for figures in chosen for line in figures["summary"]]


def run(
    recipe: Recipe | str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, resume: bool = False
) -> RunResult:
    """Run a recipe: prepare, train, evaluate, benchmark, as its sections ask.

    Args:
        recipe: a file, ``PACKAGE:recipes/x.yaml``, a mapping, or a validated recipe.
        overrides: ``key.path=value`` for a file or a mapping.
        resume: go on from the last checkpoint in ``output``; begin anew where there is none.

    In a process that torchrun or a launcher started, this is one rank of the run: all train, the first one
    does the rest and tells of it.

    Raises:
        UserError: the output folder holds another run, or resuming with other settings or other data.
        RunInterrupted: Ctrl-C while training, SIGTERM or SIGUSR1.
        OpenVLAError: a stage failed.
    """
    recipe = _recipe(recipe, overrides)
    check_recipe(recipe)
    ranks = Ranks.here()
    check_processes(recipe, ranks.world_size)
    if not ranks.is_first:
        with ended_by_signals(), lost_ranks_named():
            return _stages(recipe, Observers().tell)
    listening = [config.build() for config in recipe.observers]
    observers = Observers([*listening, Pulse()] if ranks.world_size > 1 else listening)
    with claimed(recipe, resume=resume):
        observers.tell.run_started(recipe=recipe, output=recipe.output)
        try:
            with stop_noted(recipe.output), ended_by_signals(), lost_ranks_named():
                result = _stages(recipe, observers.tell)
        except BaseException as error:
            observers.tell.run_finished(error=error)
            raise
        observers.tell.run_finished(error=None)
    return result


def _recipe(recipe: Recipe | str | Path | Mapping[str, Any], overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        if overrides:
            raise UserError("overrides go with a file or a mapping; this recipe is validated already.")
        return recipe
    if isinstance(recipe, Mapping):
        return Recipe.from_mapping(recipe, overrides)
    return Recipe.load(recipe, overrides)


def _stages(recipe: Recipe, tell: Facts) -> RunResult:
    # The stages bring torch; a recipe with a mistake is refused before that second is spent.
    if recipe.train is not None and recipe.train.loader.workers:
        fork_server("openvla_toolkit.pipeline.loader")  # brings it for the workers meanwhile
    import torch

    from openvla_toolkit.checkpoints.locate import locate
    from openvla_toolkit.core.devices import usable_device
    from openvla_toolkit.stages.data_record import keep_record
    from openvla_toolkit.stages.prepare import prepare
    from openvla_toolkit.stages.training.self_check import self_check
    from openvla_toolkit.stages.training.validation import prepare_held_out

    asked = getattr(recipe.train.engine, "device", "auto") if recipe.train else "auto"
    device = usable_device(asked, setting="train.engine.device")
    if (ranks := Ranks.here()).world_size > 1:
        join(ranks, device=device.type)
    last = from_first(_last_checkpoint(recipe))
    if last is None and (weights := getattr(recipe.policy, "weights", None)) is not None:
        locate(weights)  # before the data is made and read, which may take hours
    data = cast("Sequence[DatasetConfig | MixtureConfig]", recipe.data)
    executor = recipe.prepare.executor.build()
    prepared = after_first(lambda: prepare(data, tell, executor=executor))
    by_first(lambda: keep_record(prepared, recipe.output, resumed=last is not None))
    held_out = after_first(lambda: prepare_held_out(recipe, prepared, tell)) if recipe.train else []
    if recipe.policy is None:
        return RunResult(output=recipe.output, checkpoint=None)

    torch.manual_seed(recipe.seed)  # fresh weights, dropout
    if recipe.train is None:
        policy = _policy(recipe, prepared, None)
        policy.module.to(device)
        figures = _figures(recipe, policy, tell, label="evaluate", checkpoint=None)
        return RunResult(output=recipe.output, checkpoint=None, evaluations=figures)
    last, evaluations = _trained(recipe, prepared, held_out, tell, last=last, device=device)
    leave()
    checked: Sequence[Mapping[str, Any]] = []
    looks = recipe.train.self_check.action != "off" and any(item.robot is not None for item in prepared)
    if ranks.is_first and (looks or recipe.evaluate or recipe.benchmark is not None):
        # What was saved is what is measured.
        look = partial(self_check, recipe.train.self_check, prepared, output=recipe.output, tell=tell)
        with _room_to_measure(last):
            best = _best(recipe)
            if looks and best not in (None, last):
                checked = look(_reloaded(recipe, best, device), checkpoint=best)
            policy = _reloaded(recipe, last, device)
            checked = look(policy, checkpoint=last, beside=checked)
            evaluations |= _figures(recipe, policy, tell, label="after", checkpoint=last.name)
    return RunResult(output=recipe.output, checkpoint=last, evaluations=evaluations, self_check=checked)


def _figures(
    recipe: Recipe, policy: Policy, tell: Facts, *, label: str, checkpoint: str | None
) -> dict[str, Mapping[str, Any]]:
    """Measure a policy as the recipe asks; return what the evaluators found."""
    from openvla_toolkit.stages.benchmark import benchmark
    from openvla_toolkit.stages.evaluate import evaluate

    evaluators, output = _evaluators(recipe), recipe.output
    figures = evaluate(evaluators, policy, label=label, output=output, tell=tell, checkpoint=checkpoint)
    if recipe.benchmark is not None:
        benchmark(recipe.benchmark, policy, seed=recipe.seed, output=output, tell=tell)
    return figures


@contextmanager
def _room_to_measure(checkpoint: Path) -> Iterator[None]:
    """Say that nothing is lost where one device has no room for what several were trained on."""
    from openvla_toolkit.core.devices import out_of_memory_named

    try:
        with out_of_memory_named():
            yield
    except OutOfMemory as error:
        reason = str(error.__cause__).splitlines()[0].rstrip(".")
        raise OutOfMemory(
            f"the training is done and saved in {checkpoint}; there is no room to measure it here "
            f"({reason}). Measure it by a recipe of its own, with policy.weights={checkpoint} and without "
            "'train', on a larger device or with policy.dtype=bfloat16; train.self_check=off leaves out the "
            "check that follows every training."
        ) from error


def _trained(
    recipe: Recipe,
    prepared: Sequence[Prepared],
    held_out: Sequence[Prepared],
    tell: Facts,
    *,
    last: Path | None,
    device: torch.device,
) -> tuple[Path, dict[str, Mapping[str, Any]]]:
    """Train, or go on from ``last``; return the new last checkpoint and the figures from before."""
    from openvla_toolkit.core.devices import out_of_memory_named
    from openvla_toolkit.stages.evaluate import evaluate, results_of
    from openvla_toolkit.stages.prepare import sources
    from openvla_toolkit.stages.training.schedule import steps_of
    from openvla_toolkit.stages.training.train import train

    assert recipe.train is not None
    policy = _policy(recipe, prepared, last)
    early = {position: config for position, config in _evaluators(recipe).items() if config.before_training}
    if early and last is None:  # else it is left to the engine, which may want to spread it over devices
        policy.module.to(device)

    def measured() -> dict[str, Mapping[str, Any]]:
        if last is not None:  # the policy as it was before training is gone; its figures are not
            return results_of(early, label="before", output=recipe.output)
        return evaluate(early, policy, label="before", output=recipe.output, tell=tell)

    figures = by_first(measured) or {}
    members, _ = sources(prepared, policy.contract, seed=recipe.seed, tell=Observers().tell)
    samples = sum(map(len, members))
    steps = steps_of(recipe.train, samples)
    with out_of_memory_named():
        trained = train(
            recipe.train.model_copy(update={"steps": steps, "epochs": None}),
            policy,
            prepared,
            seed=recipe.seed,
            output=recipe.output,
            tell=tell,
            held_out=held_out,
            sample_flops=_sample_flops(recipe, device),
            resumed_from=last,
        )
    return trained, figures


def _sample_flops(recipe: Recipe, device: torch.device) -> float | None:
    """Return what learning from one sample takes, where it can be set against what the device could do.

    It serves a figure alone: what goes wrong with it is told, and the training goes on without.
    """
    if device.type != "cuda" or not Ranks.here().is_first:
        return None
    from openvla_toolkit.stages.planning.plan import sample_flops

    try:
        return sample_flops(recipe)
    except Exception as error:  # whatever a policy's own code raises on shapes without numbers
        logging.getLogger(__name__).warning(
            "the metrics will have no 'mfu': the policy cannot be rehearsed (%s: %s)",
            type(error).__name__,
            error,
        )
        return None


def _policy(recipe: Recipe, prepared: Sequence[Prepared], last: Path | None) -> Policy:
    """Return the policy of the checkpoint ``last``, else of the recipe, and see that it can be measured."""
    from openvla_toolkit.stages.prepare import robot_of, statistics_of

    config = cast("PolicyConfig", recipe.policy)
    config = _framing(recipe, config) if last is None else config.reloaded(str(last), training=True)
    try:
        policy: Policy = config.build(robot=robot_of(prepared), statistics=statistics_of(prepared))
    except CheckpointError as error:
        if last is None:
            raise
        remedy = way_past(last)
        raise CheckpointError(f"{error} Or {remedy[0].lower()}{remedy[1:]}") from error
    for evaluator in _evaluators(recipe).values():
        evaluator.check(policy.contract, policy.statistics)
    return policy


def _framing(recipe: Recipe, config: PolicyConfig) -> PolicyConfig:
    """Return the policy's settings with the frames that it is going to be trained on.

    Raises:
        RecipeError: the policy's own settings ask for others.
    """
    if recipe.train is None or recipe.train.frames is None:
        return config
    frame = recipe.train.frames.recipe()
    if config.frame not in (None, frame):
        raise RecipeError(
            f"'{config.frame}' is not what 'train.frames' trains it on, '{frame}'; leave it out.",
            path="policy.frame",
        )
    return config.model_copy(update={"frame": frame})


def _last_checkpoint(recipe: Recipe) -> Path | None:
    return None if recipe.train is None else next(reversed(checkpoints_of(recipe.output)), None)


def _reloaded(recipe: Recipe, checkpoint: Path, device: torch.device) -> Policy:
    """Return the policy of a checkpoint, ready to act; the one before it is gone, for two may not fit."""
    from openvla_toolkit.core.devices import release_memory

    release_memory()
    config = cast("PolicyConfig", recipe.policy).reloaded(str(checkpoint), training=False)
    policy: Policy = config.build()
    policy.module.to(device).eval()
    return policy


def _best(recipe: Recipe) -> Path | None:
    """Return the best checkpoint; None where none is kept as such."""
    from openvla_toolkit.stages.training.saver import best_checkpoint

    keep = cast("Train", recipe.train).keep_best
    return None if keep is None else best_checkpoint(checkpoints_of(recipe.output), keep)


def _evaluators(recipe: Recipe) -> dict[int, EvaluatorConfig]:
    return dict(enumerate(cast("Sequence[EvaluatorConfig]", recipe.evaluate)))
