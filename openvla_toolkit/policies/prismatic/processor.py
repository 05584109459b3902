"""Samples and observations to arrays: NumPy and Pillow, no torch; runs in loader workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Contract
from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.core.types import IGNORED, ConversationSample, Observation, Sample
from openvla_toolkit.interfaces.action_head import Targets
from openvla_toolkit.interfaces.prompt import PromptConfig
from openvla_toolkit.policies.prismatic.images import Pixels, checked
from openvla_toolkit.policies.prismatic.text import TextCode, TextWriter

__all__ = ["PrismaticProcessor"]

Item = Mapping[str, NDArray[np.generic]]


class PrismaticProcessor:
    """Makes the model's inputs.

    An encoded item has ``input_ids`` [L] and, where there are pictures, ``pixel_values`` [C x 3 x towers, S,
    S], the cameras stacked in the contract's order; for training also ``labels`` [L] and ``is_action``.
    """

    def __init__(self, contract: Contract, *, code: TextCode, prompt: PromptConfig, targets: Targets) -> None:
        self._cameras = contract.cameras
        self._sizes = {name: (one.height, one.width) for name, one in contract.robot.cameras.items()}
        self._pixels = Pixels(contract.images)
        self._channels = 3 * len(contract.images.means) * len(contract.cameras)
        self._size, self._recipe = contract.images.size, contract.images.frame
        self._writer = TextWriter(code, prompt, contract.prompt)
        self._pad_id = code.pad_id
        self._targets = targets

    def encode(self, sample: Sample | ConversationSample) -> dict[str, NDArray[np.generic]]:
        """Return inputs and labels of one training sample; its pictures are framed already.

        Raises:
            ContractMismatch: a camera's picture is missing or of the wrong form.
            DataError: the turns of a conversation do not alternate.
        """
        if isinstance(sample, Sample):
            input_ids, labels = self._targets(self._writer.instruction(sample.instruction), sample.actions)
            pictures = self._pictures(sample.images)
        else:
            pictures = self._pictures(sample.images) if sample.images else {}
            input_ids, labels = self._writer.conversation(sample.turns)
        is_action = np.array(isinstance(sample, Sample))
        return {"input_ids": input_ids, "labels": labels, "is_action": is_action, **pictures}

    def encode_observation(self, observation: Observation) -> dict[str, NDArray[np.generic]]:
        """Return the inputs for acting: the prompt without an answer.

        Raises:
            ContractMismatch: a camera's picture is missing, of the wrong form, or of another size than the
                robot's camera gives; a policy whose robot is not known takes any size, as the original.
        """
        prompt = self._targets.prompt(self._writer.instruction(observation.instruction))
        self._check_there(observation.images)
        self._check_sizes(observation.images)
        pictures = self._pictures(
            {camera: self._frame(observation.images[camera], camera) for camera in self._cameras}
        )
        return {"input_ids": prompt, **pictures}

    def _check_sizes(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        for camera in self._cameras:
            found = images[camera].shape[:2]
            expected = self._sizes.get(camera, found)
            if found != expected:
                raise ContractMismatch(
                    f"the picture of camera '{camera}' is {found[0]} x {found[1]} pixels (height x width), "
                    f"and the policy was trained on {expected[0]} x {expected[1]}: resize it where it is "
                    "taken, or fine-tune the policy on data that declare this size."
                )

    def _frame(self, picture: NDArray[np.uint8], camera: str) -> NDArray[np.uint8]:
        """Return a camera's picture as the pictures of training samples come."""
        if self._recipe is None:
            return picture
        from openvla_toolkit.core.images.framing import framed  # Numba takes a quarter of a second to import

        return framed(checked(picture, camera=camera), self._recipe, size=(self._size, self._size))

    def _check_there(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        missing = [camera for camera in self._cameras if camera not in images]
        if missing:
            raise ContractMismatch(
                f"no picture of camera '{missing[0]}'; the policy looks at {', '.join(self._cameras)}, "
                f"given: {', '.join(images) or 'none'}."
            )

    def _pictures(self, images: Mapping[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.generic]]:
        self._check_there(images)
        views = [self._pixels(images[camera], camera=camera) for camera in self._cameras]
        return {"pixel_values": views[0] if len(views) == 1 else np.concatenate(views)}

    def collate(self, items: Sequence[Item], *, side: str = "right") -> dict[str, NDArray[np.generic]]:
        """Stack encoded items, padding on the ``right`` for training and on the ``left`` for decoding.

        Returns:
            ``input_ids`` and ``attention_mask`` [B, L]; ``pixel_values`` of the rows that have pictures and
            these rows' numbers, ``image_rows``; where the items have them ``labels`` [B, L] and ``is_action``
            [B].
        """
        lengths = [len(item["input_ids"]) for item in items]
        pictured = [item["pixel_values"] for item in items if "pixel_values" in item]
        empty = np.empty((0, self._channels, self._size, self._size), dtype=np.float32)
        batch: dict[str, NDArray[np.generic]] = {
            "input_ids": _padded([item["input_ids"] for item in items], self._pad_id, side=side),
            "attention_mask": _padded([np.ones(length, dtype=np.int64) for length in lengths], 0, side=side),
            "pixel_values": np.stack(pictured) if pictured else empty,
            "image_rows": np.flatnonzero(["pixel_values" in item for item in items]).astype(np.int64),
        }
        if all("labels" in item for item in items):
            batch["labels"] = _padded([item["labels"] for item in items], IGNORED, side=side)
            batch["is_action"] = np.stack([item["is_action"] for item in items])
        return batch


def _padded(rows: Sequence[NDArray[Any]], filler: int, *, side: str) -> NDArray[np.int64]:
    longest = max(map(len, rows))
    padded = np.full((len(rows), longest), filler, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[slice(0, len(row)) if side == "right" else slice(longest - len(row), None)] = row
    return padded
