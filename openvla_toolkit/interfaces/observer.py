"""Kind ``observer``: told the facts of a run, changes nothing."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name

__all__ = ["AnyObserver", "ObserverConfig"]


class ObserverConfig(ComponentConfig):
    """Settings of one observer."""

    kind: ClassVar[str] = "observer"

    @abstractmethod
    def build(self) -> object:
        """Return an object with some of the hooks of ``openvla_toolkit.core.hooks``, marked ``@observe``."""


AnyObserver: TypeAlias = Annotated[SerializeAsAny[ObserverConfig], BeforeValidator(by_name("observer"))]
