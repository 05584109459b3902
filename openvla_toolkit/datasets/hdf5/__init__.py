"""HDF5 demonstrations: robomimic and LIBERO (many per file), ALOHA (one per file)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from openvla_toolkit.core.locations import LocalFolder, RemotePath
from openvla_toolkit.interfaces.dataset import DatasetConfig

if TYPE_CHECKING:
    from typing_extensions import Self

    from openvla_toolkit.datasets.hdf5.reader import HDF5Dataset

__all__ = ["HDF5Config"]


class HDF5Config(DatasetConfig):
    """Demonstrations in HDF5 files, read where they lie: groups ``data/demo_0``, ..., or one per file."""

    name: Literal["hdf5"] = "hdf5"
    root: LocalFolder
    """A file, or a folder whose ``*.hdf5`` and ``*.h5`` files are read in the order of their names."""
    dataset: str | None = None
    """The name under which its statistics are stored; null for the name of the file or folder."""
    split: str = "train"
    """A part of the episodes: ``train[:95%]``, ``train[10:20]``."""
    cameras: dict[str, str] = Field(min_length=1)
    """Camera name -> path in the episode (``obs/agentview_rgb``, ``observations/images/cam_high``)."""
    state: list[str | None] = []
    """Paths that are joined to the state (``obs/ee_states``); null stands for one column of zeros."""
    action: str = "actions"
    """Path of the actions (``action`` in ALOHA's files)."""
    instruction: str | None = None
    """What the robot was told, for all episodes; null where the files say it themselves."""
    rotate: Literal[0, 180] = 0
    """Degrees by which pictures are turned when read (LIBERO's lie upside down)."""

    @classmethod
    def found_at(cls, path: Path | RemotePath) -> Self | None:
        """Return None: which camera is meant is never guessed, so a recipe must say it."""
        return None

    def build(self) -> HDF5Dataset:
        """Open the data set.

        Raises:
            MissingFile: the file or folder does not exist or holds no HDF5 file.
            MissingDependency: h5py is not installed.
            RecipeError: no embodiment is given, or the split selects nothing.
            DataError: a file is damaged or of another layout.
        """
        from openvla_toolkit.datasets.hdf5.reader import HDF5Dataset

        return HDF5Dataset(self)
