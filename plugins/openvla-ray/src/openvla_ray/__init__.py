"""Work on a Ray cluster: the settings; what does it is in ``cluster``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from openvla_toolkit.interfaces.executor import ExecutorConfig

if TYPE_CHECKING:
    from openvla_ray.cluster import Cluster

__all__ = ["RayConfig"]


class RayConfig(ExecutorConfig):
    """Work on a Ray cluster, whose nodes see the same data and the same cache folder."""

    name: Literal["ray"] = "ray"

    address: str | None = None
    """``auto`` for the cluster that this machine belongs to, ``host:port``, or ``ray://host:port``; null
    starts one on this machine and ends it with the work."""
    cpus_per_task: float = Field(default=1.0, gt=0)
    """Cores that a piece of work is given."""
    retries: int = Field(default=2, ge=0)
    """How often a piece is begun again when its process or its node died."""

    def build(self) -> Cluster:
        """Make the executor; the cluster is reached, or started, when there is work."""
        from openvla_ray.cluster import Cluster

        return Cluster(self)
