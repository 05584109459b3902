"""Generated scenes as vision-language data: nothing on disk, every item a function of its position."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.types import ADDRESS_FIELDS, Conversation, DataDescription
from openvla_toolkit.environments.tabletop.drawing import draw_primary, draw_wrist
from openvla_toolkit.environments.tabletop.pointing import random_scene, turns
from openvla_toolkit.environments.tabletop.world import State

if TYPE_CHECKING:
    from openvla_toolkit.environments.tabletop import TabletopScenesConfig

__all__ = ["TabletopScenes"]

_CAMERAS = ("primary", "wrist")


class TabletopScenes:
    """A data set of conversations; an image address holds scene (``offset``) and camera (``file``)."""

    def __init__(self, config: TabletopScenesConfig) -> None:
        self._config = config
        self._scene = lru_cache(maxsize=64)(self._draw_scene)

    def describe(self) -> DataDescription:
        """Return name, cameras and a fingerprint of the settings."""
        fingerprint = hashlib.sha256(self._config.model_dump_json().encode()).hexdigest()
        return DataDescription(
            name=self._config.name, fingerprint=fingerprint, files=_CAMERAS, cameras=_CAMERAS, robot=None
        )

    def __len__(self) -> int:
        return self._config.items

    def __getitem__(self, position: int) -> Conversation:
        if not 0 <= position < len(self):
            raise IndexError(f"scene {position} of {len(self)}")
        state, generator = self._scene(position)
        addresses = {
            camera: np.array([(number, 0, position)], dtype=np.dtype(ADDRESS_FIELDS))
            for number, camera in enumerate(_CAMERAS)
        }
        said = turns(state, np.random.default_rng(generator))
        return Conversation(name=f"scene {position}", images=addresses, turns=said)

    def image(self, address: np.void) -> NDArray[np.uint8]:
        """Draw the scene that the address names."""
        state, _ = self._scene(int(address["offset"]))
        size = self._config.world.image_size
        if _CAMERAS[int(address["file"])] == "wrist":
            return draw_wrist(state, size=size)
        return draw_primary(state, self._config.world.camera, size=size)

    def _draw_scene(self, position: int) -> tuple[State, int]:
        generator = np.random.default_rng((self._config.seed, position))
        return random_scene(self._config.world, generator), int(generator.integers(2**63))

    def __getstate__(self) -> dict[str, object]:
        return {"_config": self._config}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["_config"])  # type: ignore[misc]
