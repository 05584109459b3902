"""A ready-made data set for plugins: a folder with one file per episode.

What is left to write is how one file is read: the numbers of an episode, and one picture of it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from openvla_toolkit.core.errors import DataError, MissingFile, RecipeError
from openvla_toolkit.core.locations import LocalFolder, RemotePath
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, Episode
from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.interfaces.embodiment import EmbodimentConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from openvla_toolkit.core.types import EncodedImage

__all__ = ["EpisodeFiles", "EpisodeFilesConfig", "RecordedEpisode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEpisode:
    """The numbers and the text of one file."""

    actions: ArrayLike
    """[T, A] in the embodiment's units."""
    states: ArrayLike | None = None
    """[T, P], or None."""
    instruction: str
    """What the robot was told."""


class EpisodeFilesConfig(DatasetConfig):
    """Settings of a folder with one file per episode; a subclass adds what its files ask for.

    All settings of its own become part of the fingerprint.
    """

    pattern: ClassVar[str]
    """Of the files' names, as ``*.npz``."""

    root: LocalFolder
    """The folder of the episodes' files."""
    dataset: str | None = None
    """The name under which its statistics are stored; null for the folder's name."""
    cameras: list[str] | None = None
    """The robot's cameras that were recorded; null for all."""

    def robot(self) -> EmbodimentConfig | None:
        """Return the robot that was recorded; a package that brings its own overrides this."""
        return self.embodiment

    @classmethod
    def found_at(cls, path: Path | RemotePath) -> Self | None:
        """Return the settings for a folder of this machine that holds such files."""
        here = isinstance(path, Path) and path.is_dir() and any(path.glob(cls.pattern))
        return cls.model_validate({"root": path}) if here else None


Settings = TypeVar("Settings", bound=EpisodeFilesConfig)


class EpisodeFiles(ABC, Generic[Settings]):
    """Episodes in the order of their files' names (``interfaces.dataset.Dataset[Episode]``).

    The address of a picture is (file, camera, frame).

    Raises:
        MissingFile: the folder holds no such file.
        RecipeError: nothing says which robot was recorded, or it has not these cameras.
    """

    damaged: ClassVar[tuple[type[Exception], ...]] = (KeyError, ValueError, EOFError, OSError)
    """What reading a damaged file raises; becomes a ``DataError`` that names the file."""

    def __init__(self, config: Settings) -> None:
        robot = config.robot()
        if robot is None:
            raise RecipeError(
                "give the embodiment: the files do not say which robot it was.", path="embodiment"
            )
        self.config, self._robot = config, robot.build()
        self._cameras = list(self._robot.cameras if config.cameras is None else config.cameras)
        if unknown := [camera for camera in self._cameras if camera not in self._robot.cameras]:
            known = ", ".join(self._robot.cameras)
            raise RecipeError(f"the robot has no camera '{unknown[0]}', only: {known}.", path="cameras")
        self._files = sorted(config.root.glob(config.pattern))
        if not self._files:
            raise MissingFile(f"{config.root} holds no {config.pattern}: set root to the episodes' folder.")

    @abstractmethod
    def read(self, path: Path) -> RecordedEpisode:
        """Read one file without its pictures."""

    @abstractmethod
    def picture(self, path: Path, camera: str, frame: int) -> EncodedImage:
        """Read one picture: encoded bytes, or RGB uint8 [height, width, 3].

        Training asks for single frames in random order: a file that can only be read whole makes it slow.
        """

    def describe(self) -> DataDescription:
        """Return the description; the fingerprint is of names, sizes, times of change and settings."""
        settings = self.config.model_dump(mode="json", exclude=set(DatasetConfig.model_fields))
        told: list[object] = [settings, str(self.config.root.resolve()), self._cameras]
        for path in self._files:
            status = path.stat()
            told.append((path.name, status.st_size, status.st_mtime_ns))
        return DataDescription(
            name=self.config.dataset or self.config.root.resolve().name,
            fingerprint=hashlib.sha256(repr(told).encode()).hexdigest(),
            files=[str(path) for path in self._files],
            cameras=self._cameras,
            robot=self._robot,
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, position: int) -> Episode:
        """Read one episode without its images; raises ``DataError`` where the file is damaged."""
        import numpy as np

        path = self._files[position]
        try:
            recorded = self.read(path)
            actions = np.asarray(recorded.actions, np.float32)
            states = None if recorded.states is None else np.asarray(recorded.states, np.float32)
        except self.damaged as error:
            raise DataError(f"it cannot be read: {error}. Record it again.", file=path) from error
        return Episode(
            name=path.name,
            images={
                camera: self._addresses(position, number, len(actions))
                for number, camera in enumerate(self._cameras)
            },
            states=states,
            actions=actions,
            instructions=[recorded.instruction] * len(actions),
        )

    def image(self, address: np.void) -> EncodedImage:
        """Read the picture at an address; raises ``DataError`` where it is damaged."""
        path, camera = self._files[int(address["file"])], self._cameras[int(address["length"])]
        frame = int(address["offset"])
        try:
            return self.picture(path, camera, frame)
        except self.damaged as error:
            reason = f"it cannot be read: {error}. Record it again."
            raise DataError(reason, file=path, episode=path.name, frame=frame, key=camera) from error

    @staticmethod
    def _addresses(file: int, camera: int, frames: int) -> NDArray[Any]:
        import numpy as np

        addresses = np.zeros(frames, dtype=np.dtype(ADDRESS_FIELDS))
        addresses["file"], addresses["length"], addresses["offset"] = file, camera, np.arange(frames)
        return addresses
