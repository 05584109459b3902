"""Built-in evaluators: settings only; what is heavy is imported by ``build``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from openvla_toolkit.core.errors import RecipeError, did_you_mean
from openvla_toolkit.interfaces.dataset import AnyDataset
from openvla_toolkit.interfaces.environment import AnyEnvironment
from openvla_toolkit.interfaces.evaluator import EvaluatorConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openvla_toolkit.core.contract import Contract
    from openvla_toolkit.core.statistics import Statistics
    from openvla_toolkit.evaluators.closed_loop import ClosedLoop
    from openvla_toolkit.evaluators.open_loop import OpenLoop

__all__ = ["ClosedLoopConfig", "OpenLoopConfig"]


class ClosedLoopConfig(EvaluatorConfig):
    """Let the policy act in an environment and count how often it succeeds."""

    name: Literal["closed-loop"] = "closed-loop"

    environment: AnyEnvironment
    """The world to act in."""
    episodes: int = Field(default=100, gt=0)
    """Episodes; the task families take turns."""
    seed: int = Field(default=1_000_000_000, ge=0)
    """Episode ``i`` is reset with ``seed + i``, whatever the number of processes. The default is far from the
    seeds that demonstrations start from: what is measured was not seen in training."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Task families to evaluate; null for all that the environment has."""
    workers: int | None = Field(default=None, gt=0)
    """Processes that hold environments; null for one per CPU core."""
    parallel: int = Field(default=32, gt=0)
    """Environments stepped together: the batch of every call of the policy."""
    swap_probe: int = Field(default=0, ge=0)
    """Further episodes in which the instruction names another object, judged on the original goal."""
    unnorm_key: str | None = None
    """Statistics with which actions are brought to the robot's units; null when the policy has one set."""
    filmstrips: int = Field(default=4, ge=0)
    """Film strips kept per task family, successes and failures mixed."""
    execute: int | None = Field(default=None, gt=0)
    """Actions of a chunk that are executed before the policy is asked again; null for all."""

    def check(self, contract: Contract, statistics: Mapping[str, Statistics]) -> None:
        """Check families, robot, cameras and statistics (see ``interfaces.evaluator.EvaluatorConfig``)."""
        from openvla_toolkit.core.contract import compare
        from openvla_toolkit.core.statistics import select_statistics

        known = self.environment.families()
        for family in self.families or ():
            if family not in known:
                raise RecipeError(
                    f"environment '{self.environment.name}' has no task family '{family}'."
                    f"{did_you_mean(family, known)} It has: {', '.join(known)}.",
                    path="evaluate.families",
                )
        compare(contract, self.environment.interface(), world_name=f"environment '{self.environment.name}'")
        if statistics or self.unnorm_key:  # without any, how actions become units is the policy's own matter
            select_statistics(statistics, self.unnorm_key)

    def build(self) -> ClosedLoop:
        """Make the evaluator."""
        from openvla_toolkit.evaluators.closed_loop import ClosedLoop

        return ClosedLoop(self)


class OpenLoopConfig(EvaluatorConfig):
    """Compare the policy's actions with recorded ones, frame by frame."""

    name: Literal["open-loop"] = "open-loop"

    data: AnyDataset
    """The recordings."""
    frames: int = Field(default=256, gt=0)
    """Frames compared, spaced evenly over the data set."""
    seed: int = Field(default=0, ge=0)
    """Shifts the evenly spaced frames."""
    batch: int = Field(default=32, gt=0)
    """Frames per call of the policy."""
    unnorm_key: str | None = None
    """Statistics with which actions are brought to the robot's units; null for the data set's own."""

    def check(self, contract: Contract, statistics: Mapping[str, Statistics]) -> None:
        """Make the recordings if they are missing; check robot, cameras and statistics."""
        from openvla_toolkit.evaluators.open_loop import agreed_key

        self.data.prepare()
        agreed_key(self, self.data.build().describe(), contract, statistics)

    def build(self) -> OpenLoop:
        """Make the evaluator."""
        from openvla_toolkit.evaluators.open_loop import OpenLoop

        return OpenLoop(self)
