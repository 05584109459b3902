"""Pictures of the tabletop: two pinhole cameras, flat shading and soft shadows, drawn with Pillow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from openvla_toolkit.environments.tabletop.settings import CameraPose
from openvla_toolkit.environments.tabletop.world import RADIUS, TOP, State, Thing

COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 92, 214),
    "yellow": (250, 208, 24),
    "white": (240, 240, 244),
    "purple": (136, 50, 176),
    "orange": (246, 126, 22),
    "cyan": (38, 198, 214),
    "black": (34, 34, 40),
    "pink": (244, 128, 178),
}
CORNERS = {"cube": 4, "cylinder": 14, "prism": 3}
WOOD = ((181, 148, 112), (174, 140, 104), (186, 154, 118), (177, 144, 108), (183, 150, 113), (172, 139, 103))
EDGE = (120, 92, 66)
BACKDROP = (206, 212, 220)
METAL = (92, 98, 108)
PAD = (28, 30, 34)
TABLE = 0.30
"""Half the side of the table, metres."""
LIGHT = np.array([-0.35, 0.45, 0.82])
SHADE = (24, 18, 12, 46)
OVERSAMPLING = 2
WRIST_OFFSET = 0.14
WRIST_TANGENT = 0.80
"""Half the wrist camera's view at distance one: a wide lens, whose view widens as the gripper rises."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; the rows of ``axes`` are its right, down and forward directions."""

    place: np.ndarray
    axes: np.ndarray
    tangent: float

    def project(self, points: np.ndarray, size: int) -> list[tuple[float, float]]:
        """Return the pixel positions of world ``points`` ``[N, 3]`` in a picture of side ``size``."""
        right, down, forward = self.axes @ (points - self.place).T
        scale = size / (2.0 * self.tangent) / np.maximum(forward, 0.01)
        half = size / 2.0
        return list(zip((half + right * scale).tolist(), (half + down * scale).tolist(), strict=True))


@lru_cache(maxsize=16)
def primary_camera(pose: CameraPose) -> Camera:
    """Return the camera that watches the table from ``pose``."""
    azimuth, elevation = math.radians(pose.azimuth), math.radians(pose.elevation)
    back = np.array(
        [
            -math.cos(azimuth) * math.cos(elevation),
            -math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
        ]
    )
    right = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    axes = np.stack([right, np.cross(-back, right), -back])
    place = back * pose.distance + np.array([0.0, 0.0, 0.03])
    return Camera(place, axes, math.tan(math.radians(pose.field_of_view) / 2))


def wrist_camera(state: State) -> Camera:
    """Return the camera on the gripper: it looks down between the fingers and turns with them."""
    rotation = _rotation(state)
    axes = np.stack([-rotation[:, 1], -rotation[:, 0], -rotation[:, 2]])
    return Camera(np.array([state.x, state.y, state.z]) + WRIST_OFFSET * rotation[:, 2], axes, WRIST_TANGENT)


def _rotation(state: State) -> np.ndarray:
    cr, sr = math.cos(state.roll), math.sin(state.roll)
    cp, sp = math.cos(state.pitch), math.sin(state.pitch)
    cy, sy = math.cos(state.yaw), math.sin(state.yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def draw_primary(state: State, pose: CameraPose, *, size: int) -> np.ndarray:
    """Draw what the camera at ``pose`` sees: ``[size, size, 3]``, uint8."""
    return _draw(state, primary_camera(pose), size=size, wrist=False)


def draw_wrist(state: State, *, size: int) -> np.ndarray:
    """Draw what the camera on the gripper sees: ``[size, size, 3]``, uint8."""
    return _draw(state, wrist_camera(state), size=size, wrist=True)


def _draw(state: State, camera: Camera, *, size: int, wrist: bool) -> np.ndarray:
    canvas = _Canvas(camera, size * OVERSAMPLING)
    canvas.table()
    for thing in state.things:
        canvas.shadow(thing)
    canvas.gripper_shadow(state)
    order = sorted(state.things, key=lambda thing: (thing.z >= TOP / 2 and wrist, canvas.nearness(thing)))
    in_hand = state.things[state.held] if state.held is not None else None
    fingers_drawn = False
    for thing in order:
        if not wrist and not fingers_drawn and thing is not in_hand and canvas.before_gripper(thing, state):
            canvas.gripper(state, whole=True)
            fingers_drawn = True
        canvas.thing(thing)
    if not fingers_drawn:
        canvas.gripper(state, whole=not wrist)
    return np.asarray(canvas.image.reduce(OVERSAMPLING))


@lru_cache(maxsize=8)
def _ring(corners: int) -> np.ndarray:
    angles = np.arange(corners) * (2 * math.pi / corners) + math.pi / 4
    scale = {4: 1.3, 3: 1.3}.get(corners, 1.0)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * (RADIUS * scale)


def _outline(thing: Thing) -> np.ndarray:
    """Return the horizontal outline ``[N, 2]`` of an object."""
    c, s = math.cos(thing.yaw), math.sin(thing.yaw)
    ring = _ring(CORNERS.get(thing.shape, 14))
    outline: np.ndarray = ring @ np.array([[c, s], [-s, c]]) + np.array([thing.x, thing.y])
    return outline


def _lift(outline: np.ndarray, height: float) -> np.ndarray:
    return np.column_stack([outline, np.full(len(outline), height)])


def _shaded(colour: tuple[int, ...], light: float) -> tuple[int, int, int]:
    red, green, blue = (min(255, int(value * light)) for value in colour[:3])
    return red, green, blue


class _Canvas:
    """One picture in the making."""

    def __init__(self, camera: Camera, size: int) -> None:
        self.camera, self.size = camera, size
        self.image = Image.new("RGB", (size, size), BACKDROP)
        self.pen = ImageDraw.Draw(self.image, "RGBA")

    def polygon(self, points: np.ndarray, colour: tuple[int, ...]) -> None:
        self.pen.polygon(self.camera.project(points, self.size), fill=colour)

    def nearness(self, thing: Thing) -> float:
        return -float(np.linalg.norm(self.camera.place - (thing.x, thing.y, thing.z)))

    def before_gripper(self, thing: Thing, state: State) -> bool:
        return self.nearness(thing) > -float(np.linalg.norm(self.camera.place - (state.x, state.y, thing.z)))

    def table(self) -> None:
        t = TABLE
        if self.camera.axes[2, 2] > -0.98:
            rim = np.array([[-t, -t, 0], [-t, t, 0], [t, t, 0], [t, -t, 0]], dtype=float)
            self.polygon(rim - np.array([0.0, 0.0, 0.025]), EDGE)
        edges = np.linspace(-t, t, len(WOOD) + 1)
        for low, high, colour in zip(edges[:-1], edges[1:], WOOD, strict=True):
            self.polygon(np.array([[-t, low, 0], [-t, high, 0], [t, high, 0], [t, low, 0]]), colour)

    def shadow(self, thing: Thing) -> None:
        outline, middle = _outline(thing), np.array([thing.x, thing.y])
        for grow, height in ((1.25, 0.6), (1.08, 0.45), (0.95, 0.3)):
            offset = -LIGHT[:2] / LIGHT[2] * (thing.z + TOP * height)
            self.polygon(_lift((outline - middle) * grow + middle + offset, 0.0), SHADE)

    def gripper_shadow(self, state: State) -> None:
        middle = np.array([state.x, state.y]) - LIGHT[:2] / LIGHT[2] * state.z
        for grow in (0.9, 0.6):
            self.polygon(_lift(_ring(14) * grow + middle, 0.0), SHADE)

    def thing(self, thing: Thing) -> None:
        if thing.shape == "ball":
            self.ball(thing)
            return
        colour, outline = COLOURS[thing.colour], _outline(thing)
        low, high = _lift(outline, thing.z), _lift(outline, thing.z + TOP)
        following = np.roll(np.arange(len(outline)), -1)
        across = outline[following] - outline
        normals = np.column_stack([across[:, 1], -across[:, 0]]) / np.linalg.norm(across, axis=1)[:, None]
        seen = ((self.camera.place[:2] - outline) * normals).sum(axis=1) > 0
        lights = 0.62 + 0.22 * (normals @ LIGHT[:2])
        for i in np.flatnonzero(seen).tolist():
            j = following[i]
            self.polygon(np.stack([low[i], low[j], high[j], high[i]]), _shaded(colour, float(lights[i])))
        self.polygon(high, _shaded(colour, 1.0))

    def ball(self, thing: Thing) -> None:
        middle = np.array([thing.x, thing.y, thing.z + RADIUS])
        for radius, light in ((1.0, 0.66), (0.86, 0.84), (0.66, 1.0), (0.3, 1.18)):
            centre = middle + LIGHT * RADIUS * (1.0 - radius) * 0.9
            rim = centre + self.camera.axes[0] * RADIUS
            (x, y), (edge, _) = self.camera.project(np.stack([centre, rim]), self.size)
            reach = (edge - x) * radius
            colour = _shaded(COLOURS[thing.colour], light)
            self.pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)

    def gripper(self, state: State, *, whole: bool) -> None:
        rotation, place = _rotation(state), np.array([state.x, state.y, state.z])
        reach = 0.06 if state.open else (RADIUS + 0.006 if state.held is not None else 0.008)
        for side in (1.0, -1.0):
            if whole:
                self.box(rotation, place, (0.0, side * reach, 0.03), (0.011, 0.006, 0.025), METAL)
            self.box(rotation, place, (0.0, side * reach, -0.005), (0.0115, 0.0065, 0.01), PAD)
        if whole:
            self.box(rotation, place, (0.0, 0.0, 0.065), (0.016, 0.064, 0.012), METAL)
            self.box(rotation, place, (0.0, 0.0, 0.115), (0.018, 0.018, 0.04), (120, 126, 138))

    def box(
        self,
        rotation: np.ndarray,
        place: np.ndarray,
        middle: tuple[float, float, float],
        half: tuple[float, float, float],
        colour: tuple[int, int, int],
    ) -> None:
        """Draw an upright box given in the gripper's own frame."""
        corners = rotation @ ((_SIGNS * half) + middle).T
        points = corners.T + place
        pixels = self.camera.project(points, self.size)
        for face, normal, light in _FACES:
            direction = rotation @ normal
            if float(direction @ (self.camera.place - points[face[0]])) > 0:
                self.pen.polygon([pixels[i] for i in face], fill=_shaded(colour, light))


_SIGNS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_FACES = (
    ((0, 1, 3, 2), np.array([-1.0, 0.0, 0.0]), 0.95),
    ((4, 5, 7, 6), np.array([1.0, 0.0, 0.0]), 0.7),
    ((0, 1, 5, 4), np.array([0.0, -1.0, 0.0]), 0.8),
    ((2, 3, 7, 6), np.array([0.0, 1.0, 0.0]), 1.0),
    ((1, 3, 7, 5), np.array([0.0, 0.0, 1.0]), 1.35),
)
