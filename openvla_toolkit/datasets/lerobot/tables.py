"""Rows of Parquet files: the one place that knows pyarrow.

Legend of shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, MissingDependency, MissingFile

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise MissingDependency("dataset 'lerobot'", "pyarrow", install="openvla-toolkit[lerobot]") from error

__all__ = ["Groups", "as_array", "groups", "read_columns", "read_group"]

OPEN_GROUPS = 8
"""Row groups kept in memory per process; the LeRobot writers make one per episode."""


class Groups:
    """Where the rows of one file stand: row groups, and which episodes each may hold.

    ``names`` are the columns of numbers and texts; pictures and other records are not among them.
    """

    def __init__(self, path: Path) -> None:
        with _reading(path), pq.ParquetFile(path) as file:
            self.names: Sequence[str] = [
                field.name for field in file.schema_arrow if "struct" not in str(field.type)
            ]
            metadata = file.metadata
            sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
            self.starts: Sequence[int] = [0, *np.cumsum(sizes, dtype=int).tolist()]
            self._episodes = [_range(metadata.row_group(number)) for number in range(len(sizes))]

    def holding(self, episode: int) -> list[int]:
        """Return the row groups that may hold rows of an episode."""
        return [number for number, (low, high) in enumerate(self._episodes) if low <= episode <= high]


@lru_cache(maxsize=256)
def groups(path: Path) -> Groups:
    """Return the row groups of a file; reads its footer once per process."""
    return Groups(path)


@lru_cache(maxsize=OPEN_GROUPS)
def read_group(path: Path, number: int, columns: tuple[str, ...]) -> Any:
    """Return columns of one row group as a table.

    Raises:
        DataError: the file is damaged.
    """
    with _reading(path), pq.ParquetFile(path) as file:
        # One thread: loaders run one process per core.
        return file.read_row_group(number, columns=list(columns), use_threads=False)


def read_columns(path: Path, *, without: str = "") -> list[Mapping[str, Any]]:
    """Return all rows of a small file as mappings; columns that begin with ``without`` are left out.

    Raises:
        MissingFile: the file does not exist.
        DataError: it is damaged.
    """
    with _reading(path), pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if not without or not name.startswith(without)]
        rows: list[Mapping[str, Any]] = file.read(columns=names, use_threads=False).to_pylist()
        return rows


def as_array(column: Any) -> NDArray[Any]:
    """Return a column as an array [N, ...]: numbers, lists of numbers of one length, or objects.

    Raises:
        ValueError: lists differ in length, or a value is missing.
    """
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    if values.null_count:
        raise ValueError(f"{values.null_count} of {len(values)} values are missing")
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = as_array(values.flatten())
        if len(values) and len(inner) % len(values):
            raise ValueError("the lists differ in length")
        width = len(inner) // max(len(values), 1)
        if not pa.types.is_fixed_size_list(kind) and len(values):
            lengths = np.asarray(values.value_lengths())
            if (lengths != width).any():
                raise ValueError("the lists differ in length")
        return inner.reshape(len(values), width, *inner.shape[1:])
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow and the system say into errors that name the file."""
    try:
        yield
    except FileNotFoundError:
        raise MissingFile(
            f"{path} does not exist: the data set is incomplete; copy or download it again."
        ) from None
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"it is not a whole Parquet file: {what}; copy, download or finalise it again.", file=path
        ) from error


def _range(group: Any) -> tuple[float, float]:
    """Return the lowest and highest episode that the statistics of a row group tell, else any."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == "episode_index":
            told = column.statistics
            if told is not None and told.has_min_max:
                return told.min, told.max
    return -np.inf, np.inf
