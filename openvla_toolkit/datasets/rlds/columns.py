"""Between the flat lists of an Example and the nested arrays of an episode, as ``features.json`` says.

TFDS names a value by its path (``steps/observation/state``) and flattens everything below the time axis.
Legend of shapes: T steps, N values of one step.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Any, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.types import ADDRESS_FIELDS
from openvla_toolkit.datasets.rlds.example import BytesColumn, Column
from openvla_toolkit.datasets.rlds.features import (
    Dataset,
    Feature,
    FeaturesDict,
    Image,
    Scalar,
    Sequence,
    Tensor,
    Text,
)

__all__ = ["JPEG_QUALITY", "decode", "encode"]

JPEG_QUALITY = 95
ADDRESS = np.dtype(ADDRESS_FIELDS)
Columns: TypeAlias = "dict[str, Items[bytes] | NDArray[np.float32] | NDArray[np.int64]]"


def decode(
    feature: Feature,
    columns: Mapping[str, Column],
    *,
    file: int,
    base: int,
    key: str = "",
    repeated: bool = False,
) -> Any:
    """Return the nested values below a key.

    Numbers become arrays of their own type, text ``str``, strings of unknown content ``bytes``, images arrays
    of ``ADDRESS_FIELDS`` with ``file`` and the byte offset counted from ``base`` (where the Example begins in
    its file). Below a Dataset or Sequence every array has a leading axis T.

    Raises:
        DataError: a key is missing or does not hold what ``features.json`` promises; names the key.
    """
    if isinstance(feature, FeaturesDict):
        return {
            name: decode(
                inner, columns, file=file, base=base, key=f"{key}/{name}" if key else name, repeated=repeated
            )
            for name, inner in feature.features.items()
        }
    if isinstance(feature, (Sequence, Dataset)):
        return decode(feature.feature, columns, file=file, base=base, key=key, repeated=True)
    if key not in columns:
        raise DataError("the record does not hold this key that features.json promises.", key=key)
    try:
        values = _decode_leaf(feature, columns[key], file=file, base=base)
    except (ValueError, TypeError, OverflowError, zlib.error) as error:
        raise DataError(f"expected {_show(feature)}: {error}.", key=key) from None
    if repeated:
        return values
    if len(values) != 1:
        raise DataError(f"expected one {_show(feature)}, found {len(values)}.", key=key)
    return values[0]


def encode(feature: Feature, value: Any, *, key: str = "", repeated: bool = False) -> Columns:
    """Return the flat lists of a nested value: the inverse of ``decode``, but images are given as pixels
    (uint8 [height, width, 3], for JPEG features) or as encoded bytes.

    Raises:
        DataError: the value is not what the feature describes; names the key.
    """
    if isinstance(feature, FeaturesDict):
        if not isinstance(value, Mapping) or set(value) != set(feature.features):
            found = ", ".join(sorted(value)) if isinstance(value, Mapping) else type(value).__name__
            raise DataError(
                f"expected the keys {', '.join(sorted(feature.features))}, found {found}.", key=key or None
            )
        columns: Columns = {}
        for name, inner in feature.features.items():
            columns |= encode(inner, value[name], key=f"{key}/{name}" if key else name, repeated=repeated)
        return columns
    if isinstance(feature, (Sequence, Dataset)):
        return encode(feature.feature, value, key=key, repeated=True)
    try:
        return {key: _encode_leaf(feature, value if repeated else [value])}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"expected {_show(feature)}: {error}.", key=key) from None


def _decode_leaf(feature: Feature, column: Column, *, file: int, base: int) -> Any:
    """Return [T, ...] values of one leaf."""
    if isinstance(feature, Image):
        return _addresses(_as_bytes(column), file=file, base=base)
    if isinstance(feature, Text):
        texts = _as_bytes(column)
        return _objects([texts[position].decode("utf-8") for position in range(len(texts))])
    tensor = Tensor((), feature.dtype) if isinstance(feature, Scalar) else feature
    assert isinstance(tensor, Tensor)
    shape = [-1 if size is None else size for size in tensor.shape]
    if tensor.encoding != "none":
        return _decode_bytes(tensor, _as_bytes(column), shape)
    if tensor.dtype == "string":
        strings = _as_bytes(column)
        flat: NDArray[Any] = _objects([strings[position] for position in range(len(strings))])
    else:
        flat = _as_numbers(column, np.dtype(tensor.dtype))
    per_step = math.prod(size or 0 for size in tensor.shape)
    if per_step == 0 or len(flat) % per_step:
        raise ValueError(f"{len(flat)} values do not make whole steps of {per_step}")
    return flat.reshape(-1, *shape)


def _addresses(column: BytesColumn, *, file: int, base: int) -> NDArray[Any]:
    addresses = np.empty(len(column), dtype=ADDRESS)
    addresses["file"] = file
    addresses["length"] = column.lengths
    addresses["offset"] = column.offsets + base
    return addresses


def _decode_bytes(tensor: Tensor, column: BytesColumn, shape: list[int]) -> NDArray[Any]:
    """Read arrays that are stored as strings; all must have one shape."""
    unpack = zlib.decompress if tensor.encoding == "zlib" else bytes
    arrays = [
        np.frombuffer(unpack(column[position]), dtype=tensor.dtype).reshape(shape)
        for position in range(len(column))
    ]
    if not arrays:
        return np.empty((0, *(max(size, 0) for size in shape)), dtype=tensor.dtype)
    return np.stack(arrays)


def _as_bytes(column: Column) -> BytesColumn:
    if isinstance(column, BytesColumn):
        return column
    # An empty list has no type of its own in a protobuf.
    if len(column) == 0:
        return BytesColumn(memoryview(b""), np.empty(0, np.int64), np.empty(0, np.int64))
    raise TypeError(f"found a list of {column.dtype} numbers")


def _as_numbers(column: Column, dtype: np.dtype[Any]) -> NDArray[Any]:
    if isinstance(column, BytesColumn):
        if len(column):
            raise TypeError("found a list of bytes")
        return np.empty(0, dtype)
    if len(column) and np.issubdtype(dtype, np.floating) != np.issubdtype(column.dtype, np.floating):
        raise TypeError(f"found a list of {column.dtype} numbers")
    # int64 is all an Example has; unsigned 64-bit numbers are stored under the same bits.
    return column.view(np.uint64) if dtype == np.uint64 else column.astype(dtype)


def _encode_leaf(feature: Feature, values: Any) -> Items[bytes] | NDArray[np.float32] | NDArray[np.int64]:
    """Return the flat list of [T, ...] values of one leaf."""
    if isinstance(feature, Image):
        return [value if isinstance(value, bytes) else _encode_image(feature, value) for value in values]
    if isinstance(feature, Text):
        return [value.encode("utf-8") for value in values]
    shape = () if isinstance(feature, Scalar) else getattr(feature, "shape", ())
    dtype = getattr(feature, "dtype", "")
    if dtype == "string":
        return [bytes(value) for value in np.asarray(values, dtype=object).reshape(-1)]
    array = np.asarray(values, dtype=dtype)
    if len(values) and not _fits(array.shape[1:], shape):
        raise ValueError(f"found an array of the shape {array.shape[1:]}")
    if isinstance(feature, Tensor) and feature.encoding != "none":
        pack = zlib.compress if feature.encoding == "zlib" else bytes
        return [pack(item.tobytes()) for item in array]
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32).reshape(-1)
    return (array.view(np.int64) if array.dtype == np.uint64 else array.astype(np.int64)).reshape(-1)


def _encode_image(feature: Image, pixels: Any) -> bytes:
    if feature.encoding != "jpeg":
        raise ValueError(
            f"pixels are encoded as JPEG only; give {feature.encoding or 'these'} pictures as bytes"
        )
    array = np.ascontiguousarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"found pixels of the type {array.dtype} and shape {array.shape}")
    if not _fits(array.shape, feature.shape):
        raise ValueError(f"found a picture of the shape {array.shape}")
    # Colour at full resolution: at the small sizes that policies see, halving it blurs the very objects.
    encoded: bytes = simplejpeg.encode_jpeg(
        array, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444"
    )
    return encoded


def _fits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(found) == len(shape) and all(
        size in (None, length) for size, length in zip(shape, found, strict=True)
    )


def _objects(items: list[Any]) -> NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _show(feature: Feature) -> str:
    if isinstance(feature, Scalar):
        return f"{feature.dtype} number"
    if isinstance(feature, (Tensor, Image)):
        sizes = ", ".join("?" if size is None else str(size) for size in feature.shape)
        return f"{type(feature).__name__.lower()} of {feature.dtype} [{sizes}]"
    return type(feature).__name__.lower()
