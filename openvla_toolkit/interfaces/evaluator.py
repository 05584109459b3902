"""Kind ``evaluator``: a policy in, figures out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

if TYPE_CHECKING:
    from pathlib import Path

    from openvla_toolkit.core.contract import Contract
    from openvla_toolkit.core.statistics import Statistics
    from openvla_toolkit.interfaces.policy import Policy

__all__ = ["AnyEvaluator", "Evaluator", "EvaluatorConfig", "Progress"]

Progress: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Called with the work done so far (episodes, frames) and the running figures; ``total`` is among them."""


class Evaluator(Protocol):
    """Measures one policy."""

    def evaluate(self, policy: Policy, folder: Path, progress: Progress) -> Mapping[str, Any]:
        """Measure; write everything worth keeping into ``folder``; return the figures as plain JSON data.

        The figures have at least ``summary``: a list of lines for a person.

        Raises:
            ContractMismatch: the policy was trained for another robot or other cameras.
        """
        ...


class EvaluatorConfig(ComponentConfig):
    """Settings of one evaluator."""

    kind: ClassVar[str] = "evaluator"

    before_training: bool = False
    """Also evaluate the policy as it is before the ``train`` section changes it."""

    def check(self, contract: Contract, statistics: Mapping[str, Statistics]) -> None:
        """Refuse a policy that could not be measured; called before hours of training are spent on it.

        The figures' own check is ``Evaluator.evaluate``; this one needs the policy's contract and statistics
        alone and is free to do nothing, as it does by default.

        Raises:
            ContractMismatch: another robot or other cameras, or no statistics to bring actions to its units.
            RecipeError: a setting names what the world or the data do not have.
        """

    @abstractmethod
    def build(self) -> Evaluator:
        """Make the evaluator."""


AnyEvaluator: TypeAlias = Annotated[SerializeAsAny[EvaluatorConfig], BeforeValidator(by_name("evaluator"))]
