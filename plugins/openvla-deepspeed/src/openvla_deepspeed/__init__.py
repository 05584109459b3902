"""DeepSpeed's ZeRO as an engine: the settings; what trains is in ``engine``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_BUCKET = "reduce_bucket_size"
_REUSE = "stage3_max_reuse_distance"
_COUNTED = {_BUCKET: 5e8, _REUSE: 1e9}
"""DeepSpeed's settings that decide about memory -> its own defaults, in parameters."""
_SMALL_BUCKET = 50_000_000
"""Parameters whose gradients travel together where memory is short: 0.2 GB, still long messages."""


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

    @field_validator("zero")
    @classmethod
    def _is_counted(cls, zero: dict[str, Any]) -> dict[str, Any]:
        for key in _COUNTED:
            if not isinstance(zero.get(key, 0), int | float):
                raise ValueError(f"'{key}' is a number of parameters, not {zero[key]!r}.")
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
        share, offloaded = 1 / ranks, None
        parameters = share if self.stage == 3 else 1.0
        gradients = 1.0 if self.stage == 1 else share
        optimizer = _WITH_COPIES / ranks
        if self.offload != "none":
            away = self.offload == "parameters"
            offloaded = Spread(parameters=share if away else 0, gradients=share, optimizer=optimizer)
            parameters, optimizer = 0 if away else parameters, 0
            gradients = gradients if self.stage == 1 else 0
        return Spread(
            parameters=parameters,
            gradients=gradients,
            optimizer=optimizer,
            gathers=self.stage == 3,
            # Kept is what comes again within that many parameters: the last blocks of the forward pass, which
            # the backward pass meets again after those behind them were met twice.
            gradients_stay=self.stage > 1,
            stays=self._counted(_REUSE) / 2 if self.stage == 3 else 0,
            buffers=self._buffers(),
            offloaded=offloaded,
        )

    def _counted(self, key: str) -> float:
        return float(self.zero.get(key, _COUNTED[key]))

    def _buffers(self) -> float:
        """Return the bytes of the room that DeepSpeed makes for gradients to travel in, filled or not."""
        if not (self.zero.get("contiguous_gradients", True) or (self.stage < 3 and self.offload != "none")):
            return 0.0
        bf16 = self.precision == "bf16"  # gradients of linear layers have a room of their own then
        if self.stage == 3:
            return self._counted(_BUCKET) * (4 + 2 * bf16)
        return self._counted(_BUCKET) * 4 * (1 + bf16) * (1 + bool(self.zero.get("overlap_comm")))

    def savings(self, ranks: int) -> Sequence[Mapping[str, Any]]:
        """Return less room for gradients to travel, blocks computed twice, bf16, later stages, the CPU."""
        changes: list[Mapping[str, Any]] = []
        if self._counted(_BUCKET) > _SMALL_BUCKET:
            changes.append({f"zero.{_BUCKET}": _SMALL_BUCKET})
        if not self.activation_checkpointing:
            changes.append({"activation_checkpointing": True})
        if self.precision == "fp32":
            changes.append({"precision": "bf16"})
        if ranks > 1:
            changes += [{"stage": stage} for stage in (2, 3) if stage > self.stage]
            if self._counted(_REUSE):
                changes.append({"stage": 3, f"zero.{_REUSE}": 0})
        if self.offload == "none":
            changes.append({"offload": "optimizer"})
        if self.offload != "parameters":
            changes.append({"stage": 3, "offload": "parameters"})
        return changes

    def build(self) -> DeepSpeedEngine:
        """Make the engine."""
        from openvla_deepspeed.engine import DeepSpeedEngine

        return DeepSpeedEngine(self)
