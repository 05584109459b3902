"""Built-in executors: settings only; what does the work is imported by ``build``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from openvla_toolkit.interfaces.executor import ExecutorConfig

if TYPE_CHECKING:
    from openvla_toolkit.executors.processes import Processes

__all__ = ["ProcessesConfig"]


class ProcessesConfig(ExecutorConfig):
    """Work in several processes of this machine, never more than there are pieces."""

    name: Literal["processes"] = "processes"

    workers: int | None = Field(default=None, gt=0)
    """Processes; null for one per core, 1 to do all in the process of the run itself."""

    def build(self) -> Processes:
        """Make the executor."""
        from openvla_toolkit.executors.processes import Processes

        return Processes(self.workers)
