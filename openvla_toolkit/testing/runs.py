"""Checks of what starts, watches and measures runs: launchers, observers and evaluators."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path

from openvla_toolkit.core.contract import Dimension
from openvla_toolkit.core.errors import BrokenComponent, ContractMismatch, OpenVLAError, TrainingError
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.lockfile import write_lock
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.interfaces.evaluator import EvaluatorConfig
from openvla_toolkit.interfaces.launcher import LauncherConfig
from openvla_toolkit.interfaces.observer import ObserverConfig
from openvla_toolkit.interfaces.policy import Policy
from openvla_toolkit.testing.fakes.dots import DotsRobotConfig
from openvla_toolkit.testing.fakes.linear import linear_policy
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_evaluator", "check_launcher", "check_observer"]


def check_launcher(config: LauncherConfig) -> None:
    """Look at a launcher's settings; nothing is started, for that may take a cluster.

    Checked: the settings; that there is at least one process; that building starts nothing and gives
    something that can launch.
    """
    check_settings(config, LauncherConfig)
    expect(config.processes >= 1, config, expected="at least one process", found=config.processes)
    launcher: object = config.build()
    expect(callable(getattr(launcher, "launch", None)), config, expected="a 'launch' method", found=launcher)


def check_observer(config: ObserverConfig) -> None:
    """Tell an observer of a run that succeeds, of one that fails, and of one that trains nothing.

    Checked: the settings; that its hooks are facts and take a fact's arguments; that none of them raises.
    """
    check_settings(config, ObserverConfig)
    for trained, error in ((True, None), (True, TrainingError("the loss is not finite.")), (False, None)):
        with tempfile.TemporaryDirectory() as folder:
            _tell_run(config, Path(folder) / "run", trained=trained, error=error)


def _tell_run(config: ObserverConfig, output: Path, *, trained: bool, error: OpenVLAError | None) -> None:
    recipe = Recipe.from_mapping({"output": str(output), "observers": []})
    write_lock(recipe, output)
    try:
        observers = Observers([config.build()])
    except BrokenComponent as problem:
        raise AssertionError(
            f"observer '{config.name}': expected hooks that are facts, found {problem}"
        ) from problem
    said = io.StringIO()
    with redirect_stderr(said):
        tell = observers.tell
        tell.run_started(recipe=recipe, output=output)
        tell.metrics_logged(stage="prepare index data", step=3, values={"total": 3})
        for step in (1, 2) if trained else ():
            values = {"loss": 1.0 / step, "token_accuracy": 0.5, "lr": 1e-3, "total": 2}
            tell.metrics_logged(stage="train", step=step, values=values)
        if trained:
            path = output / "checkpoints" / "step-000002"
            path.mkdir(parents=True)
            tell.checkpoint_saved(step=2, path=path)
        tell.metrics_logged(stage="evaluate after-0-score", step=4, values={"total": 4, "success": 0.5})
        tell.artifact_exported(exporter="onnx", path=output / "policy.onnx", difference=1e-6)
        tell.run_finished(error=error)
    heard = len(observers.names) == 1
    expect(
        heard,
        config,
        expected="to hear a whole run without an error of its own",
        found=said.getvalue().strip(),
    )


def check_evaluator(config: EvaluatorConfig, *, policy: Policy | None = None) -> None:
    """Measure a policy (by default a linear one for the fake robot) with small settings.

    Checked: the settings; that the figures are plain JSON data with ``summary``, a list of lines; that
    progress is told, with a total that it reaches; that the policy is not changed; that a policy with
    another action vector is a ContractMismatch.
    """
    check_settings(config, EvaluatorConfig)
    measured: Policy = policy or linear_policy(DotsRobotConfig().build())
    told: list[tuple[int, Mapping[str, float]]] = []
    before = {name: value.clone() for name, value in measured.module.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        figures = config.build().evaluate(
            measured, Path(folder), lambda done, values: told.append((done, dict(values)))
        )
    try:
        plain = json.loads(json.dumps(figures, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"evaluator '{config.name}': expected plain JSON data, found {error}."
        ) from error
    expect(plain == figures, config, expected="figures that stay the same as JSON", found=figures)
    summary = figures.get("summary")
    right = isinstance(summary, list) and bool(summary) and all(isinstance(line, str) for line in summary)
    expect(right, config, expected="'summary', a list of lines", found=repr(summary))
    expect(bool(told) and "total" in told[-1][1], config, expected="progress with a 'total'", found=told[-1:])
    expect(
        told[-1][0] == told[-1][1]["total"], config, expected="progress to reach its total", found=told[-1]
    )
    changed = [name for name, value in measured.module.state_dict().items() if not value.equal(before[name])]
    expect(not changed, config, expected="the policy to stay as it is", found=f"other {changed}")
    _check_mismatch(config, measured)


def _check_mismatch(config: EvaluatorConfig, policy: Policy) -> None:
    contract = policy.contract
    action = (Dimension(name="another", unit="1", reference="absolute"), *contract.robot.action[1:])
    robot = contract.robot.model_copy(update={"action": action})
    policy.contract = contract.model_copy(update={"robot": robot})
    try:
        with tempfile.TemporaryDirectory() as folder:
            config.build().evaluate(policy, Path(folder), lambda done, values: None)
        found = "figures"
    except ContractMismatch:
        return
    except OpenVLAError as error:
        found = f"{type(error).__name__}: {error}"
    finally:
        policy.contract = contract
    expect(False, config, expected="a ContractMismatch for a policy with other actions", found=found)
