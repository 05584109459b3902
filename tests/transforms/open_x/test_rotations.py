"""Conversions between rotations agree with each other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openvla_toolkit.transforms.open_x.rotations import euler_of_quaternion, matrix_of_euler, rows_of_matrix

ANGLES = hnp.arrays(np.float32, (3, 3), elements=st.floats(-1.5, 1.5, width=32))


def quaternion_of_euler(euler: np.ndarray) -> np.ndarray:
    """Multiply the turns about z, y and x: x, y, z, w."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(euler / 2).T, np.cos(euler / 2).T
    parts = [
        sx * cy * cz - cx * sy * sz,
        cx * sy * cz + sx * cy * sz,
        cx * cy * sz - sx * sy * cz,
        cx * cy * cz + sx * sy * sz,
    ]
    return np.stack(parts, axis=1).astype(np.float32)


@given(euler=ANGLES)
def test_angles_survive_the_way_over_quaternions(euler: np.ndarray) -> None:
    np.testing.assert_allclose(euler_of_quaternion(quaternion_of_euler(euler)), euler, atol=1e-4)


def test_looking_straight_up_or_down_leaves_no_yaw() -> None:
    half = np.float32(np.sqrt(0.5))
    found = euler_of_quaternion(np.array([[0, half, 0, half], [0, -half, 0, half]], np.float32))
    np.testing.assert_allclose(found, [[0, np.pi / 2, 0], [0, -np.pi / 2, 0]], atol=1e-6)


@given(euler=ANGLES)
def test_matrices_turn_and_do_nothing_else(euler: np.ndarray) -> None:
    matrix = matrix_of_euler(euler)
    np.testing.assert_allclose(
        matrix @ matrix.swapaxes(1, 2), np.broadcast_to(np.eye(3), (3, 3, 3)), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-5)
    np.testing.assert_allclose(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]), euler[:, 2], atol=1e-4)


def test_the_first_two_rows_are_kept() -> None:
    matrix = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    assert rows_of_matrix(matrix).tolist() == [[0, 1, 2, 3, 4, 5], [9, 10, 11, 12, 13, 14]]
