"""Episodes stored one per ``.npz`` file: the settings; what reads them is in ``reader``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from openvla_toolkit.datasets.episode_files import EpisodeFilesConfig
from openvla_toolkit.interfaces.embodiment import AnyEmbodiment

if TYPE_CHECKING:
    from openvla_example_dataset.reader import NpzEpisodes

__all__ = ["NpzEpisodesConfig"]


class NpzEpisodesConfig(EpisodeFilesConfig):
    """Episodes of our laboratory's recorder, one per ``.npz`` file."""

    pattern: ClassVar[str] = "*.npz"

    name: Literal["npz-episodes"] = "npz-episodes"
    embodiment: AnyEmbodiment | None = Field(default="widowx", validate_default=True)
    """The robot that was recorded."""

    def build(self) -> NpzEpisodes:
        """Open the folder; raises ``MissingFile`` where it holds no episode."""
        from openvla_example_dataset.reader import NpzEpisodes

        return NpzEpisodes(self)
