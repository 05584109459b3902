"""Data sets: where episodes come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from openvla_toolkit.core.locations import LocalFolder, Location, RemotePath
from openvla_toolkit.interfaces.dataset import DatasetConfig, WritePlan
from openvla_toolkit.interfaces.environment import AnyEnvironment
from openvla_toolkit.interfaces.transform import AnyTransform

if TYPE_CHECKING:
    from typing_extensions import Self

    from openvla_toolkit.datasets.rlds.card import DatasetCard
    from openvla_toolkit.datasets.rlds.conversion import RLDSShardWriter
    from openvla_toolkit.datasets.rlds.episodes import EpisodesByCard
    from openvla_toolkit.datasets.rlds.features import FeaturesDict
    from openvla_toolkit.datasets.rlds.reader import RLDSDataset

__all__ = ["DemonstrationsConfig", "RLDSConfig"]


class RLDSConfig(DatasetConfig):
    """An RLDS data set in TFDS layout, read where it lies, on disk or behind a URL, without TensorFlow.

    What is not given (null) comes from ``openvla.yaml`` beside the data, else from the toolkit's catalog.
    """

    name: Literal["rlds"] = "rlds"
    root: Location
    """The folder that holds ``<dataset>/<version>``; the data set's or the version's own folder will do. Also
    a URL: ``s3://``, ``gs://``, ``https://``, ... (of plain HTTP servers give ``version`` as well)."""
    dataset: str
    """The data set's name; its statistics are stored under it."""
    version: str | None = None
    """As ``1.0.0``; null for the newest."""
    split: str = "train"
    """A split or a part of one, as in TFDS: ``train[:95%]``, ``train[10:20]``, ``train+val``, ``all``."""
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
    verify: bool = True
    """Check the checksum of every record that is read; the index, once made, spares reading records again."""

    @classmethod
    def found_at(cls, path: Path | RemotePath) -> Self | None:
        """Return the settings for a data set's folder, or a version's, whose name is the data set's."""
        from openvla_toolkit.datasets.rlds.layout import INFO, VERSION

        if (path / INFO).is_file():
            return cls(root=path, dataset=path.resolve().parent.name)
        entries = path.iterdir() if path.is_dir() else iter(())
        versions = ((entry / INFO).is_file() for entry in entries if VERSION.fullmatch(entry.name))
        return cls(root=path, dataset=path.resolve().name) if any(versions) else None

    @classmethod
    def writer(cls, plan: WritePlan, settings: Mapping[str, Any]) -> RLDSShardWriter:
        """Return a writer; ``settings`` are those of ``WriteSettings`` (version, pictures).

        Raises:
            RecipeError: there is no such setting.
        """
        from openvla_toolkit.core.complaints import validated
        from openvla_toolkit.datasets.rlds.conversion import RLDSShardWriter, WriteSettings

        return RLDSShardWriter(plan, validated(WriteSettings, settings))

    def folder(self) -> Path | RemotePath:
        """Return the version folder that is read.

        Raises:
            MissingFile: it does not exist; names what does.
        """
        from openvla_toolkit.datasets.rlds.layout import locate

        return locate(self.root, dataset=self.dataset, version=self.version)

    def card(self) -> DatasetCard:
        """Return how the data set is read: these settings laid over its card; reads no episode."""
        from openvla_toolkit.datasets.rlds.features import load_features

        folder = self.folder()
        return self._complete(folder, load_features(folder / "features.json"))

    def episode_maker(self, features: Mapping[str, Any]) -> EpisodesByCard:
        """Return what makes episodes of the trajectories of another reader (plugin ``openvla-tfds``).

        The card lies in ``root`` itself; ``features`` is what ``features.json`` would hold.

        Raises:
            RecipeError: nothing says which feature is which camera.
            DataError: a feature is of an unsupported kind.
        """
        from openvla_toolkit.core.errors import DataError
        from openvla_toolkit.datasets.rlds.episodes import EpisodesByCard
        from openvla_toolkit.datasets.rlds.features import FeaturesDict, from_json

        tree = from_json(features)
        if not isinstance(tree, FeaturesDict):
            raise DataError("expected a FeaturesDict at the top.", key=self.dataset)
        return EpisodesByCard(self._complete(self.root, tree), tree, dataset=self.dataset)

    def _complete(self, folder: Path | RemotePath, features: FeaturesDict) -> DatasetCard:
        from openvla_toolkit.datasets.rlds.card import complete

        keys = ("cameras", "state", "instruction", "action", "transforms", "embodiment")
        given = {key: getattr(self, key) for key in keys}
        return complete(given, folder, dataset=self.dataset, features=features)

    def build(self) -> RLDSDataset:
        """Open the data set.

        Raises:
            MissingFile: the root does not exist or holds no such data set or version.
            RecipeError: the split does not exist, or nothing says which feature is which camera.
            DataError: ``dataset_info.json`` or ``features.json`` is damaged or of an unsupported kind.
        """
        from openvla_toolkit.datasets.rlds.reader import RLDSDataset

        return RLDSDataset(
            self.folder(), name=self.dataset, split=self.split, card=self.card(), verify=self.verify
        )


class DemonstrationsConfig(DatasetConfig):
    """Episodes of an environment's scripted expert, generated as an RLDS data set where it is missing."""

    name: Literal["demonstrations"] = "demonstrations"
    environment: AnyEnvironment
    """The world; it must offer ``expert_action()``."""
    root: LocalFolder
    """The folder that holds data sets."""
    dataset: str
    """The name of the data set that is made."""
    split: str = "train"
    """The part that is read (all episodes are written to ``train``): ``train[:95%]``, ..."""
    episodes: int = Field(gt=0)
    """How many to keep."""
    seed: int = Field(default=0, ge=0)
    """Episode number i starts from the seed ``seed + i``."""
    families: list[str] | None = Field(default=None, min_length=1)
    """Task families, taken in turn; null for all that the environment knows."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Share of steps whose movement is disturbed; the recorded action is the expert's own."""
    noise_scale: float = Field(default=0.5, ge=0)
    """Standard deviation of the disturbance, in units of the action's limits."""
    keep_failures: bool = False
    """Keep episodes in which the expert failed as well."""
    workers: int | None = Field(default=None, gt=0)
    """Processes that generate; null for one per core. The episodes do not depend on it."""

    def prepare(self, report: Callable[[int, int], None] | None = None) -> None:
        """Generate the data set unless it is there.

        Raises:
            RecipeError: a data set of this name was made with other settings, or the environment has no
                expert or not this family.
            DataError: the expert fails too often.
            StorageError: the disk is full or cannot be written.
        """
        from openvla_toolkit.datasets.demonstrations import prepare

        prepare(self, report=report)

    def build(self) -> RLDSDataset:
        """Open the generated data set."""
        return RLDSConfig(
            root=self.root, dataset=self.dataset, split=self.split, embodiment=self.embodiment
        ).build()
