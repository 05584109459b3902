"""What flows between components: plain frozen records, shapes stated, nothing hidden.

Shape legend: T frames of an episode, W observations of a history, H actions of a chunk, A action dimensions,
P state dimensions.
Keys are LeRobot's: ``observation.images.<camera>``, ``observation.state``, ``action``, ``task``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from openvla_toolkit.core.contract import Interface

__all__ = [
    "ADDRESS_FIELDS",
    "IGNORED",
    "ActionChunk",
    "Conversation",
    "ConversationSample",
    "DataDescription",
    "EncodedImage",
    "Episode",
    "Observation",
    "Sample",
    "Turn",
]

ADDRESS_FIELDS = [("file", "<u4"), ("length", "<u4"), ("offset", "<u8")]
"""NumPy dtype fields of the address of one image: 16 bytes that say where it lies in the unmodified data set.

``file`` counts in ``DataDescription.files``; what ``offset`` and ``length`` mean is the data set's own affair
(bytes in a TFRecord shard, a frame number in a video); only its ``image`` method reads them."""

IGNORED = -100
"""Label of a token that is not learned (torch's cross entropy skips it)."""

EncodedImage: TypeAlias = "bytes | NDArray[np.uint8]"
"""An image as it lies on disk: JPEG or PNG bytes, or uint8 [height, width, 3] pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One demonstration: numbers at hand, images as addresses."""

    name: str
    """Where it came from, for people: shown in every error about it."""
    images: Mapping[str, NDArray[Any]]
    """Camera name -> [T] array of ``ADDRESS_FIELDS``."""
    states: NDArray[np.float32] | None
    """[T, P] proprioception in the embodiment's units, or None."""
    actions: NDArray[np.float32]
    """[T, A] actions in the embodiment's units."""
    instructions: Sequence[str]
    """[T] what the robot was told at each frame."""
    keep: NDArray[np.bool_] | None = None
    """[T] frames from which a sample is made; None for all. Statistics are of all frames either way."""

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation; a person asks, the model answers."""

    speaker: str
    """``human`` or ``gpt`` (LLaVA's names)."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """An image, or none, and what is said about it (vision-language training)."""

    name: str
    images: Mapping[str, NDArray[Any]]
    """Camera name -> [1] array of ``ADDRESS_FIELDS``; empty for text alone."""
    turns: Sequence[Turn]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDescription:
    """What a data set holds, known without reading its images."""

    name: str
    """The name its statistics get in the checkpoint (``unnorm_key``)."""
    fingerprint: str
    """Changes when the content changes: index and statistics are cached under it."""
    files: Sequence[str]
    """The files that image addresses count in."""
    cameras: Sequence[str]
    robot: Interface | None
    """The robot that was recorded; None for data without one (conversations)."""
    version: str | None = None
    """What the data set itself calls its version."""
    splits: Mapping[str, int] = field(default_factory=dict)
    """Split -> episodes, as the data set itself divides them; only a part of them may be read here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One training sample of a robot policy, decoded and normalised, before tokens are made."""

    images: Mapping[str, NDArray[np.uint8]]
    """Camera name -> [height, width, 3] RGB; [W, height, width, 3] for a contract with a history W > 1."""
    state: NDArray[np.float32] | None
    """[P], normalised; [W, P] with a history."""
    actions: NDArray[np.float32]
    """[H, A], normalised to the tokenizer's range."""
    instruction: str
    dataset: str
    observed: NDArray[np.bool_] | None = None
    """[W], False where the episode had not begun and its first frame stands in; None without a history."""
    goal: Mapping[str, NDArray[np.uint8]] | None = None
    """Camera name -> [height, width, 3] RGB of a later frame, where the contract wants a goal."""
    skipped: int = 0
    """Samples that could not be read and for which this one stands in (``on_error: skip``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSample:
    """One training sample of vision-language data, decoded, before tokens are made."""

    images: Mapping[str, NDArray[np.uint8]]
    """Camera name -> [height, width, 3] RGB; empty for text alone."""
    turns: Sequence[Turn]
    dataset: str
    skipped: int = 0
    """Samples that could not be read and for which this one stands in (``on_error: skip``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a policy sees at one moment."""

    images: Mapping[str, NDArray[np.uint8]]
    """Camera name -> [height, width, 3] RGB as the camera gave it."""
    instruction: str
    state: NDArray[np.float32] | None = None
    """[P] in the embodiment's units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionChunk:
    """What a policy answers."""

    actions: NDArray[np.float64]
    """[H, A] in the embodiment's units."""
    tokens: NDArray[np.int64] | None = None
    """[H, A] action token ids, where the policy has tokens."""
    extras: Mapping[str, Any] = field(default_factory=dict)
