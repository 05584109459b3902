"""The recipe: one YAML file as one validated object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BeforeValidator, Field, PrivateAttr, SerializeAsAny, ValidationError

from openvla_toolkit.core.complaints import recipe_error
from openvla_toolkit.core.component import ComponentConfig, Section
from openvla_toolkit.core.data_sections import Prepare
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.layers import Layered, copied, overridden, read_layers
from openvla_toolkit.core.registry import by_name, load
from openvla_toolkit.core.sections import Benchmark, Train

__all__ = ["DEFAULT_OBSERVERS", "ObserverByName", "Recipe"]

DEFAULT_OBSERVERS = ("console", "jsonl", "report")
"""Who is told about a run when the recipe does not say."""


class ObserverByName(ComponentConfig):
    """A default observer that is not installed (or broken); the run, and nothing before it, says so."""

    kind: ClassVar[str] = "observer"
    name: str

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Load the observer's own settings and build it."""
        return load("observer", self.name)(name=self.name).build(*args, **kwargs)


def _default_observers() -> list[ComponentConfig]:
    return [_observer(name) for name in DEFAULT_OBSERVERS]


def _observer(name: str) -> ComponentConfig:
    try:
        return load("observer", name)(name=name)
    except UserError:
        return ObserverByName(name=name)  # nobody asked for it by name: it is missed when the run starts


class Recipe(Section):
    """What a run does; the sections that are present are its stages."""

    version: Literal[1] = 1
    """Version of the recipe format."""
    seed: int = Field(default=7, ge=0)
    """Where all randomness starts."""
    output: Path
    """Folder of everything the run writes."""
    policy: Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("policy"))] | None = None
    """The policy that is trained, evaluated, exported."""
    data: list[Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("dataset", "mixture"))]] = (
        Field(default_factory=list)
    )
    """Data sets, and mixtures of several; their weights say how often each is drawn from."""
    prepare: Prepare = Field(default_factory=Prepare)
    """How data is made ready."""
    train: Train | None = None
    """How the policy is trained."""
    evaluate: list[Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("evaluator"))]] = Field(
        default_factory=list
    )
    """How the policy is measured."""
    export: list[Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("exporter"))]] = Field(
        default_factory=list
    )
    """What the policy is exported to."""
    benchmark: Benchmark | None = None
    """How fast the policy is."""
    launcher: Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("launcher"))] | None = None
    """How the processes of the run are started; one process by default, and what torchrun started stays."""
    observers: list[Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("observer"))]] = Field(
        default_factory=_default_observers
    )
    """Who is told about the run."""

    _source: Path | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe file, or ``PACKAGE:recipes/x.yaml`` from a package, and apply overrides.

        Overrides are ``key.path=value``. Raises ``MissingFile``, or ``RecipeError`` (``RecipeErrors`` for
        several mistakes) with file, line and path.
        """
        recipe = cls._validated(overridden(read_layers(source), overrides))
        if (path := Path(source)).exists():
            recipe._source = path
        return recipe

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
        """Validate a mapping, whose values may be config objects, as a recipe."""
        return cls._validated(overridden(Layered(copied(mapping), {}), overrides))

    @classmethod
    def _validated(cls, layers: Layered) -> Recipe:
        layers.data.pop("lock", None)  # a lock file is a recipe with a record of the run beside it
        try:
            return cls.model_validate(layers.data)
        except ValidationError as error:
            raise recipe_error(error, layers, cls) from None

    def __eq__(self, other: object) -> bool:
        """Compare the settings; where they were read from does not matter."""
        return isinstance(other, Recipe) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # it holds lists

    @property
    def source(self) -> Path | None:
        """The file this recipe was read from, if it was."""
        return self._source

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that this recipe asks for, in the order they run."""
        asked = {
            "prepare": bool(self.data),
            "train": self.train is not None,
            "evaluate": bool(self.evaluate),
            "export": bool(self.export),
            "benchmark": self.benchmark is not None,
        }
        return tuple(stage for stage, wanted in asked.items() if wanted)

    def to_yaml(self) -> str:
        """Return the recipe with every default filled in; loading it gives an equal recipe."""
        return str(
            yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
        )
