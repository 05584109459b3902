"""Data sets of tensorflow-datasets: the settings; what reads them is in ``reader``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from openvla_toolkit.interfaces.dataset import DatasetConfig
from openvla_toolkit.interfaces.transform import AnyTransform

if TYPE_CHECKING:
    from openvla_tfds.reader import TFDSDataset

__all__ = ["TFDSConfig"]


def _text(value: object) -> object:
    """Take a path as well: TensorFlow wants text, whatever it names."""
    return value if value is None else str(value)


class TFDSConfig(DatasetConfig):
    """An RLDS data set that tensorflow-datasets reads: any builder, any encoding, anywhere it can read.

    Slower than ``rlds``, which reads what is stored as TFRecord files by itself; made for what that cannot
    read. What is not given (null) comes from ``openvla.yaml`` beside the data, else from the toolkit's
    catalog.
    """

    name: Literal["tfds"] = "tfds"
    root: Annotated[str | None, BeforeValidator(_text)] = None
    """TFDS's ``data_dir``, also as ``gs://...``, or a version's own folder; null for TFDS's default."""
    dataset: str
    """The builder's name, as ``bridge_dataset`` or ``name/config``; statistics are stored under it."""
    version: str | None = None
    """As ``1.0.0``; null for the newest."""
    split: str = "train"
    """A split or a part of one: ``train[:95%]``, ``train[10:20]``, ``train+val``, ``all``."""
    cameras: dict[str, str] | None = Field(default=None, min_length=1)
    """Camera name -> key of the observation."""
    state: list[str | None] | None = None
    """Keys of the observation that make up the state; a null stands for one column of zeros."""
    instruction: str | None = None
    """Key of what the robot was told (``language_instruction`` unless the card says otherwise)."""
    action: str | None = None
    """Key of the actions (``action`` unless the card says otherwise)."""
    transforms: list[AnyTransform] | None = None
    """Applied to each trajectory in order, before the keys above are looked up."""
    via: Literal["tfds", "dlimp"] = "tfds"
    """``dlimp`` reads through OpenVLA's own library, where that is installed; episodes are the same."""

    def prepare(self, report: Callable[[int, int], None] | None = None) -> None:
        """Let the builder download and write its data set where it is missing."""
        from openvla_tfds.builder import open_builder

        builder = open_builder(self)
        if not builder.is_prepared():
            builder.download_and_prepare()

    def build(self) -> TFDSDataset:
        """Open the data set.

        Raises:
            MissingDependency: tensorflow-datasets, TensorFlow or dlimp is not installed.
            MissingFile: there is no such builder, or its data are not there.
            RecipeError: the split does not exist, or nothing says which feature is which camera.
            DataError: the data set is not RLDS (one record per episode), or a feature cannot be used.
        """
        from openvla_tfds.reader import TFDSDataset

        return TFDSDataset(self)
