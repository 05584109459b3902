"""Write RLDS data sets exactly as TFDS lays them out, so that ``tfds.builder_from_directory`` opens them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from errno import EDQUOT, EEXIST, ENOSPC, ENOTEMPTY
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from openvla_toolkit.core.errors import DataError, RecipeError, StorageError
from openvla_toolkit.core.locks import locked
from openvla_toolkit.datasets.rlds.card import CARD, DatasetCard, save_card
from openvla_toolkit.datasets.rlds.columns import encode
from openvla_toolkit.datasets.rlds.example import serialize_example
from openvla_toolkit.datasets.rlds.features import FeaturesDict, to_json
from openvla_toolkit.datasets.rlds.layout import INFO, shard_name
from openvla_toolkit.datasets.rlds.tfrecord import write_record

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RLDSWriter", "serialize_episode", "split_info", "sweep_unfinished", "write_description"]

SHARD_BYTES = 128 * 1024 * 1024


def serialize_episode(features: FeaturesDict, episode: Mapping[str, Any]) -> bytes:
    """Return one episode as the bytes of a ``tf.train.Example``; can be done in any process.

    ``episode`` is nested as ``features`` is: below ``steps`` every value has a leading time axis, images are
    uint8 [height, width, 3] pixels (JPEG features) or encoded bytes.

    Raises:
        DataError: a value is not what ``features`` describes; names the key.
    """
    return serialize_example(encode(features, episode))


def split_info(name: str, *, lengths: Sequence[int], total_bytes: int) -> dict[str, Any]:
    """Return one split of ``dataset_info.json``; ``lengths`` are the episodes of its shards."""
    return {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": name,
        "numBytes": str(total_bytes),
        "shardLengths": [str(length) for length in lengths],
    }


def write_description(
    folder: Path,
    *,
    dataset: str,
    version: str,
    description: str,
    features: FeaturesDict,
    card: DatasetCard | None,
    splits: Sequence[Mapping[str, Any]],
) -> None:
    """Write what stands beside the shards; ``dataset_info.json`` last, because readers look for it first."""
    _write_json(folder / "features.json", to_json(features))
    if card is not None:
        save_card(card, folder / CARD)
    info = {
        "description": description,
        "fileFormat": "tfrecord",
        "name": dataset,
        "splits": list(splits),
        "version": version,
    }
    _write_json(folder / INFO, info)


class RLDSWriter:
    """Writes one version of a data set; use it as a context manager.

    Everything goes to a folder beside the final one, which is renamed whole when the block ends without an
    error and removed otherwise: a half-written set is never taken for whole.

    Raises:
        RecipeError: the version exists already.
        StorageError: the disk is full or cannot be written.
    """

    def __init__(
        self,
        root: Path,
        *,
        dataset: str,
        features: FeaturesDict,
        version: str = "1.0.0",
        description: str = "",
        card: DatasetCard | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder = root / dataset / version
        self._dataset, self._version, self._description = dataset, version, description
        self._features, self._card, self._shard_bytes = features, card, shard_bytes
        self._splits: dict[str, _Split] = {}
        if self.folder.exists():
            raise RecipeError(
                f"{self.folder} exists already. Delete it, or choose another name or version.", path="dataset"
            )
        with _storage(self.folder):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished = Path(tempfile.mkdtemp(prefix=_prefix(version), dir=self.folder.parent))
        self._held = ExitStack()  # tells others that the folder is no dead process's
        self._held.enter_context(locked(self._unfinished))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            for split in self._splits.values():
                split.abandon()
            shutil.rmtree(self._unfinished, ignore_errors=True)
            self._held.close()

    def write(self, episode: Mapping[str, Any], *, split: str = "train") -> None:
        """Append an episode (see ``serialize_episode``)."""
        self.write_serialized(serialize_episode(self._features, episode), split=split)

    def write_serialized(self, data: bytes, *, split: str = "train") -> None:
        """Append an episode that is serialized already."""
        with _storage(self.folder):
            if split not in self._splits:
                self._splits[split] = _Split(self._unfinished, f"{self._dataset}-{split}", self._shard_bytes)
            self._splits[split].write(data)

    def _finish(self) -> None:
        if not self._splits:
            raise DataError("no episode was written; a data set needs at least one.", file=self.folder)
        with _storage(self.folder):
            splits = []
            for name, split in self._splits.items():
                split.finish(lambda number, count, name=name: shard_name(self._dataset, name, number, count))
                splits.append(split_info(name, lengths=split.lengths, total_bytes=split.total_bytes))
            write_description(
                self._unfinished,
                dataset=self._dataset,
                version=self._version,
                description=self._description,
                features=self._features,
                card=self._card,
                splits=splits,
            )
            # mkdtemp gives the folder to its owner alone; a data set is shared like any other folder.
            self._unfinished.chmod(0o777 & ~_umask())
            self._unfinished.rename(self.folder)


class _Split:
    """The growing shards of one split."""

    def __init__(self, folder: Path, stem: str, shard_bytes: int) -> None:
        self._folder, self._stem, self._shard_bytes = folder, stem, shard_bytes
        self._stream: BinaryIO | None = None
        self._written = 0
        self.lengths: list[int] = []
        self.total_bytes = 0

    def write(self, data: bytes) -> None:
        if self._stream is None or self._written >= self._shard_bytes:
            self._close()
            self._stream = self._path(len(self.lengths)).open("wb")
            self.lengths.append(0)
            self._written = 0
        write_record(self._stream, data)
        self.lengths[-1] += 1
        self._written += len(data)
        self.total_bytes += len(data)

    def finish(self, name: Any) -> None:
        """Close the last shard and give all their final names, which hold the number of shards."""
        self._close()
        for number in range(len(self.lengths)):
            self._path(number).rename(self._folder / name(number, len(self.lengths)))

    def abandon(self) -> None:
        """Close what is open without caring for what is lost."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            try:
                stream.close()
            except OSError:
                return  # the error that led here is already on its way

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._stream = None

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._stem}-{number:05d}"


@contextmanager
def _storage(folder: Path) -> Iterator[None]:
    """Turn the system's errors into one that names the data set and what became of it."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the data set {folder} cannot be written: {error.strerror or error}. "
            f"{_remedy(error)}; nothing half-written is left behind."
        ) from error


def _remedy(error: OSError) -> str:
    if error.errno in (ENOSPC, EDQUOT):
        return "Free some space or choose another root"
    if error.errno in (EEXIST, ENOTEMPTY):
        return "Another process made it meanwhile: use what it made, or choose another name"
    return "Choose another root"


def sweep_unfinished(folder: Path, version: str) -> None:
    """Remove what processes that were killed while they wrote a version left in the data set's folder."""
    for leftover in folder.glob(f"{_prefix(version)}*"):
        with locked(leftover) as held:
            if held:
                shutil.rmtree(leftover)


def _prefix(version: str) -> str:
    return f".{version}.incomplete-"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())


def _umask() -> int:
    """Return the process's file creation mask (reading it means setting it)."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
