"""Episodes of the dots' expert as a data set in memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from openvla_toolkit.core.types import ADDRESS_FIELDS, DataDescription, Episode
from openvla_toolkit.testing.fakes.dots import DotsConfig, DotsRobotConfig
from openvla_toolkit.testing.fakes.world import jpeg

if TYPE_CHECKING:
    from openvla_toolkit.testing.fakes.dots import DotsEpisodesConfig

__all__ = ["DotsEpisodes"]


class DotsEpisodes:
    """Address: file 0, ``offset`` the number of the picture, ``length`` its bytes."""

    def __init__(self, config: DotsEpisodesConfig) -> None:
        self._name = config.dataset
        self._robot = (config.embodiment or DotsRobotConfig()).build()
        self._pictures: list[bytes] = []
        self._episodes = [self._record(config.seed + number) for number in range(config.episodes)]

    def describe(self) -> DataDescription:
        """Return the description; the fingerprint is a hash of all pictures and actions."""
        content = hashlib.sha256(b"".join(self._pictures))
        for episode in self._episodes:
            content.update(episode.actions.tobytes())
        return DataDescription(
            name=self._name,
            fingerprint=content.hexdigest(),
            files=("memory",),
            cameras=tuple(self._robot.cameras),
            robot=self._robot,
        )

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, position: int) -> Episode:
        """Return one episode; raises IndexError past the end."""
        return self._episodes[position]

    def image(self, address: np.void) -> bytes:
        """Return the JPEG bytes of one picture."""
        return self._pictures[int(address["offset"])]

    def _record(self, seed: int) -> Episode:
        world = DotsConfig().build()
        observation, _ = world.reset(seed=seed)
        seen, actions, done = [observation], [], False
        while not done:
            actions.append(world.expert_action())
            observation, _, terminated, truncated, _ = world.step(actions[-1])
            done = terminated or truncated
            seen.append(observation)
        frames = seen[:-1]
        return Episode(
            name=f"{self._name}/{seed}",
            images={
                camera: np.array(
                    [self._keep(jpeg(one[f"observation.images.{camera}"])) for one in frames],
                    dtype=np.dtype(ADDRESS_FIELDS),
                )
                for camera in self._robot.cameras
            },
            states=np.stack([one["observation.state"] for one in frames]),
            actions=np.stack(actions),
            instructions=[one["task"] for one in frames],
        )

    def _keep(self, picture: bytes) -> tuple[int, int, int]:
        self._pictures.append(picture)
        return 0, len(picture), len(self._pictures) - 1
