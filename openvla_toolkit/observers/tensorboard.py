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
    """Writes every number as the scalar ``<stage>/<name>``, each stage in a folder of its own.

    A resumed run takes some steps again: the folder is told from which step on its earlier numbers are void.
    Stages count on their own, so that one's step says nothing of another's.
    """

    name = "tensorboard"

    def __init__(self, config: TensorBoardConfig) -> None:
        self._folder = Path(config.folder)
        self._writers: dict[str, SummaryWriter] = {}

    @observe
    def run_started(self, output: Path) -> None:
        """Remember where the run writes."""
        self._folder = output / self._folder

    @observe
    def metrics_logged(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Write the numbers; what is planned (``total``) is no measurement."""
        numbers = {key: value for key, value in values.items() if key != "total"}
        place = stage.replace(" ", "/")
        if numbers and place not in self._writers:
            self._writers[place] = SummaryWriter(log_dir=str(self._folder / place), purge_step=step)
        for key, value in numbers.items():
            self._writers[place].add_scalar(f"{place}/{key}", value, global_step=step)

    @observe
    def run_finished(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
