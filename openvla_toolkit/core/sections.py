"""The sections of a recipe that are not components."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from openvla_toolkit.core.component import ComponentConfig, Section
from openvla_toolkit.core.registry import by_name

__all__ = ["Batch", "Benchmark", "Loader", "Optimizer", "Schedule", "Train", "bare_name"]


def bare_name(value: object) -> object:
    """Turn a bare text into ``{name: text}``; leave everything else to pydantic."""
    return {"name": value} if isinstance(value, str) else value


class Optimizer(Section):
    """How gradients become updates."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of the mean square."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay (AdamW)."""


class Schedule(Section):
    """How the learning rate moves over the steps."""

    name: Literal["constant", "linear", "cosine", "wsd"] = "constant"
    """``wsd`` is warm-up, stable, decay."""
    warmup: int = Field(default=0, ge=0)
    """Steps over which the rate rises linearly from zero; a shorter run ends within them."""
    decay: int | None = Field(default=None, gt=0)
    """Steps of the final linear decay; ``wsd`` needs it, the others have none."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """The rate at the end, as a fraction of ``lr``."""

    @model_validator(mode="after")
    def _decay_belongs_to_wsd(self) -> Schedule:
        if (self.name == "wsd") != (self.decay is not None):
            raise ValueError(
                "'decay' is the number of steps of the final decay: 'wsd' needs it, the others have none."
            )
        return self


class Batch(Section):
    """How many samples one optimizer step sees."""

    total: int = Field(gt=0)
    """Samples per optimizer step, over all devices."""
    per_device: int | None = Field(default=None, gt=0)
    """Samples per forward pass on one device; by default all that fall to the device."""

    @model_validator(mode="after")
    def _divides(self) -> Batch:
        if self.per_device is not None and self.total % self.per_device:
            raise ValueError(f"total ({self.total}) must be a multiple of per_device ({self.per_device}).")
        return self


class Loader(Section):
    """How batches are prepared beside the training."""

    workers: int = Field(default=0, ge=0)
    """Processes that read and decode; 0 does it in the training process."""
    prefetch: int = Field(default=2, ge=1)
    """Batches that each worker keeps ready."""


class Train(Section):
    """How the policy is trained."""

    engine: Annotated[
        SerializeAsAny[ComponentConfig], BeforeValidator(by_name("engine", default="single"))
    ] = Field(default="single", validate_default=True)
    """Where and how the model is placed, stepped and saved."""
    optimizer: Annotated[Optimizer, BeforeValidator(bare_name)]
    """How gradients become updates."""
    schedule: Annotated[Schedule, BeforeValidator(bare_name)] = Schedule()
    """How the learning rate moves."""
    steps: int = Field(gt=0)
    """Optimizer steps."""
    batch: Batch
    """Samples per step."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; null for no clipping."""
    loader: Loader = Loader()
    """How batches are prepared."""
    log_every: int = Field(default=10, gt=0)
    """Steps between two lines of metrics."""
    save_every: int | None = Field(default=None, gt=0)
    """Steps between two checkpoints; null saves at the end only."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints that are kept, newest first."""


class Benchmark(Section):
    """How the speed of the policy is measured."""

    repeats: int = Field(default=20, gt=0)
    """Timed calls."""
    warmup: int = Field(default=3, ge=0)
    """Untimed calls before them."""
