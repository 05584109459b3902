"""From a position in a data set to one decoded, normalised sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Interface, Normalization
from openvla_toolkit.core.data_sections import Goals
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.statistics import Statistics, normalize
from openvla_toolkit.core.types import Conversation, ConversationSample, EncodedImage, Episode, Sample
from openvla_toolkit.interfaces.dataset import Dataset
from openvla_toolkit.pipeline.filters import Selection
from openvla_toolkit.pipeline.frames import FrameMaker, as_recorded
from openvla_toolkit.pipeline.index import EpisodeIndex
from openvla_toolkit.pipeline.windows import goal_frame, history, padded

__all__ = ["PATIENCE", "ConversationSource", "EpisodeSource", "SampleSource"]

PATIENCE = 100
"""Samples in a row that may be unreadable before skipping them gives up."""

Read = TypeVar("Read")


class SampleSource(Protocol):
    """A member of a mixture: numbered samples, ready for a policy's processor."""

    def __len__(self) -> int: ...

    def sample(self, position: int, *, number: int) -> Sample | ConversationSample:
        """Return the sample at ``position``; augmentation follows ``number``, its place in the stream."""
        ...


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
        history: int = 1,
        goals: Goals | None = None,
        seed: int = 0,
        frames: FrameMaker | None = None,
        selection: Selection | None = None,
        skip: bool = False,
    ) -> None:
        """Put a data set and what a policy wants of it together.

        Args:
            goals: which later frame is shown as the goal; None shows none, and reads no picture for it.
            seed: of the draw of goals.
            selection: which of the index's samples there are; None for all.
            skip: take the next sample where a picture cannot be read.
        """
        self._dataset, self._index, self._statistics = dataset, index, statistics
        self._rule, self._cameras, self._chunk, self._history = normalization, cameras, chunk, history
        self._goals, self._seed, self._skip = goals, seed, skip
        self._frames = frames or as_recorded
        self._selection = selection
        description = dataset.describe()
        self._name, self._files = description.name, description.files
        self._absolute = np.array([dimension.reference == "absolute" for dimension in robot.action])
        missing = [camera for camera in cameras if camera not in index.images]
        if missing:
            raise DataError(
                f"no camera '{missing[0]}'; the data has {', '.join(index.images) or 'none'}.", key=self._name
            )

    def __len__(self) -> int:
        if self._selection is not None:
            return len(self._selection)
        samples = self._index.samples
        return self._index.frames if samples is None else len(samples)

    @property
    def dataset(self) -> Dataset[Episode]:
        """The data set that pictures are read from."""
        return self._dataset

    def reading(self, dataset: Dataset[Episode]) -> EpisodeSource:
        """Return the same source, its pictures read through another data set with the same addresses."""
        other = copy(self)
        other._dataset = dataset
        return other

    def addresses(self, positions: Sequence[int]) -> NDArray[Any]:
        """Return where the pictures of these samples lie, those of all cameras one after the other."""
        frames = [self._frame(position) for position in positions]
        return np.concatenate([self._index.images[camera][frames] for camera in self._cameras])

    def sample(self, position: int, *, number: int) -> Sample:
        """Return the sample at ``position``; augmentation and goal are drawn as ``number`` says.

        Raises:
            DataError: a picture cannot be read; names file, episode, frame and camera.
        """
        if not self._skip:
            return self._sample(self._frame(position), number)
        sample, skipped = _first_readable(
            lambda place: self._sample(self._frame(place), number), position, count=len(self)
        )
        return replace(sample, skipped=skipped)

    def _frame(self, position: int) -> int:
        if self._selection is not None:
            position = self._selection[position]
        samples = self._index.samples
        return position if samples is None else int(samples[position])

    def _sample(self, frame: int, number: int) -> Sample:
        index, rule = self._index, self._rule
        episode = index.episode_of(frame)
        first, stop = (int(bound) for bound in index.starts[episode : episode + 2])
        goal = None
        if self._goals is not None:
            goal = goal_frame(frame, first=first, stop=stop, rule=self._goals, seed=self._seed, number=number)
        # Where a goal is reached the robot stays as it is, as at the end of the episode.
        end = min(frame + self._chunk, stop if goal is None else goal + 1)
        actions = normalize(index.actions[frame:end], self._statistics.action, rule)
        seen, observed = history(frame, first=first, size=self._history)
        state = None
        if index.states is not None and self._statistics.proprio is not None:
            states = normalize(index.states[seen], self._statistics.proprio, rule)
            state = states[0] if self._history == 1 else states
        return Sample(
            images={camera: self._seen(camera, seen, episode, number) for camera in self._cameras},
            state=state,
            actions=padded(actions, size=self._chunk, absolute=self._absolute),
            instruction=index.instructions[index.instruction_of[frame]],
            dataset=self._name,
            observed=None if self._history == 1 else observed,
            goal=None
            if goal is None
            else {camera: self._picture(camera, goal, episode, number) for camera in self._cameras},
        )

    def _seen(self, camera: str, frames: NDArray[np.int64], episode: int, number: int) -> NDArray[np.uint8]:
        """Return the picture, or the pictures of a history; those that stand in are decoded once."""
        pictures = {frame: self._picture(camera, frame, episode, number) for frame in set(frames.tolist())}
        if self._history == 1:
            return pictures[int(frames[0])]
        return np.stack([pictures[frame] for frame in frames.tolist()])

    def _picture(self, camera: str, frame: int, episode: int, number: int) -> NDArray[np.uint8]:
        address = self._index.images[camera][frame]
        place = frame - int(self._index.starts[episode])
        with _place(self._files[int(address["file"])], self._index.names[episode], place, camera):
            return self._frames(_there(self._dataset.image(address)), number=number, camera=camera)


class ConversationSource:
    """Conversations about images; one sample each."""

    def __init__(
        self, dataset: Dataset[Conversation], *, cameras: tuple[str, ...], skip: bool = False
    ) -> None:
        self._dataset, self._cameras, self._skip = dataset, cameras, skip
        description = dataset.describe()
        self._name, self._files = description.name, description.files

    def __len__(self) -> int:
        return len(self._dataset)

    def sample(self, position: int, *, number: int) -> ConversationSample:
        """Return the conversation at ``position``; its pictures are never augmented.

        Raises:
            DataError: it cannot be read; names it and the camera.
        """
        if not self._skip:
            return self._sample(position)
        sample, skipped = _first_readable(self._sample, position, count=len(self))
        return replace(sample, skipped=skipped)

    def _sample(self, position: int) -> ConversationSample:
        item = self._dataset[position]
        images: dict[str, NDArray[np.uint8]] = {}
        for camera in self._cameras:
            if camera in item.images:
                address = item.images[camera][0]
                with _place(self._files[int(address["file"])], item.name, 0, camera):
                    images[camera] = decode(_there(self._dataset.image(address)))
        return ConversationSample(images=images, turns=item.turns, dataset=self._name)


def _first_readable(read: Callable[[int], Read], position: int, *, count: int) -> tuple[Read, int]:
    """Return what is read at the first position from ``position`` on where nothing is damaged.

    Returns:
        What was read, and how many positions before it could not be.

    Raises:
        DataError: ``PATIENCE`` positions in a row, or all there are, cannot be read.
    """
    tries = min(count, PATIENCE)
    for skipped in range(tries):
        try:
            return read((position + skipped) % count), skipped
        except DataError as error:
            last = error
    raise DataError(
        f"{last.reason} It is the last of {tries} samples in a row that cannot be read: 'on_error: skip' "
        "gives up.",
        file=last.file,
        episode=last.episode,
        frame=last.frame,
        key=last.key,
    )


def _there(encoded: EncodedImage) -> EncodedImage:
    """Refuse a picture of no bytes, which data sets leave where a camera did not record."""
    if len(encoded) == 0:
        raise DataError("there is no picture: the camera recorded nothing here (0 bytes).")
    return encoded


@contextmanager
def _place(file: str, name: str, frame: int, camera: str) -> Iterator[None]:
    """Say of a picture that cannot be read where it stands."""
    try:
        yield
    except DataError as error:
        key = f"observation.images.{camera}"
        raise DataError(error.reason, file=error.file or file, episode=name, frame=frame, key=key) from error
