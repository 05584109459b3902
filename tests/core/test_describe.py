from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BeforeValidator, Field, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig, Section
from openvla_toolkit.core.describe import FieldDescription, describe_fields, field_docs, type_name
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.core.sections import Train


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "int"),
        (int | None, "int | null"),
        (Literal["high", "low"] | None, "'high' | 'low' | null"),
        (tuple[float, ...], "tuple[float, ...]"),
        (dict[str, list[int]], "dict[str, list[int]]"),
        (
            list[Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("transform"))]],
            "list[transform]",
        ),
        (Annotated[int, Field(gt=0)], "int"),
    ],
)
def test_types_in_words(annotation: object, words: str) -> None:
    assert type_name(annotation) == words


class Settings(Section):
    name: Literal["x"] = "x"
    root: Path
    """Where it lies."""
    share: float = Field(default=0.5, gt=0, le=1)
    names: list[str] = Field(default_factory=lambda: ["a"])
    robot: Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("embodiment"))] | None = None


def test_fields_in_words() -> None:
    assert describe_fields(Settings) == [
        FieldDescription("root", "Path", required=True, default=None, doc="Where it lies."),
        FieldDescription("share", "float, > 0, <= 1", required=False, default=0.5, doc=""),
        FieldDescription("names", "list[str]", required=False, default=["a"], doc=""),
        FieldDescription("robot", "embodiment | null", required=False, default=None, doc=""),
    ]


class Part(ComponentConfig):
    name: Literal["part"] = "part"
    inner: Settings | None = None
    """Optional."""
    robot: ComponentConfig | None = None


def test_sections_of_a_component_are_described_with_it() -> None:
    names = [field.name for field in describe_fields(Part)]
    assert names == ["inner", "inner.root", "inner.share", "inner.names", "inner.robot", "robot"]


class Narrower(Settings):
    share: float = 0.25
    """Its own words."""
    names: list[str] = []
    extra: int = Field(default=1, description="In the field.")
    """Under the field."""


def test_a_subclass_keeps_the_texts_of_what_it_does_not_annotate_anew() -> None:
    assert field_docs(Narrower) == {
        "name": "",
        "root": "Where it lies.",
        "share": "Its own words.",
        "names": "",
        "robot": "",
        "extra": "In the field.",
    }


def test_a_class_without_source_has_no_texts() -> None:
    names: dict[str, type[Section]] = {"Section": Section}  # type: ignore[dict-item]
    exec('class Typed(Section):\n    size: int = 1\n    """Side."""', {"__name__": "typed"}, names)
    assert field_docs(names["Typed"]) == {"size": ""}


def test_no_source_is_read_before_somebody_asks() -> None:
    assert Train.model_fields["steps"].description is None
    assert field_docs(Train)["steps"] == "Optimizer steps; or give ``epochs``."
