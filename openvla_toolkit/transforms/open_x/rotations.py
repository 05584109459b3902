"""Conversions between rotations, as tensorflow-graphics has them: R = Rz Ry Rx, quaternions x, y, z, w."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.transforms.open_x.arrays import Floats

__all__ = ["euler_of_quaternion", "matrix_of_euler", "rows_of_matrix"]

_GIMBAL = np.float32(1e-6)


def euler_of_quaternion(quaternion: Floats) -> Floats:
    """Turn unit quaternions [T, 4] into roll, pitch and yaw [T, 3]; yaw is 0 where pitch locks the gimbal."""
    x, y, z, w = np.moveaxis(quaternion, -1, 0)
    # Doubled before they are multiplied, as the original does: float32 rounds alike.
    x2, y2, z2 = 2 * x, 2 * y, 2 * z
    r20 = x2 * z - y2 * w
    roll = np.arctan2(z2 * y + x2 * w, 1 - (x2 * x + y2 * y))
    yaw = np.arctan2(y2 * x + z2 * w, 1 - (y2 * y + z2 * z))
    down = np.where(r20 < 0, np.float32(-1), np.float32(1))
    locked = np.abs(np.abs(r20) - 1) < _GIMBAL
    locked_roll = np.arctan2(-down * (y2 * x - z2 * w), -down * (z2 * x + y2 * w))
    pitch = np.where(locked, -down * np.float32(np.pi / 2), -np.arcsin(np.clip(r20, -1, 1)))
    euler: Floats = np.stack(
        [np.where(locked, locked_roll, roll), pitch, np.where(locked, np.float32(0), yaw)], axis=-1
    ).astype(np.float32)
    return euler


def matrix_of_euler(euler: NDArray[Any]) -> Floats:
    """Turn roll, pitch and yaw [T, 3] into rotation matrices [T, 3, 3]."""
    (sx, sy, sz), (cx, cy, cz) = np.moveaxis(np.sin(euler), -1, 0), np.moveaxis(np.cos(euler), -1, 0)
    rows = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
        [-sy, sx * cy, cx * cy],
    ]
    matrix: Floats = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2).astype(np.float32)
    return matrix


def rows_of_matrix(matrix: Floats) -> Floats:
    """Return the first two rows of rotation matrices, flat: [T, 6]."""
    return matrix[:, :2, :].reshape(-1, 6)
