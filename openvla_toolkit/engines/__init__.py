"""Settings of the built-in engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from openvla_toolkit.interfaces.engine import EngineConfig

if TYPE_CHECKING:
    from openvla_toolkit.engines.single import SingleEngine

__all__ = ["SingleConfig"]


class SingleConfig(EngineConfig):
    """One process, one device."""

    name: Literal["single"] = "single"
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``; ``auto`` takes a CUDA device where there is one."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads of torch; None leaves torch's choice (OMP_NUM_THREADS)."""

    def build(self) -> SingleEngine:
        """Make the engine."""
        from openvla_toolkit.engines.single import SingleEngine

        return SingleEngine(self)
