"""Kind ``mixture``: several data sets as one entry of a recipe's ``data``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.interfaces.dataset import DatasetConfig

__all__ = ["AnyMixture", "MixtureConfig"]


class MixtureConfig(ComponentConfig):
    """Settings that every mixture has."""

    kind: ClassVar[str] = "mixture"

    weight: float = Field(default=1.0, gt=0)
    """Share of the whole mixture, relative to the other entries of ``data``."""
    balance: bool = True
    """Weights of the members count per frame, so that large sets are seen more; false: per data set."""

    @abstractmethod
    def build(self) -> Sequence[DatasetConfig]:
        """Return the members with their weights, each name once; opens none.

        Raises:
            RecipeError: there is no such mixture.
            MissingFile: a member does not exist.
        """

    def left_out(self) -> Mapping[str, str]:
        """Return the members that ``build`` does without, as the settings allow, each with the reason."""
        return {}


AnyMixture: TypeAlias = Annotated[SerializeAsAny[MixtureConfig], BeforeValidator(by_name("mixture"))]
