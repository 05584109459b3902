"""DeepSpeed's ZeRO as an engine: the settings; what trains is in ``engine``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from openvla_toolkit.interfaces.engine import EngineConfig, Spread

if TYPE_CHECKING:
    from openvla_deepspeed.engine import DeepSpeedEngine

__all__ = ["DeepSpeedConfig"]

_OURS = ("stage", "offload_optimizer", "offload_param")
"""Settings of DeepSpeed's ``zero_optimization`` that have keys of their own here."""

_WITH_COPIES = 1.5
"""DeepSpeed updates copies of the trained parameters: 12 bytes of each, AdamW's 8 included."""


class DeepSpeedConfig(EngineConfig):
    """Optimizer state, gradients and parameters are spread over the ranks by DeepSpeed (ZeRO 1, 2, 3)."""

    distributed: ClassVar[bool] = True

    name: Literal["deepspeed"] = "deepspeed"
    stage: Literal[1, 2, 3] = 2
    """1 spreads the optimizer's state, 2 gradients as well, 3 parameters as well."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """Keep the optimizer's state (and work) on the CPU; ``parameters`` the parameters as well (stage 3)."""
    device: str = "auto"
    """``cpu``, ``cuda``; ``auto`` takes a CUDA device where there is one, each rank its own."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads of torch; None leaves torch's choice (OMP_NUM_THREADS)."""
    activation_checkpointing: bool = False
    """Compute each transformer block again in the backward pass instead of keeping what it computed: about a
    third more time, a fraction of the memory."""
    zero: dict[str, Any] = Field(default_factory=dict)
    """More of DeepSpeed's own settings of ``zero_optimization``, by its names: ``{overlap_comm: true}``."""

    @field_validator("zero")
    @classmethod
    def _is_not_said_twice(cls, zero: dict[str, Any]) -> dict[str, Any]:
        if twice := [key for key in _OURS if key in zero]:
            raise ValueError(f"'{twice[0]}' has a key of its own: give 'stage' and 'offload' beside 'zero'.")
        return zero

    @model_validator(mode="after")
    def _parameters_are_spread_to_be_offloaded(self) -> DeepSpeedConfig:
        if self.offload == "parameters" and self.stage != 3:
            raise ValueError(
                f"'offload: parameters' needs 'stage: 3'; stage {self.stage} can offload the optimizer."
            )
        return self

    def spread(self, ranks: int, *, local: int | None = None) -> Spread:
        """Return what the stage spreads, and what is not offloaded."""
        optimizer = 0.0 if self.offload != "none" else _WITH_COPIES / ranks
        gradients = 1.0 if self.stage == 1 else 0.0 if self.offload != "none" else 1 / ranks
        if self.stage < 3:
            return Spread(gradients=gradients, optimizer=optimizer)
        parameters = 0.0 if self.offload == "parameters" else 1 / ranks
        return Spread(parameters=parameters, gradients=gradients, optimizer=optimizer, gathers=True)

    def build(self) -> DeepSpeedEngine:
        """Make the engine."""
        from openvla_deepspeed.engine import DeepSpeedEngine

        return DeepSpeedEngine(self)
