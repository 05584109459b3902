"""Write ``meta/`` of a data set whose shards are all there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openvla_toolkit.datasets.lerobot.schema import COUNTERS, features_json, fps_of, picture_key, vectors
from openvla_toolkit.datasets.lerobot.statistics import PixelCounts, column_statistics
from openvla_toolkit.datasets.lerobot.tables import as_array
from openvla_toolkit.interfaces.dataset import WritePlan
from openvla_toolkit.interfaces.transform import KEEP

__all__ = ["CHUNK", "TEMPLATES", "finish"]

CHUNK = 1000
TEMPLATES = {
    "v3.0": {
        "data": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    },
    "v2.1": {
        "data": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    },
}


def finish(
    folder: Path, plan: WritePlan, settings: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]
) -> None:
    """Write info, tasks, episodes and statistics; the statistics of numbers are exact over the whole set."""
    meta = folder / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    rows = [row for report in reports for row in report["episodes"]]
    if settings["version"] == "v3.0":
        _write_tasks_table(meta / "tasks.parquet", plan.instructions)
        _write_episodes_table(meta / "episodes" / "chunk-000" / "file-000.parquet", rows)
        _write_json(meta / "stats.json", _whole_statistics(folder, plan, reports))
    else:
        tasks = ({"task_index": number, "task": text} for number, text in enumerate(plan.instructions))
        _write_lines(meta / "tasks.jsonl", tasks)
        _write_lines(meta / "episodes.jsonl", _picked(rows, "episode_index", "tasks", "length"))
        _write_lines(meta / "episodes_stats.jsonl", _picked(rows, "episode_index", "stats"))
    _write_json(meta / "info.json", _info(plan, settings))


def _info(plan: WritePlan, settings: Mapping[str, Any]) -> dict[str, Any]:
    version, video = settings["version"], settings["pictures"] == "video"
    episodes = len(plan.lengths)
    splits = {name: f"{first}:{stop}" for name, (first, stop) in plan.splits.items()}
    old = {
        "total_videos": episodes * len(plan.cameras) if video else 0,
        "total_chunks": -(-episodes // CHUNK),
    }
    sizes = {"data_files_size_in_mb": 100, "video_files_size_in_mb": 200}
    return {
        "codebase_version": version,
        "robot_type": None,
        "total_episodes": episodes,
        "total_frames": int(sum(plan.lengths)),
        "total_tasks": len(plan.instructions),
        **(sizes if version == "v3.0" else old),
        "chunks_size": CHUNK,
        "fps": fps_of(plan),
        "splits": splits,
        "data_path": TEMPLATES[version]["data"],
        "video_path": TEMPLATES[version]["video"] if video else None,
        "features": features_json(
            plan, pictures=settings["pictures"], codec=settings["codec"], with_fps=version == "v3.0"
        ),
    }


def _picked(rows: Sequence[Mapping[str, Any]], *keys: str) -> Iterator[Mapping[str, Any]]:
    return ({key: row[key] for key in keys} for row in rows)


def _write_tasks_table(path: Path, tasks: Sequence[str]) -> None:
    """Write the table that pandas opens with the tasks as its index."""
    table = pa.table(
        {"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())}
    )
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _write_episodes_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    flat = []
    for row in rows:
        told = {
            f"stats/{key}/{name}": value
            for key, statistics in row["stats"].items()
            for name, value in statistics.items()
        }
        here = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        flat.append({key: value for key, value in row.items() if key != "stats"} | told | here)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(flat), path, compression="snappy")


def _whole_statistics(folder: Path, plan: WritePlan, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the statistics over all frames; the numbers are read back from the tables."""
    keys = [*vectors(plan), *([KEEP] if plan.keeps else []), *COUNTERS]
    files = sorted((folder / "data").glob("chunk-*/file-*.parquet"))
    found: dict[str, Any] = {}
    for key in keys:
        parts = [as_array(pq.read_table(path, columns=[key], use_threads=False).column(0)) for path in files]
        found[key] = column_statistics(np.concatenate(parts))
    for camera in plan.cameras:
        counts = PixelCounts()
        for report in reports:
            counts.merge(PixelCounts.from_json(report["pixels"][camera]))
        found[picture_key(camera)] = counts.statistics()
    return found


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4), encoding="utf-8")


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
