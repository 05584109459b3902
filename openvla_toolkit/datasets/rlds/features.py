"""``features.json`` as a small typed tree, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.core.locations import RemotePath

__all__ = [
    "Dataset",
    "Feature",
    "FeaturesDict",
    "Image",
    "Scalar",
    "Sequence",
    "Tensor",
    "Text",
    "from_json",
    "leaves",
    "load_features",
    "to_json",
]

Shape: TypeAlias = "tuple[int | None, ...]"
Encoding: TypeAlias = Literal["none", "bytes", "zlib"]

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = frozenset({"bool", "string", *FLOATS, *INTEGERS})
PREFIX = "tensorflow_datasets.core.features."


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of one type; floats are stored as float32, integers and bools as int64, strings as bytes."""

    shape: Shape
    dtype: str
    encoding: Encoding = "none"
    """``bytes`` and ``zlib`` store the array's own bytes as one string, the latter compressed."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number."""

    dtype: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture stored as a JPEG or PNG file."""

    shape: Shape
    """[height, width, channels]; None where it differs from picture to picture."""
    encoding: str = "jpeg"
    """``jpeg``, ``png``, or empty when the set does not say."""
    dtype: str = "uint8"


@dataclass(frozen=True, slots=True)
class Text:
    """One UTF-8 string."""


@dataclass(frozen=True, slots=True)
class FeaturesDict:
    """Named features."""

    features: Mapping[str, Feature]


@dataclass(frozen=True, slots=True)
class Sequence:
    """A feature repeated along a new leading axis."""

    feature: Feature
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A feature repeated along time: the steps of an episode."""

    feature: Feature
    length: int | None = None


Feature: TypeAlias = "FeaturesDict | Sequence | Dataset | Tensor | Scalar | Image | Text"


def load_features(path: Path | RemotePath) -> FeaturesDict:
    """Read ``features.json``.

    Raises:
        MissingFile: the file does not exist.
        DataError: it is not JSON, or holds a kind of feature that is not supported; names the key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFile(
            f"{path} does not exist: the data set is incomplete; copy or download it again."
        ) from None
    except ValueError as error:
        raise DataError(f"it is not JSON: {error}.", file=path) from None
    try:
        root = from_json(content)
    except DataError as error:
        raise DataError(error.reason, file=path, key=error.key) from None
    if not isinstance(root, FeaturesDict):
        raise DataError("expected a FeaturesDict at the top.", file=path)
    return root


def leaves(feature: Feature, *, key: str = "") -> Iterator[tuple[str, Feature]]:
    """Yield the path and the feature of everything that holds values, as ``steps/observation/image``."""
    if isinstance(feature, FeaturesDict):
        for name, inner in feature.features.items():
            yield from leaves(inner, key=f"{key}/{name}" if key else name)
    elif isinstance(feature, (Sequence, Dataset)):
        yield from leaves(feature.feature, key=key)
    else:
        yield key, feature


def from_json(content: Any, *, key: str = "", nested: bool = False) -> Feature:
    """Make the tree from the parsed JSON (the proto ``Feature`` of TFDS, printed as JSON).

    Raises:
        DataError: names the key and the kind that is not supported.
    """
    if not isinstance(content, dict) or "pythonClassName" not in content:
        raise DataError(
            "expected a mapping with 'pythonClassName'; the file was written by a TFDS older than 4.3: "
            "open and save the set once with a newer one.",
            key=key or None,
        )
    kind = str(content["pythonClassName"]).rpartition(".")[2]
    try:
        if kind == "FeaturesDict":
            members = content["featuresDict"]["features"]
            return FeaturesDict(
                {name: from_json(item, key=f"{key}/{name}" if key else name, nested=nested)
                 for name, item in members.items()}
            )  # fmt: skip
        if kind in ("Sequence", "Dataset"):
            return _repeated(content["sequence"], kind, key=key, nested=nested)
        if kind in LEAVES:
            return LEAVES[kind](content)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the description of this {kind} is not as expected: {error}.", key=key or None
        ) from None
    raise DataError(
        f"features of the kind {kind} are not supported. "
        f"Supported: {', '.join(['FeaturesDict', 'Dataset', 'Sequence', *LEAVES])}.",
        key=key or None,
    )


def to_json(feature: Feature) -> dict[str, Any]:
    """Return what ``tfds.features.FeatureConnector`` reads back."""
    if isinstance(feature, FeaturesDict):
        members = {name: to_json(inner) for name, inner in feature.features.items()}
        return _named("features_dict.FeaturesDict", featuresDict={"features": members})
    if isinstance(feature, (Sequence, Dataset)):
        length = "-1" if feature.length is None else str(feature.length)
        name = "dataset_feature.Dataset" if isinstance(feature, Dataset) else "sequence_feature.Sequence"
        return _named(name, sequence={"feature": to_json(feature.feature), "length": length})
    if isinstance(feature, Image):
        image = {
            "shape": _shape_to_json(feature.shape),
            "dtype": feature.dtype,
            "encodingFormat": feature.encoding,
        }
        return _named("image_feature.Image", image=image)
    if isinstance(feature, Text):
        return _named("text_feature.Text", text={})
    if isinstance(feature, Scalar):
        return _named("scalar.Scalar", tensor={"shape": {}, "dtype": feature.dtype, "encoding": "none"})
    tensor = {"shape": _shape_to_json(feature.shape), "dtype": feature.dtype, "encoding": feature.encoding}
    return _named("tensor_feature.Tensor", tensor=tensor)


def _repeated(content: dict[str, Any], kind: str, *, key: str, nested: bool) -> Feature:
    if nested:
        raise DataError("a sequence inside a sequence (a ragged tensor) is not supported.", key=key)
    length = int(content.get("length", -1))
    inner = from_json(content["feature"], key=key, nested=True)
    return (Dataset if kind == "Dataset" else Sequence)(inner, None if length < 0 else length)


def _tensor(content: dict[str, Any]) -> Tensor:
    tensor = content["tensor"]
    shape, encoding = _shape_from_json(tensor["shape"]), tensor.get("encoding") or "none"
    if encoding not in ("none", "bytes", "zlib"):
        raise ValueError(f"the encoding '{encoding}' is not one of none, bytes, zlib")
    if shape.count(None) > (encoding != "none"):
        raise ValueError("it has an unknown dimension (a ragged tensor)")
    return Tensor(shape, _dtype(tensor), cast("Encoding", encoding))


def _scalar(content: dict[str, Any]) -> Scalar:
    return Scalar(_dtype(content["tensor"]))


def _image(content: dict[str, Any]) -> Image:
    image = content["image"]
    return Image(
        _shape_from_json(image["shape"]), image.get("encodingFormat", ""), image.get("dtype", "uint8")
    )


def _text(_: dict[str, Any]) -> Text:
    return Text()


LEAVES: Mapping[str, Callable[[dict[str, Any]], Feature]] = {
    "Tensor": _tensor,
    "Scalar": _scalar,
    "Image": _image,
    "Text": _text,
}


def _dtype(tensor: dict[str, Any]) -> str:
    dtype = str(tensor["dtype"])
    if dtype not in DTYPES:
        raise ValueError(f"the type '{dtype}' is not one of {', '.join(sorted(DTYPES))}")
    return dtype


def _shape_from_json(shape: dict[str, Any]) -> Shape:
    sizes = [int(size) for size in shape.get("dimensions", [])]
    return tuple(None if size < 0 else size for size in sizes)


def _shape_to_json(shape: Shape) -> dict[str, Any]:
    return {"dimensions": ["-1" if size is None else str(size) for size in shape]} if shape else {}


def _named(kind: str, **content: Any) -> dict[str, Any]:
    return {"pythonClassName": PREFIX + kind, **content}
