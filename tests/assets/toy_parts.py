"""A handful of light components, installed as a fake distribution by the ``toys`` fixture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig, Section
from openvla_toolkit.core.registry import by_name


class Lora(Section):
    """Low-rank adapters."""

    rank: int = Field(default=8, gt=0)
    """Rank of the update."""


class CodeConfig(ComponentConfig):
    """A toy action tokenizer."""

    kind: ClassVar[str] = "action_tokenizer"
    name: Literal["toy-code"] = "toy-code"
    bins: int = 256


class PolicyConfig(ComponentConfig):
    """A toy policy."""

    kind: ClassVar[str] = "policy"
    name: Literal["toy-policy"] = "toy-policy"
    lora: Lora | None = None
    size: int | str = 8
    code: Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("action_tokenizer"))] = Field(
        default="toy-code", validate_default=True
    )
    """How actions become tokens."""


class DatasetConfig(ComponentConfig):
    """Toy episodes."""

    kind: ClassVar[str] = "dataset"
    name: Literal["toy-episodes"] = "toy-episodes"
    root: Path
    camera: str = "front"
    gripper_open: Literal["high", "low"] = "high"
    """Which value opens."""


class EngineConfig(ComponentConfig):
    """A toy engine under the default engine's name."""

    kind: ClassVar[str] = "engine"
    distributed: ClassVar[bool] = True
    name: Literal["single"] = "single"
    precision: Literal["fp32", "bf16"] = "fp32"


class ExecutorConfig(ComponentConfig):
    """A toy executor under the default executor's name."""

    kind: ClassVar[str] = "executor"
    name: Literal["processes"] = "processes"
    workers: int | None = None


class EvaluatorConfig(ComponentConfig):
    """A toy evaluator."""

    kind: ClassVar[str] = "evaluator"
    name: Literal["toy-score"] = "toy-score"
