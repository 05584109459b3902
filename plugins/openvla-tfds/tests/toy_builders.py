"""Builders as a lab writes them, with every kind of feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from openvla_tfds.builder import tfds

ROBOT = {
    "name": "custom",
    "cameras": {"primary": {"height": 8, "width": 10}, "wrist": {"height": 4, "width": 4}},
    "state": [
        {"name": name, "unit": "1", "reference": "absolute"} for name in ("a", "b", "c", "pad", "grip")
    ],
    "action": [{"name": name, "unit": "1", "reference": "delta"} for name in ("left", "right")],
    "control_hz": 10,
}
READ = {
    "cameras": {"primary": "image", "wrist": "wrist"},
    "state": ["joints", None, "grip"],
    "instruction": "told",
    "embodiment": ROBOT,
}


class ToyArms(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """A builder as a lab writes it."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self) -> Any:
        observation = {
            "image": tfds.features.Image(shape=(8, 10, 3), encoding_format="jpeg"),
            "wrist": tfds.features.Image(shape=(4, 4, 3), encoding_format="png"),
            "joints": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            "grip": np.float64,
            "packed": tfds.features.Tensor(shape=(2, 2), dtype=np.float32, encoding="zlib"),
            "plain": tfds.features.Tensor(shape=(2,), dtype=np.int16, encoding="bytes"),
        }
        step = {
            "observation": observation,
            "action": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "told": tfds.features.Text(),
            "tag": tfds.features.Tensor(shape=(), dtype=np.str_),
            "is_first": np.bool_,
            "count": np.uint8,
            **self.more_features,
        }
        about = {
            "file": tfds.features.Text(),
            "number": np.int32,
            "pose": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        }
        features = {"steps": tfds.features.Dataset(step), "about": about}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    more_features: Mapping[str, Any] = {}

    def _split_generators(self, manager: Any) -> Any:
        return {"train": self._episodes(range(5)), "val": self._episodes(range(5, 45))}

    def _generate_examples(self) -> Any:
        raise NotImplementedError

    def _episodes(self, numbers: range) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in numbers:
            steps = [self.step(number, frame) for frame in range(2 + number % 4)]
            about = {"file": f"raw/{number}", "number": number, "pose": np.full(2, number, np.float32)}
            yield f"{number:03d}", {"steps": steps, "about": about}

    def step(self, number: int, frame: int) -> dict[str, Any]:
        """Return a step whose every value tells episode and frame."""
        random = np.random.default_rng([number, frame])
        observation = {
            "image": random.integers(0, 256, (8, 10, 3), np.uint8),
            "wrist": random.integers(0, 256, (4, 4, 3), np.uint8),
            "joints": random.normal(size=3).astype(np.float32),
            "grip": frame / 4,
            "packed": random.normal(size=(2, 2)).astype(np.float32),
            "plain": np.array([number, frame], np.int16),
        }
        return {
            "observation": observation,
            "action": random.normal(size=2).astype(np.float32),
            "told": f"schiebe den Würfel {number}",
            "tag": f"{number}/{frame}",
            "is_first": frame == 0,
            "count": frame,
        }


class ToyPhases(ToyArms):
    """The same with a kind of feature that the toolkit's own reader does not know."""

    VERSION = tfds.core.Version("1.0.0")
    more_features = {"phase": tfds.features.ClassLabel(names=["reach", "grasp"])}

    def step(self, number: int, frame: int) -> dict[str, Any]:
        return {**super().step(number, frame), "phase": frame % 2}
