"""One recipe, start to end: the sections that are present, in the order of a policy's life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from openvla_toolkit.checkpoints.layout import checkpoints_of
from openvla_toolkit.core.errors import RecipeError, UserError
from openvla_toolkit.core.hooks import Facts, Observers
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.stages.claim import claimed

if TYPE_CHECKING:
    from openvla_toolkit.interfaces.dataset import DatasetConfig
    from openvla_toolkit.interfaces.evaluator import EvaluatorConfig
    from openvla_toolkit.interfaces.mixture import MixtureConfig

__all__ = ["RunResult", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run leaves behind."""

    output: Path
    checkpoint: Path | None
    """The trained policy, ready for ``load_policy``; None where nothing was trained."""
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Evaluator -> figures, ``before`` and ``after`` training."""

    @property
    def summary(self) -> list[str]:
        """Return the figures as lines for a person: before training, where asked for, and at the end."""
        before = self._lines(before=True)
        return ["before training:", *before, "after training:", *self._lines()] if before else self._lines()

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

    Raises:
        UserError: the output folder holds another run, or resuming with other settings.
        OpenVLAError: a stage failed.
    """
    recipe = _recipe(recipe, overrides)
    observers = Observers([config.build() for config in recipe.observers])
    with claimed(recipe, resume=resume):
        observers.tell.run_started(recipe=recipe, output=recipe.output)
        try:
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
    import torch

    from openvla_toolkit.checkpoints.load import load_policy
    from openvla_toolkit.stages.benchmark import benchmark
    from openvla_toolkit.stages.evaluate import evaluate, results_of
    from openvla_toolkit.stages.prepare import prepare, robot_of, statistics_of
    from openvla_toolkit.stages.train import train

    if recipe.policy is None and recipe.stages != ("prepare",):
        raise RecipeError("this recipe trains or measures a policy and names none.", path="policy")
    if recipe.export:
        raise RecipeError("exporting is not built yet (see docs/explanation/limits.md).", path="export")
    if recipe.train is not None and not recipe.data:
        raise RecipeError("this recipe trains a policy and names no data to train on.", path="data")
    prepared = prepare(cast("Sequence[DatasetConfig | MixtureConfig]", recipe.data), tell)
    if recipe.policy is None:
        return RunResult(output=recipe.output, checkpoint=None)

    torch.manual_seed(recipe.seed)  # fresh weights, dropout
    last = next(reversed(checkpoints_of(recipe.output)), None)
    started = recipe.train is not None and last is not None
    if started:
        assert last is not None
        policy = load_policy(last)
    else:
        policy = recipe.policy.build(robot=robot_of(prepared), statistics=statistics_of(prepared))
    evaluators = dict(enumerate(cast("Sequence[EvaluatorConfig]", recipe.evaluate)))
    evaluations: dict[str, Mapping[str, Any]] = {}
    if recipe.train is not None:
        if started:  # the policy as it was before training is gone; its figures are not
            evaluations |= results_of(recipe.output, label="before")
        else:
            early = {position: config for position, config in evaluators.items() if config.before_training}
            evaluations |= evaluate(early, policy, label="before", output=recipe.output, tell=tell)
        last = train(
            recipe.train,
            policy,
            prepared,
            seed=recipe.seed,
            output=recipe.output,
            tell=tell,
            resumed_from=last,
        )
        policy = load_policy(last)  # what was saved is what is measured
    label = "evaluate" if recipe.train is None else "after"
    evaluations |= evaluate(
        evaluators,
        policy,
        label=label,
        output=recipe.output,
        tell=tell,
        checkpoint=last.name if recipe.train is not None and last is not None else None,
    )
    if recipe.benchmark is not None:
        benchmark(recipe.benchmark, policy, seed=recipe.seed, output=recipe.output, tell=tell)
    return RunResult(output=recipe.output, checkpoint=last, evaluations=evaluations)
