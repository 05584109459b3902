"""The data set itself: episodes by position, pictures by file, place in the file, and frame.

Legend of shapes: T frames of an episode.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Camera, Interface
from openvla_toolkit.core.errors import ContractMismatch, DataError, RecipeError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, EncodedImage, Episode
from openvla_toolkit.datasets.hdf5 import HDF5Config
from openvla_toolkit.datasets.hdf5.files import demonstrations, files_below, member, opened, told
from openvla_toolkit.datasets.rlds.splits import select
from openvla_toolkit.datasets.rlds.trajectory import numbers

__all__ = ["HDF5Dataset"]

ADDRESS = np.dtype(ADDRESS_FIELDS)
HINT_BYTES = 64 * 1024
NOT_CONTENT = {
    "embodiment",
    "weight",
    "root",
    "dataset",
    "statistics",
    "on_error",
    "filters",
    "goals",
}
"""Settings that do not change what an episode holds."""


class HDF5Dataset:
    """Episodes of HDF5 files (``interfaces.dataset.Dataset[Episode]``).

    An address is (file, episode of the file x cameras + camera, frame).
    """

    def __init__(self, config: HDF5Config) -> None:
        if config.embodiment is None:
            raise RecipeError(
                f"{config.root}: HDF5 files do not say which robot was recorded; give the embodiment, "
                "for instance 'embodiment: franka-libero' or one that is custom.",
                path="embodiment",
            )
        self.config = config
        self.name = config.dataset or config.root.resolve().stem
        self._robot = config.embodiment.build()
        self._paths = files_below(config.root)
        self._members = [demonstrations(path, file=number) for number, path in enumerate(self._paths)]
        found = [(one, number) for members in self._members for number, one in enumerate(members)]
        (part,) = select(config.split, {"train": len(found)})
        self._episodes = found[part.start : part.stop]
        self._cameras = list(config.cameras)

    def describe(self) -> DataDescription:
        """Return name, files, cameras, robot, and the fingerprint of content and settings."""
        return DataDescription(
            name=self.name,
            fingerprint=self._fingerprint,
            files=[str(path) for path in self._paths],
            cameras=self._cameras,
            robot=self._recorded_robot,
        )

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, position: int) -> Episode:
        """Read one episode.

        Raises:
            DataError: the file is damaged, a key is missing, a number not finite, or nothing says what the
                robot was told; names file, episode, frame and key.
            ContractMismatch: the vectors have not the lengths that the embodiment gives.
            IndexError: past the end.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"episode {position} of {len(self)} ({self.name}, {self.config.split})")
        one, number = self._episodes[position]
        path = self._paths[one.file]
        with opened(path) as file:
            group = file[one.group]
            try:
                actions = numbers(member(group, self.config.action, path=path)[()], key=self.config.action)
                states = self._states(group, path, len(actions))
                images = {
                    camera: self._addresses(group, path, one.file, number, camera, len(actions))
                    for camera in self._cameras
                }
            except DataError as error:
                raise DataError(
                    error.reason, file=path, episode=one.group, frame=error.frame, key=error.key
                ) from None
            instruction = self.config.instruction or told(file, group)
        if not instruction:
            raise DataError(
                "the file does not say what the robot was told; set instruction in the recipe.",
                file=path,
                episode=one.group,
            )
        self._check_sizes(actions, states)
        return Episode(
            name=f"{path.name}:{one.group}",
            images=images,
            states=states,
            actions=actions,
            instructions=[instruction] * len(actions),
        )

    def image(self, address: np.void) -> EncodedImage:
        """Return a picture: pixels, or the JPEG bytes of ALOHA's compressed files.

        Raises:
            DataError: the file is damaged, or has fewer frames.
        """
        path = self._paths[int(address["file"])]
        number, camera = divmod(int(address["length"]), len(self._cameras))
        frame = int(address["offset"])
        key = self.config.cameras[self._cameras[camera]]
        group = self._members[int(address["file"])][number].group
        with opened(path) as file:
            stored = member(file[group], key, path=path)
            if frame >= len(stored):
                raise DataError(
                    f"there are {len(stored)} frames.", file=path, episode=group, frame=frame, key=key
                )
            picture = self._checked(stored[frame], path, group, frame, key)
        if not self.config.rotate:
            return picture
        turned: NDArray[np.uint8] = np.ascontiguousarray(decode(picture)[::-1, ::-1])
        return turned

    @staticmethod
    def _checked(value: Any, path: Path, group: str, frame: int, key: str) -> EncodedImage:
        array = np.asarray(value)
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            return array
        if array.dtype == np.uint8 and array.ndim == 1:
            return array.tobytes()  # padded with zeros behind the JPEG's own end, which decoders stop at
        raise DataError(
            f"expected uint8 [height, width, 3] or encoded bytes, found {array.dtype} {array.shape}.",
            file=path,
            episode=group,
            frame=frame,
            key=key,
        )

    def _addresses(
        self, group: Any, path: Path, file: int, number: int, camera: str, length: int
    ) -> NDArray[Any]:
        key = self.config.cameras[camera]
        found = len(member(group, key, path=path))
        if found != length:
            raise DataError(f"it has {found} frames, the actions have {length}.", key=key)
        addresses = np.zeros(length, dtype=ADDRESS)
        addresses["file"] = file
        addresses["length"] = number * len(self._cameras) + self._cameras.index(camera)
        addresses["offset"] = np.arange(length)
        return addresses

    def _states(self, group: Any, path: Path, length: int) -> NDArray[np.float32] | None:
        if not self.config.state:
            return None
        parts = []
        for key in self.config.state:
            part = np.zeros((length, 1), np.float32)
            if key is not None:
                part = numbers(member(group, key, path=path)[()], key=key)
            if len(part) != length:
                raise DataError(f"it has {len(part)} frames, the actions have {length}.", key=key)
            parts.append(part)
        return np.concatenate(parts, axis=1)

    def _check_sizes(self, actions: NDArray[np.float32], states: NDArray[np.float32] | None) -> None:
        robot = self._robot
        for what, found, described in (("action", actions, robot.action), ("state", states, robot.state)):
            if found is not None and described and found.shape[1] != len(described):
                names = ", ".join(dimension.name for dimension in described)
                raise ContractMismatch(
                    f"{self.name}: the {what} has {found.shape[1]} numbers, the embodiment describes "
                    f"{len(described)} ({names}). Give the embodiment that was recorded."
                )

    @cached_property
    def _recorded_robot(self) -> Interface:
        """Return the robot with the sizes of the first episode's pictures."""
        one, number = self._episodes[0]
        cameras = {**self._robot.cameras}
        for position, camera in enumerate(self._cameras):
            addresses = np.zeros(1, dtype=ADDRESS)
            addresses["file"], addresses["length"] = one.file, number * len(self._cameras) + position
            height, width = decode(self.image(addresses[0])).shape[:2]
            update = {"height": height, "width": width}
            known = cameras.get(camera)
            cameras[camera] = Camera(**update) if known is None else known.model_copy(update=update)
        return self._robot.model_copy(update={"cameras": cameras})

    @cached_property
    def _fingerprint(self) -> str:
        """Hash each file's name, size, time of change, first and last bytes, and the settings."""
        digest = hashlib.sha256()
        for path in self._paths:
            status = path.stat()
            digest.update(f"{path.name}:{status.st_size}:{status.st_mtime_ns}".encode())
            with path.open("rb") as stream:
                digest.update(stream.read(HINT_BYTES))
                stream.seek(max(status.st_size - HINT_BYTES, 0))
                digest.update(stream.read())
        settings = self.config.model_dump(mode="json", exclude=NOT_CONTENT)
        digest.update(json.dumps(settings, sort_keys=True).encode())
        return digest.hexdigest()
