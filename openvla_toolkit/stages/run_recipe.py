"""One recipe, start to end: the sections that are present, in the order of a policy's life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from openvla_toolkit.checkpoints.layout import checkpoints_of
from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.core.hooks import Facts, Observers
from openvla_toolkit.core.processes import Pulse, after_first, by_first, from_first, join, leave
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.worker import fork_server
from openvla_toolkit.stages.claim import claimed
from openvla_toolkit.stages.preflight import check_processes, check_recipe
from openvla_toolkit.stages.signals import ended_by_signals

if TYPE_CHECKING:
    import torch

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
    self_check: Mapping[str, Any] | None = None
    """Whether the checkpoint acts as it was trained; None where that was not looked at."""

    @property
    def summary(self) -> list[str]:
        """Return the figures as lines for a person: before training, where asked for, and at the end."""
        before, checked = self._lines(before=True), (self.self_check or {}).get("summary", [])
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
        with ended_by_signals():
            return _stages(recipe, Observers().tell)
    listening = [config.build() for config in recipe.observers]
    observers = Observers([*listening, Pulse()] if ranks.world_size > 1 else listening)
    with claimed(recipe, resume=resume):
        observers.tell.run_started(recipe=recipe, output=recipe.output)
        try:
            with ended_by_signals():
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
    from openvla_toolkit.stages.benchmark import benchmark
    from openvla_toolkit.stages.data_record import keep_record
    from openvla_toolkit.stages.evaluate import evaluate
    from openvla_toolkit.stages.prepare import prepare
    from openvla_toolkit.stages.self_check import self_check
    from openvla_toolkit.stages.validation import prepare_held_out

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
    evaluations: dict[str, Mapping[str, Any]] = {}
    checked = None
    if recipe.train is None:
        policy = _policy(recipe, prepared, None)
        policy.module.to(device)
    else:
        last, evaluations = _trained(recipe, prepared, held_out, tell, last=last, device=device)
        leave()
        if not ranks.is_first:
            return RunResult(output=recipe.output, checkpoint=last)
        # What was saved is what is measured.
        policy = cast("PolicyConfig", recipe.policy).reloaded(str(last), training=False).build()
        policy.module.to(device).eval()
        section = recipe.train.self_check
        checked = self_check(section, policy, prepared, checkpoint=last, output=recipe.output, tell=tell)
    evaluations |= evaluate(
        _evaluators(recipe),
        policy,
        label="evaluate" if recipe.train is None else "after",
        output=recipe.output,
        tell=tell,
        checkpoint=None if last is None else last.name,
    )
    if recipe.benchmark is not None:
        benchmark(recipe.benchmark, policy, seed=recipe.seed, output=recipe.output, tell=tell)
    return RunResult(output=recipe.output, checkpoint=last, evaluations=evaluations, self_check=checked)


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
    from openvla_toolkit.stages.evaluate import evaluate, results_of
    from openvla_toolkit.stages.prepare import sources
    from openvla_toolkit.stages.schedule import steps_of
    from openvla_toolkit.stages.train import train

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
    """Return what learning from one sample takes, where it can be set against what the device could do."""
    if device.type != "cuda" or not Ranks.here().is_first:
        return None
    from openvla_toolkit.stages.plan import sample_flops

    return sample_flops(recipe)


def _policy(recipe: Recipe, prepared: Sequence[Prepared], last: Path | None) -> Policy:
    """Return the policy of the checkpoint ``last``, else of the recipe, and see that it can be measured."""
    from openvla_toolkit.stages.prepare import robot_of, statistics_of

    config = cast("PolicyConfig", recipe.policy)
    config = _framing(recipe, config) if last is None else config.reloaded(str(last), training=True)
    policy: Policy = config.build(robot=robot_of(prepared), statistics=statistics_of(prepared))
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


def _evaluators(recipe: Recipe) -> dict[int, EvaluatorConfig]:
    return dict(enumerate(cast("Sequence[EvaluatorConfig]", recipe.evaluate)))
