"""LeRobot data sets, versions 2.0, 2.1 and 3.0, read where they lie and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from openvla_toolkit.core.errors import MissingFile
from openvla_toolkit.core.locations import LocalFolder, RemotePath
from openvla_toolkit.interfaces.dataset import DatasetConfig, WritePlan
from openvla_toolkit.interfaces.transform import AnyTransform

if TYPE_CHECKING:
    from typing_extensions import Self

    from openvla_toolkit.datasets.lerobot.reader import LeRobotDataset
    from openvla_toolkit.datasets.lerobot.writer import LeRobotWriter

__all__ = ["LeRobotConfig"]


class LeRobotConfig(DatasetConfig):
    """A LeRobot data set (v2.0, v2.1, v3.0, also with GR00T's ``modality.json``), read where it lies.

    What is not given (null) comes from ``meta/openvla.yaml``, else from the set's own meta data.
    """

    name: Literal["lerobot"] = "lerobot"
    root: LocalFolder
    """The data set's folder: the one that holds ``meta/info.json``."""
    dataset: str | None = None
    """The name under which its statistics are stored; null for the folder's name."""
    split: str = "train"
    """A split or a part of one: ``train[:95%]``, ``train[10:20]``, ``train+val``, ``all``."""
    cameras: dict[str, str] | None = Field(default=None, min_length=1)
    """Camera name -> feature (``observation.images.front``) or ``modality.json``'s part (``video.front``)."""
    state: list[str] | None = None
    """Features (``observation.state``) or parts (``state.single_arm``) that are joined to the state."""
    action: list[str] | None = Field(default=None, min_length=1)
    """Features (``action``) or parts (``action.single_arm``) that are joined to the action."""
    instruction: str | None = None
    """Column of task numbers or texts (``task_index``), or a part (``annotation.human.task_description``)."""
    transforms: list[AnyTransform] | None = None
    """Applied to each trajectory in order; its keys are the set's columns and pictures."""

    @classmethod
    def found_at(cls, path: Path | RemotePath) -> Self | None:
        """Return the settings for a folder of this machine that holds ``meta/info.json``."""
        here = isinstance(path, Path) and (path / "meta" / "info.json").is_file()
        return cls(root=path) if here else None

    @classmethod
    def writer(cls, plan: WritePlan, settings: Mapping[str, Any]) -> LeRobotWriter:
        """Return a writer; ``settings`` are those of ``WriteSettings`` (version, pictures, codec, ...).

        Raises:
            RecipeError: there is no such setting.
            MissingDependency: pyarrow is not installed.
        """
        from openvla_toolkit.core.complaints import validated
        from openvla_toolkit.datasets.lerobot.writer import LeRobotWriter, WriteSettings

        return LeRobotWriter(plan, validated(WriteSettings, settings))

    def build(self) -> LeRobotDataset:
        """Open the data set.

        Raises:
            MissingFile: the folder or a file of its meta data does not exist.
            MissingDependency: pyarrow, or for videos PyAV, is not installed.
            RecipeError: the split or a key does not exist, or nothing says which robot was recorded.
            DataError: the meta data are damaged or of another version.
        """
        from openvla_toolkit.datasets.lerobot.card import complete
        from openvla_toolkit.datasets.lerobot.layout import load_layout
        from openvla_toolkit.datasets.lerobot.reader import LeRobotDataset

        if not self.root.is_dir():
            raise MissingFile(f"the folder {self.root} does not exist. Set root to the data set's folder.")
        layout = load_layout(self.root)
        keys = ("cameras", "state", "action", "instruction", "transforms", "embodiment")
        card = complete({key: getattr(self, key) for key in keys}, layout)
        name = self.dataset or self.root.resolve().name
        return LeRobotDataset(layout, name=name, split=self.split, card=card)
