"""Kind ``dataset``: where episodes (or conversations) come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, SerializeAsAny

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.interfaces.embodiment import AnyEmbodiment

if TYPE_CHECKING:
    import numpy as np

    from openvla_toolkit.core.types import DataDescription, EncodedImage

__all__ = ["AnyDataset", "Dataset", "DatasetConfig"]

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


class DatasetConfig(ComponentConfig):
    """Settings that every data set has."""

    kind: ClassVar[str] = "dataset"

    weight: float = Field(default=1.0, gt=0)
    """Share of the mixture, relative to the other data sets of the recipe."""
    embodiment: AnyEmbodiment | None = None
    """The robot that was recorded; None where the data carries it itself, or holds no robot."""

    def prepare(self, report: Callable[[int, int], None] | None = None) -> None:
        """Make what is missing on disk (generate, download); called once per run, before ``build``.

        ``report(done, total)`` is called as work proceeds. What is there already is left alone; an
        interrupted preparation is never taken for whole.
        """

    @abstractmethod
    def build(self) -> Dataset[Any]:
        """Open the data set.

        Raises:
            MissingFile: the root does not exist or holds no such data set.
        """


AnyDataset: TypeAlias = Annotated[SerializeAsAny[DatasetConfig], BeforeValidator(by_name("dataset"))]
