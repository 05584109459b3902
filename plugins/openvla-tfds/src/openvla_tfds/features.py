"""Between TFDS's features and the toolkit's trajectories.

Legend of shapes: T steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from openvla_tfds.builder import tfds

__all__ = ["described", "image_keys", "repeated", "values"]

KNOWN = ("Image", "Scalar", "Tensor", "Text")
"""Kinds of features that the toolkit knows by name; others are described by shape and type."""


def described(features: Any) -> Mapping[str, Any]:
    """Return what ``features.json`` would hold of these features."""
    content: Mapping[str, Any] = json_format.MessageToDict(_plain(features).to_proto())
    return content


def image_keys(features: Any, prefix: str = "") -> Iterator[str]:
    """Yield the paths of the images of one step, as ``observation/image``."""
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from image_keys(feature, f"{prefix}{name}/")
        elif isinstance(feature, tfds.features.Image):
            yield f"{prefix}{name}"


def values(feature: Any, value: Any) -> Any:
    """Return what TFDS read of a feature as the toolkit's own reader gives it: texts are ``str``."""
    if isinstance(feature, tfds.features.FeaturesDict):
        return {name: values(inner, value[name]) for name, inner in feature.items()}
    if isinstance(feature, tfds.features.Text):
        if isinstance(value, bytes):
            return value.decode("utf-8")
        return _objects([text.decode("utf-8") for text in value])
    return value


def repeated(tree: Any, length: int) -> Any:
    """Give every value of an episode a leading time axis."""
    if isinstance(tree, Mapping):
        return {name: repeated(inner, length) for name, inner in tree.items()}
    if isinstance(tree, (str, bytes)):
        return _objects([tree] * length)
    return np.repeat(np.asarray(tree)[None], length, axis=0)


def _plain(feature: Any) -> Any:
    """Return the feature with what the toolkit does not know by name as plain tensors."""
    if isinstance(feature, tfds.features.FeaturesDict):
        return tfds.features.FeaturesDict({name: _plain(inner) for name, inner in feature.items()})
    if isinstance(feature, tfds.features.Dataset):
        return tfds.features.Dataset(_plain(feature.feature))
    if type(feature).__name__ in KNOWN:
        return feature
    # Sizes that are not known beforehand are described as none: only names and kinds are looked at.
    return tfds.features.Tensor(shape=[size or 0 for size in feature.shape], dtype=feature.np_dtype)


def _objects(items: list[Any]) -> NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
