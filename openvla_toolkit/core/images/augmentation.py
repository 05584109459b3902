"""Random changes of a picture: what is drawn is a pure function of seed, number of the sample and camera."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, sqrt
from typing import get_args
from zlib import crc32

import numpy as np

from openvla_toolkit.core.data_sections import Augment, Operation, RandomCrop
from openvla_toolkit.core.images.framing import Change
from openvla_toolkit.core.images.resampling import Box

__all__ = ["draw"]

_OPERATIONS: tuple[Operation, ...] = get_args(Operation)
_WORD = 2**64 - 1


def draw(augment: Augment, *, seed: int, number: int, camera: str) -> list[Change]:
    """Return the changes of a camera's picture in a sample, in the order in which they are made.

    Every operation has a number of its own, uniform in [0, 1), whether it is used or not: switching one off
    does not change what the others do. A crop has one number for its area, its ratio and its place, so that
    crops of a square picture lie on the diagonal: in the original all draws of a crop have the same seed.
    """
    key = np.array([seed & _WORD, number & _WORD], dtype=np.uint64)
    philox = np.random.Philox(key=key, counter=[0, 0, 0, crc32(camera.encode())])
    shares = np.random.Generator(philox).random(len(_OPERATIONS)).tolist()
    drawn: Mapping[Operation, float] = dict(zip(_OPERATIONS, shares, strict=True))
    changes = [
        _change(operation, getattr(augment, operation), drawn[operation]) for operation in augment.order
    ]
    return [change for change in changes if change is not None]


def _change(operation: Operation, setting: object, share: float) -> Change | None:
    """Return the change that a number in [0, 1) stands for; None for none."""
    if setting is None or setting is False:
        return None
    if isinstance(setting, RandomCrop):
        return Change(operation, box=_box(setting, share))
    if operation == "random_rot90":
        return Change(operation, value=float(int(4 * share)))
    if setting is True:  # a flip, half of the time
        return Change(operation) if share < 0.5 else None
    low, high = setting if isinstance(setting, tuple) else (-setting, setting)  # type: ignore[operator]
    return Change(operation, value=low + share * (high - low))


def _box(crop: RandomCrop, share: float) -> Box:
    area = crop.scale[0] + share * (crop.scale[1] - crop.scale[0])
    tallest, widest = map(log, crop.ratio)
    ratio = exp(tallest + share * (widest - tallest))
    height, width = min(sqrt(area / ratio), 1.0), min(sqrt(area * ratio), 1.0)
    top, left = share * (1 - height), share * (1 - width)
    return top, left, top + height, left + width
