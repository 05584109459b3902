"""Episodes stored one per ``.npz`` file: the settings; what reads them is in ``reader``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.interfaces.embodiment import AnyEmbodiment

if TYPE_CHECKING:
    from openvla_example_dataset.reader import NpzEpisodes

__all__ = ["NpzEpisodesConfig"]


class NpzEpisodesConfig(DatasetConfig):
    """Episodes stored one per ``.npz`` file, with one camera."""

    name: Literal["npz-episodes"] = "npz-episodes"
    root: Path
    """The folder that holds the ``.npz`` files."""
    dataset: str = "npz"
    """The name that the statistics get in the checkpoint."""
    camera: str = "primary"
    """The robot's camera that was recorded."""
    embodiment: AnyEmbodiment
    """The robot that was recorded."""

    def build(self) -> NpzEpisodes:
        """Open the folder; raises ``MissingFile`` where it holds no episode."""
        from openvla_example_dataset.reader import NpzEpisodes

        return NpzEpisodes(self)
