"""Kind ``dataset``: where episodes (or conversations) come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

from pydantic import BeforeValidator, Field, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig, bare_name
from openvla_toolkit.core.data_sections import Filters, Goals
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.locations import RemotePath
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.interfaces.embodiment import AnyEmbodiment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from openvla_toolkit.core.contract import Interface
    from openvla_toolkit.core.types import DataDescription, EncodedImage, Episode
    from openvla_toolkit.interfaces.transform import Passed, Trajectory

__all__ = [
    "AnyDataset",
    "Dataset",
    "DatasetConfig",
    "DatasetWriter",
    "EpisodeMaker",
    "ReadsAhead",
    "WritePlan",
]

Item = TypeVar("Item", covariant=True)


class Dataset(Protocol[Item]):
    """Items by position; images stay encoded and are addressed where they lie.

    ``Item`` is ``Episode`` for robot data and ``Conversation`` for vision-language data. All methods may
    be called from several processes at once on copies that were pickled.
    """

    def describe(self) -> DataDescription:
        """Return name, files, cameras and a fingerprint of the content, without reading images."""
        ...

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def __getitem__(self, position: int) -> Item:
        """Read one item without its images.

        Raises:
            DataError: the bytes are damaged; names file, episode, frame and key.
            IndexError: past the end.
        """
        ...

    def image(self, address: np.void) -> EncodedImage:
        """Read the image at an address (one element of an ``ADDRESS_FIELDS`` array)."""
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """What a data set may offer beside ``Dataset``: to read many images at a time.

    It is asked for the pictures of a batch, and with ``shuffle: blocks`` for those of neighbours.
    """

    def ahead(self, addresses: NDArray[Any]) -> Sequence[bytes] | None:
        """Read the images at these addresses together; they will be asked for soon, in any order.

        Returns:
            The encoded images, to be kept until then; None where the system keeps what was read (local
            files).

        Raises:
            DataError: a file cannot be read; names it.
        """
        ...


class EpisodeMaker(Protocol):
    """Makes episodes of a data set's trajectories by its card or the catalog; can be pickled.

    A plugin that reads trajectories by other means has them read as the data set ``rlds`` does:
    ``load("dataset", "rlds").model_validate(settings).episode_maker(features)`` returns one.
    """

    @property
    def cameras(self) -> Sequence[str]:
        """The cameras of every episode."""
        ...

    @property
    def robot(self) -> Interface | None:
        """The robot that was recorded, cameras as large as the features say."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the episodes depend on beside the data: a part of its fingerprint."""
        ...

    def __call__(self, trajectory: Trajectory, *, name: str) -> Episode:
        """Apply the transforms and pick out cameras, state, action and instruction.

        Images are address arrays whose ``length`` is that in bytes. Features of a whole episode stand under
        ``traj_metadata``, repeated for every frame.

        Raises:
            DataError: a number is not finite, a picture has no bytes, arrays differ in length, or the
                transforms leave nothing; names frame and key.
            RecipeError: a key does not exist.
            ContractMismatch: the vectors have not the lengths that the embodiment gives.
        """
        ...

    def trace(self, trajectory: Trajectory) -> list[Passed]:
        """Return how many frames a trajectory has as recorded, and after each transform."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePlan:
    """A data set that is to be written, known whole before its first shard is."""

    name: str
    robot: Interface
    cameras: Sequence[str]
    lengths: Sequence[int]
    """Frames of every episode."""
    instructions: Sequence[str]
    """Every text that the robot is told, in the order of first appearance."""
    keeps: bool
    """Whether some frame is not made a sample (``Episode.keep``), so that every frame must be marked."""
    splits: Mapping[str, tuple[int, int]]
    """Split -> its first episode and the one past the last; ``split: all`` reads them in this order."""
    shards: Sequence[tuple[int, int]]
    """First episode and the one past the last, for every shard; each is of one split."""


class DatasetWriter(Protocol):
    """Writes a planned data set into a folder, shard by shard, in any order and in any process."""

    def write(self, source: Dataset[Episode], shard: int, folder: Path) -> Mapping[str, Any]:
        """Write the files of one shard anew; return what ``finish`` must know of it, as plain JSON data."""
        ...

    def finish(self, folder: Path, reports: Sequence[Mapping[str, Any]]) -> None:
        """Write what describes the whole; ``reports`` are those of all shards, in order."""
        ...

    def reader(self, folder: Path) -> DatasetConfig:
        """Return the settings that read the finished folder."""
        ...


class DatasetConfig(ComponentConfig):
    """Settings that every data set has."""

    kind: ClassVar[str] = "dataset"

    weight: float = Field(default=1.0, gt=0)
    """Share of the mixture, relative to the other data sets of the recipe."""
    embodiment: AnyEmbodiment | None = None
    """The robot that was recorded; None where the data carries it itself, or holds no robot."""
    statistics: Path | None = None
    """A ``dataset_statistics.json`` whose figures are used instead of those of this data, for instance the
    ones of the policy's pre-training; null measures what is read."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do about an episode or a frame that is damaged: stop, or leave it out, count it and say so."""
    filters: Filters = Filters()
    """From which episodes no samples are made."""
    goals: Annotated[Goals, BeforeValidator(bare_name)] = Goals()
    """Which later frame is shown as the goal to a policy that wants one."""

    def prepare(self, report: Callable[[int, int], None] | None = None) -> None:
        """Make what is missing on disk (generate, download); called once per run, before ``build``.

        ``report(done, total)`` is called as work proceeds. What is there already is left alone; an
        interrupted preparation is never taken for whole.
        """

    @classmethod
    def found_at(cls, path: Path | RemotePath) -> Self | None:
        """Return the settings that read what lies at ``path``, or None if it is of another kind."""
        return None

    @classmethod
    def writer(cls, plan: WritePlan, settings: Mapping[str, Any]) -> DatasetWriter:
        """Return what writes data sets of this kind.

        Raises:
            UserError: this kind is only read, or has no such settings.
        """
        name = cls.model_fields["name"].default
        raise UserError(f"data sets of the kind '{name}' are not written, only read.")

    @abstractmethod
    def build(self) -> Dataset[Any]:
        """Open the data set.

        Raises:
            MissingFile: the root does not exist or holds no such data set.
        """


AnyDataset: TypeAlias = Annotated[SerializeAsAny[DatasetConfig], BeforeValidator(by_name("dataset"))]
