"""The sections of a recipe that are not components: how a policy is trained and measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from openvla_toolkit.core.component import ComponentConfig, Section, bare_name
from openvla_toolkit.core.data_sections import Frames, Loader
from openvla_toolkit.core.registry import by_name

__all__ = [
    "EMA",
    "Batch",
    "Benchmark",
    "KeepBest",
    "OnNonfinite",
    "Optimizer",
    "ParameterGroup",
    "Schedule",
    "SelfCheck",
    "Train",
    "Validation",
    "bare_action",
    "bare_metric",
]


class ParameterGroup(Section):
    """Parameters that learn at a rate or with a decay of their own."""

    match: str
    """Pattern of their names (``vision_backbone.*``); the first entry that fits counts."""
    lr: float | None = Field(default=None, gt=0)
    """Peak learning rate, which the schedule scales; None takes the optimizer's."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Of matrices; None takes the optimizer's."""


class EMA(Section):
    """A running mean of the trained parameters, in fp32 (exponential moving average)."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """Share of the mean that stays when a step's weights are taken in."""
    every: int = Field(default=1, gt=0)
    """Steps after which the weights are taken in."""
    use: bool = False
    """Write the mean into checkpoints in place of the trained weights, which are kept to train on from."""


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
    """Decoupled weight decay (AdamW); of matrices only, vectors and biases do not decay."""
    groups: tuple[ParameterGroup, ...] = ()
    """Parameters that learn differently from the rest."""
    ema: EMA | None = None
    """A running mean of the weights; ``{}`` for one with the defaults."""


class Schedule(Section):
    """How the learning rate moves over the steps."""

    name: Literal["constant", "linear", "cosine", "wsd"] = "constant"
    """``wsd`` is warm-up, stable, decay."""
    warmup: Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(gt=0, lt=1)] = 0
    """Steps over which the rate rises linearly from zero, or their share of all steps (``0.03``); a run of
    fewer steps ends within them."""
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
    """Samples per forward pass on one device; by default all that fall to the device. More fall to it in
    several passes, whose gradients add up."""

    @model_validator(mode="after")
    def _divides(self) -> Batch:
        if self.per_device is not None and self.total % self.per_device:
            raise ValueError(f"total ({self.total}) must be a multiple of per_device ({self.per_device}).")
        return self


class KeepBest(Section):
    """Which checkpoint stays besides the newest ones."""

    metric: str = "loss"
    """A figure of the training, as it was last told before the checkpoint was saved; one of ``validation``
    counts for checkpoints of the steps at which it was measured. Of equals the oldest stays."""
    best: Literal["lowest", "highest"] = "lowest"
    """Which value is the best one."""


class OnNonfinite(Section):
    """What is done about a step whose loss or gradient is not finite."""

    action: Literal["stop", "skip"] = "stop"
    """``stop`` saves the state before the step and ends; ``skip`` leaves the update out and goes on."""
    limit: int = Field(default=10, gt=0)
    """Steps skipped one after the other before the run stops after all."""


class Validation(Section):
    """How the loss on data that is not trained on is measured."""

    every: int = Field(gt=0)
    """Steps between two measurements; there is one before the first step and one after the last as well."""
    samples: int = Field(default=256, gt=0)
    """Samples that are measured, always the same ones, each once, whatever the ranks; all where there are not
    as many."""
    split: str | None = "val"
    """The split of every training data set that is held out (``val``, ``train[95%:]``)."""
    data: list[Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(by_name("dataset", "mixture"))]] = (
        Field(default_factory=list)
    )
    """Data sets that are measured in place of a split of the training data."""


class SelfCheck(Section):
    """What is done about a checkpoint that does not act as it was trained."""

    action: Literal["error", "warn", "off"] = "error"
    """``error`` ends the run, ``warn`` says so and goes on, ``off`` does not look."""
    frames: int = Field(default=32, gt=1)
    """Frames of the training data that are compared."""


def bare_action(value: object) -> object:
    """Turn a bare text into ``{action: text}``; YAML reads the bare word ``off`` as false."""
    value = "off" if value is False else value
    return {"action": value} if isinstance(value, str) else value


def bare_metric(value: object) -> object:
    """Turn a bare text into ``{metric: text}``; leave everything else to pydantic."""
    return {"metric": value} if isinstance(value, str) else value


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
    steps: int = Field(default=0, gt=0)
    """Optimizer steps; or give ``epochs``."""
    epochs: float | None = Field(default=None, gt=0)
    """In place of ``steps``: as many samples as the data has, so many times over, in whole batches."""
    batch: Batch
    """Samples per step."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; null for no clipping."""
    frames: Frames | None = None
    """How pictures are resized and augmented; null: as they are, or as the checkpoint's contract says."""
    loader: Loader = Loader()
    """How batches are prepared."""
    log_every: int = Field(default=10, gt=0)
    """Steps between two lines of metrics."""
    save_every: int | None = Field(default=None, gt=0)
    """Steps between two checkpoints; null saves at the end only."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints that are kept, newest first."""
    keep_best: Annotated[KeepBest | None, BeforeValidator(bare_metric)] = None
    """Keep the best checkpoint as well: ``loss``, ``validation/loss``, or ``{metric: token_accuracy, best:
    highest}``."""
    on_nonfinite: Annotated[OnNonfinite, BeforeValidator(bare_action)] = OnNonfinite()
    """What is done about a loss or gradient that is not finite: ``stop``, ``skip``."""
    validation: Validation | None = None
    """Measure the loss on held-out data: ``{every: 500}``."""
    self_check: Annotated[SelfCheck, BeforeValidator(bare_action)] = SelfCheck()
    """Compare how the trained policy acts with how it was trained: ``error``, ``warn``, ``off``."""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, data: Any) -> Any:
        """Take the ``steps: 0`` of a recipe with all defaults filled in, and ``null``, beside ``epochs``."""
        if isinstance(data, dict) and data.get("epochs") is not None and data.get("steps") in (0, None):
            return {key: value for key, value in data.items() if key != "steps"}
        return data

    @model_validator(mode="after")
    def _has_an_end(self) -> Train:
        if bool(self.steps) == (self.epochs is not None):
            raise ValueError("give either 'steps' or 'epochs': when the training ends.")
        return self


class Benchmark(Section):
    """How the speed of the policy is measured."""

    repeats: int = Field(default=20, gt=0)
    """Timed calls."""
    warmup: int = Field(default=3, ge=0)
    """Untimed calls before them."""
