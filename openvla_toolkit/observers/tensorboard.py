"""TensorBoard event files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvla_toolkit.core.errors import MissingDependency
from openvla_toolkit.core.hooks import observe

try:
    from torch.utils.tensorboard.writer import SummaryWriter
except ModuleNotFoundError as error:
    raise MissingDependency(
        "observer 'tensorboard'", "tensorboard", install="openvla-toolkit[tensorboard]"
    ) from error

if TYPE_CHECKING:
    from openvla_toolkit.observers import TensorBoardConfig

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes every number as the scalar ``<stage>/<name>``."""

    name = "tensorboard"

    def __init__(self, config: TensorBoardConfig) -> None:
        self._folder = config.folder
        self._writer: SummaryWriter | None = None

    @observe
    def run_started(self, output: Path) -> None:
        """Open an event file; a resumed run adds one, which TensorBoard joins to the others."""
        self._writer = SummaryWriter(log_dir=str(output / self._folder))

    @observe
    def metrics_logged(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Write the numbers; what is planned (``total``) is no measurement."""
        assert self._writer is not None, "metrics were logged before the run started"
        for key, value in values.items():
            if key != "total":
                self._writer.add_scalar(f"{stage.replace(' ', '/')}/{key}", value, global_step=step)

    @observe
    def run_finished(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
