"""From a position in a data set to one decoded, normalised sample."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Interface, Normalization
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images import decode
from openvla_toolkit.core.statistics import Statistics, normalize
from openvla_toolkit.core.types import Conversation, ConversationSample, EncodedImage, Episode, Sample
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.pipeline.index import EpisodeIndex

__all__ = ["ConversationSource", "EpisodeSource", "SampleSource", "action_chunk"]


class SampleSource(Protocol):
    """A member of a mixture: numbered samples, ready for a policy's processor."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Sample | ConversationSample: ...


class EpisodeSource:
    """Frames of robot episodes; one sample per frame that the data set keeps."""

    def __init__(
        self,
        dataset: Dataset[Episode],
        index: EpisodeIndex,
        statistics: Statistics,
        *,
        robot: Interface,
        normalization: Normalization,
        cameras: tuple[str, ...],
        chunk: int,
    ) -> None:
        self._dataset, self._index, self._statistics = dataset, index, statistics
        self._rule, self._cameras, self._chunk = normalization, cameras, chunk
        self._name = dataset.describe().name
        self._absolute = np.array([dimension.reference == "absolute" for dimension in robot.action])
        missing = [camera for camera in cameras if camera not in index.images]
        if missing:
            raise DataError(
                f"no camera '{missing[0]}'; the data has {', '.join(index.images) or 'none'}.", key=self._name
            )

    def __len__(self) -> int:
        samples = self._index.samples
        return self._index.frames if samples is None else len(samples)

    def __getitem__(self, position: int) -> Sample:
        index = self._index
        if index.samples is not None:
            position = int(index.samples[position])
        episode = index.episode_of(position)
        actions = action_chunk(
            index.actions[: index.starts[episode + 1]], position, size=self._chunk, absolute=self._absolute
        )
        state = None
        if index.states is not None and self._statistics.proprio is not None:
            state = normalize(index.states[position], self._statistics.proprio, self._rule)
        return Sample(
            images={camera: self._picture(camera, position, episode) for camera in self._cameras},
            state=state,
            actions=normalize(actions, self._statistics.action, self._rule),
            instruction=index.instructions[index.instruction_of[position]],
            dataset=self._name,
        )

    def _picture(self, camera: str, position: int, episode: int) -> NDArray[np.uint8]:
        encoded = self._dataset.image(self._index.images[camera][position])
        place = position - int(self._index.starts[episode])
        return _decoded(encoded, self._index.names[episode], place, camera)


class ConversationSource:
    """Conversations about images; one sample each."""

    def __init__(self, dataset: Dataset[Conversation], *, cameras: tuple[str, ...]) -> None:
        self._dataset, self._cameras = dataset, cameras
        self._name = dataset.describe().name

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> ConversationSample:
        item = self._dataset[position]
        images = {
            camera: _decoded(self._dataset.image(item.images[camera][0]), item.name, 0, camera)
            for camera in self._cameras
            if camera in item.images
        }
        return ConversationSample(images=images, turns=item.turns, dataset=self._name)


def action_chunk(
    actions: NDArray[np.float32], frame: int, *, size: int, absolute: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return ``size`` actions from ``frame`` on; ``actions`` ends where the episode ends.

    Past the end a robot stays as it is: zeros for relative dimensions, the last value for absolute ones
    (the original's ``chunk_act_obs``).
    """
    steps = frame + np.arange(size)
    chunk: NDArray[np.float32] = actions[np.minimum(steps, len(actions) - 1)]
    chunk[len(actions) - frame :, ~absolute] = 0
    return chunk


def _decoded(encoded: EncodedImage, name: str, frame: int, camera: str) -> NDArray[np.uint8]:
    try:
        return decode(encoded)
    except DataError as error:
        key = f"observation.images.{camera}"
        raise DataError(error.reason, episode=name, frame=frame, key=key) from error
