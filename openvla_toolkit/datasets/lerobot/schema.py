"""Columns of the tables that are written, as LeRobot (through Hugging Face datasets) expects them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openvla_toolkit.core.contract import Dimension
from openvla_toolkit.interfaces.dataset import WritePlan
from openvla_toolkit.interfaces.transform import KEEP

__all__ = ["COUNTERS", "data_schema", "features_json", "fps_of", "picture_key", "vectors", "write_episodes"]

COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PARTS = ("bytes", "path")


def picture_key(camera: str) -> str:
    """Return the feature of a camera."""
    return f"observation.images.{camera}"


def fps_of(plan: WritePlan) -> int | float:
    """Return the frame rate as LeRobot writes it: whole where it is."""
    rate = plan.robot.control_hz
    return int(rate) if rate == int(rate) else rate


def vectors(plan: WritePlan) -> dict[str, tuple[Dimension, ...]]:
    """Return the vectors of the robot by column."""
    found = {"observation.state": plan.robot.state, "action": plan.robot.action}
    return {key: dimensions for key, dimensions in found.items() if dimensions}


def data_schema(plan: WritePlan, *, image: bool) -> Any:
    """Return the Arrow schema of the data tables, with what Hugging Face datasets reads from its metadata."""
    fields, known = [], {}
    for key, dimensions in vectors(plan).items():
        one = len(dimensions) == 1  # a single number is a plain column, not a list of one
        fields.append(pa.field(key, pa.float32() if one else pa.list_(pa.float32(), len(dimensions))))
        value = {"dtype": "float32", "_type": "Value"}
        known[key] = value if one else {"feature": value, "length": len(dimensions), "_type": "Sequence"}
    for camera in plan.cameras if image else ():
        fields.append(pa.field(picture_key(camera), PICTURE))
        known[picture_key(camera)] = {"_type": "Image"}
    if plan.keeps:
        fields.append(pa.field(KEEP, pa.bool_()))
        known[KEEP] = {"dtype": "bool", "_type": "Value"}
    for key, dtype in COUNTERS.items():
        fields.append(pa.field(key, pa.type_for_alias(dtype)))
        known[key] = {"dtype": dtype, "_type": "Value"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": known}})})


def write_episodes(path: Path, schema: Any, episodes: Iterator[Mapping[str, Any]]) -> None:
    """Write one row group per episode; pictures, which do not compress, lie plainly in it (see ``pages``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = {f"{field.name}.{part}" for field in schema if field.type == PICTURE for part in PARTS}
    others = [_leaf(field) for field in schema if field.type != PICTURE]
    compression = {**dict.fromkeys(others, "snappy"), **dict.fromkeys(pictures, "none")}
    with pq.ParquetWriter(path, schema, compression=compression, use_dictionary=others) as writer:
        for columns in episodes:
            arrays = [_arrow(columns[field.name], field.type) for field in schema]
            table = pa.Table.from_arrays(arrays, schema=schema)
            writer.write_table(table, row_group_size=max(len(table), 1))


def features_json(plan: WritePlan, *, pictures: str, codec: str, with_fps: bool) -> dict[str, Any]:
    """Return ``features`` of ``info.json``."""
    fps = fps_of(plan)
    rate = {"fps": fps} if with_fps else {}
    features: dict[str, Any] = {
        key: {
            "dtype": "float32",
            "shape": [len(dimensions)],
            "names": [dimension.name for dimension in dimensions],
            **rate,
        }
        for key, dimensions in vectors(plan).items()
    }
    for camera in plan.cameras:
        size = plan.robot.cameras[camera]
        feature: dict[str, Any] = {
            "dtype": pictures,
            "shape": [size.height, size.width, 3],
            "names": ["height", "width", "channels"],
        }
        if pictures == "video":
            feature["info"] = {
                "video.height": size.height,
                "video.width": size.width,
                "video.codec": {"libsvtav1": "av1", "libx264": "h264"}[codec],
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": fps,
                "video.channels": 3,
                "has_audio": False,
            }
        features[picture_key(camera)] = feature | ({} if pictures == "video" else rate)
    if plan.keeps:
        features[KEEP] = {"dtype": "bool", "shape": [1], "names": None, **rate}
    for key, dtype in COUNTERS.items():
        features[key] = {"dtype": dtype, "shape": [1], "names": None, **rate}
    return features


def _leaf(field: Any) -> str:
    """Return what Parquet calls the column that holds a field's values."""
    return f"{field.name}.list.element" if pa.types.is_nested(field.type) else str(field.name)


def _arrow(values: Any, kind: Any) -> Any:
    if kind == PICTURE:
        return pa.array([{"bytes": data, "path": None} for data in values], type=kind)
    array = np.ascontiguousarray(values)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1), kind.value_type), kind.list_size)
    return pa.array(array.reshape(-1), kind)
