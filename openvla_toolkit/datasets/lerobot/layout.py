"""What ``meta/`` says of a LeRobot data set, for versions 2.0, 2.1 and 3.0: one shape for all three."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.datasets.lerobot.tables import read_columns

__all__ = ["INFO", "EpisodeEntry", "Feature", "Layout", "VideoPart", "load_layout"]

INFO = Path("meta", "info.json")
VERSIONS = ("v2.0", "v2.1", "v3.0")
PICTURES = ("image", "video")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Feature:
    """One column or video."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    """One per number; empty where the set names none."""
    is_depth: bool = False
    """A depth map in the guise of a video."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of a picture, whichever axis comes first."""
        if self.dtype not in PICTURES or len(self.shape) != 3:
            return None
        first = self.names[0] if self.names else ""
        channels_first = first.startswith("channel") or (not first and self.shape[0] in (1, 3))
        return (self.shape[1], self.shape[2]) if channels_first else (self.shape[0], self.shape[1])


@dataclass(frozen=True, slots=True)
class VideoPart:
    """Where the frames of an episode lie: ``first`` counts in the file."""

    file: str
    first: int


@dataclass(frozen=True, slots=True)
class EpisodeEntry:
    """One episode; paths are relative to the data set's folder."""

    index: int
    length: int
    data: str
    videos: Mapping[str, VideoPart]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A whole data set's meta data."""

    folder: Path
    version: str
    fps: float
    features: Mapping[str, Feature]
    episodes: Sequence[EpisodeEntry]
    tasks: Mapping[int, str]
    splits: Mapping[str, range]
    """Split -> positions in ``episodes``."""
    modality: Mapping[str, Any]
    """GR00T's ``meta/modality.json``, or nothing."""

    @property
    def cameras(self) -> list[str]:
        """Keys of all colour pictures."""
        return [key for key in self.pictures if not self.features[key].is_depth]

    @property
    def pictures(self) -> list[str]:
        """Keys of all pictures, depth maps included."""
        return [key for key, feature in self.features.items() if feature.dtype in PICTURES]


def load_layout(folder: Path) -> Layout:
    """Read the meta data of a data set.

    Raises:
        MissingFile: a file of ``meta/`` does not exist.
        DataError: one is damaged, or of a version that is not supported; names the file and the key.
    """
    path = folder / INFO
    info = _json(path)
    try:
        version = str(info["codebase_version"])
        if version not in VERSIONS:
            raise DataError(
                f"its version is {version}; supported: {', '.join(VERSIONS)}. "
                "Convert it with lerobot's own scripts.",
                file=path,
                key="codebase_version",
            )
        features = {key: _feature(content) for key, content in info["features"].items()}
        videos = [key for key, feature in features.items() if feature.dtype == "video"]
        entries = _episodes_v3 if version == "v3.0" else _episodes_v2
        episodes = sorted(entries(folder, info, videos), key=lambda episode: episode.index)
        return Layout(
            folder=folder,
            version=version,
            fps=float(info["fps"]),
            features=features,
            episodes=episodes,
            tasks=_tasks_v3(folder) if version == "v3.0" else _tasks_v2(folder),
            splits=_splits(info.get("splits") or {}, len(episodes), path),
            modality=_json(folder / "meta" / "modality.json", missing={}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"there is no key {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"the meta data are not as LeRobot {VERSIONS} write them: {reason}.", file=path
        ) from error


def _feature(content: Mapping[str, Any]) -> Feature:
    names = content.get("names")
    if isinstance(names, Mapping):  # older sets group them: {"motors": [...]}
        inner = list(names.values())
        names = inner[0] if len(inner) == 1 and isinstance(inner[0], list) else list(names)
    about = content.get("info") or content.get("video_info") or {}
    return Feature(
        str(content["dtype"]),
        tuple(int(size) for size in content["shape"]),
        tuple(str(name) for name in names or ()),
        bool(about.get("is_depth_map") or about.get("video.is_depth_map")),
    )


def _episodes_v3(folder: Path, info: Mapping[str, Any], videos: Sequence[str]) -> Iterator[EpisodeEntry]:
    files = sorted((folder / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
    if not files:
        raise MissingFile(
            f"{folder / 'meta' / 'episodes'} holds no list of episodes; download the set again."
        )
    fps = float(info["fps"])
    for path in files:
        for row in read_columns(path, without="stats/"):
            parts = {
                key: VideoPart(
                    str(info["video_path"]).format(
                        video_key=key,
                        chunk_index=row[f"videos/{key}/chunk_index"],
                        file_index=row[f"videos/{key}/file_index"],
                    ),
                    round(row[f"videos/{key}/from_timestamp"] * fps),
                )
                for key in videos
            }
            data = str(info["data_path"]).format(
                chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
            )
            yield EpisodeEntry(int(row["episode_index"]), int(row["length"]), data, parts)


def _episodes_v2(folder: Path, info: Mapping[str, Any], videos: Sequence[str]) -> Iterator[EpisodeEntry]:
    for row in _json_lines(folder / "meta" / "episodes.jsonl"):
        index = int(row["episode_index"])
        place = {"episode_chunk": index // int(info["chunks_size"]), "episode_index": index}
        parts = {key: VideoPart(str(info["video_path"]).format(video_key=key, **place), 0) for key in videos}
        yield EpisodeEntry(index, int(row["length"]), str(info["data_path"]).format(**place), parts)


def _tasks_v2(folder: Path) -> dict[int, str]:
    return {int(row["task_index"]): str(row["task"]) for row in _json_lines(folder / "meta" / "tasks.jsonl")}


def _tasks_v3(folder: Path) -> dict[int, str]:
    """Read a pandas table whose index is the task; its name depends on who wrote it."""
    tasks = {}
    for row in read_columns(folder / "meta" / "tasks.parquet"):
        (text,) = (str(value) for key, value in row.items() if key in ("task", "__index_level_0__"))
        tasks[int(row["task_index"])] = text
    return tasks


def _splits(content: Mapping[str, str], total: int, path: Path) -> dict[str, range]:
    splits = {}
    for name, bounds in content.items():
        start, _, stop = bounds.partition(":")
        splits[name] = range(int(start or 0), min(int(stop or total), total))
    if splits and (left := total - len({episode for part in splits.values() for episode in part})):
        _log.warning("%s: %d of %d episodes are in none of its splits and are not read.", path, left, total)
    return splits or {"train": range(total)}


def _json(path: Path, *, missing: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if missing is not None:
            return missing
        raise MissingFile(f"{path} does not exist: the data set is incomplete or lies elsewhere.") from None
    except ValueError as error:
        raise DataError(f"it is not JSON: {error}.", file=path) from None
    if not isinstance(content, dict):
        raise DataError("expected a mapping.", file=path)
    return content


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise MissingFile(f"{path} does not exist: the data set is incomplete; download it again.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} is not JSON: {error}.", file=path) from None
