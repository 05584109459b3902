"""What the toolkit knows of the data sets of Open X-Embodiment, as one table (``catalog/datasets.yaml``)."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from pydantic import Field

from openvla_toolkit.core.component import Section
from openvla_toolkit.core.contract import Dimension
from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.yaml_lines import parse_file
from openvla_toolkit.datasets.rlds.features import FeaturesDict
from openvla_toolkit.datasets.rlds.robot import recorded_size

__all__ = ["CatalogEntry", "catalog", "look_up"]

StateEncoding: TypeAlias = Literal["NONE", "POS_EULER", "POS_QUAT", "JOINT", "JOINT_BIMANUAL"]
ActionEncoding: TypeAlias = Literal["EEF_POS", "JOINT_POS", "JOINT_POS_BIMANUAL"]

_JOINTS = tuple(f"joint_{number}" for number in range(1, 8))
_ARMS = tuple(f"{side}_{part}" for side in ("left", "right") for part in (*_JOINTS[:6], "gripper"))
_STATES: dict[StateEncoding, tuple[str, ...]] = {
    "NONE": ("pad",) * 8,
    "POS_EULER": ("x", "y", "z", "roll", "pitch", "yaw", "pad", "gripper"),
    "POS_QUAT": ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper"),
    "JOINT": (*_JOINTS, "gripper"),
    "JOINT_BIMANUAL": _ARMS,
}
_ACTIONS: dict[ActionEncoding, tuple[str, ...]] = {
    "EEF_POS": ("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    "JOINT_POS": (*_JOINTS, "gripper"),
    "JOINT_POS_BIMANUAL": _ARMS,
}


class CatalogEntry(Section):
    """One data set; keys are those of the observation after the data set's standardisation."""

    cameras: dict[str, str] = Field(min_length=1)
    """Camera name -> key of its pictures."""
    depth: dict[str, str] = {}
    """Camera name -> key of its depth, for those who read it themselves: episodes carry colour pictures."""
    state: list[str | None]
    """Keys that make up the state; null stands for one column of zeros."""
    state_encoding: StateEncoding
    """What Open X-Embodiment says the state is."""
    state_names: tuple[str, ...] | None = None
    """What the state's numbers are, where the encoding does not say it rightly."""
    action_encoding: ActionEncoding = "EEF_POS"
    action_names: tuple[str, ...] | None = None
    """What the action's numbers are, where the encoding does not say it rightly."""
    control_hz: float = Field(gt=0)
    """Actions per second."""
    idle: tuple[float, ...] | None = None
    """Thresholds of ``skip-idle``, where frames without movement teach nothing."""
    robot: str | None = None
    """An embodiment by name; without one it is put together from the encodings."""

    def settings(self, dataset: str) -> dict[str, Any]:
        """Return what a card would say of the data set, but for its robot."""
        transforms: list[dict[str, Any]] = [{"name": "open-x", "dataset": dataset}]
        if self.idle is not None:
            transforms.append({"name": "skip-idle", "threshold": self.idle})
        return {"cameras": self.cameras, "state": self.state, "transforms": transforms}

    def embodiment(self, features: FeaturesDict) -> dict[str, Any]:
        """Return the settings of the robot that was recorded, cameras as large as the features say.

        Raises:
            RecipeError: the robot has no name, and the features leave the size of a picture open.
        """
        if self.robot is not None:
            return {"name": self.robot}
        cameras: dict[str, Any] = {}
        for name, key in self.cameras.items():
            height, width = recorded_size(features, key)
            if height is None or width is None:
                raise RecipeError(
                    f"features.json leaves the size of 'observation/{key}' open; the catalog has none. "
                    f"Give the embodiment: {{name: custom, control_hz: {self.control_hz:g}, "
                    f"cameras: {{{name}: {{height: ..., width: ...}}}}, action: [...]}}.",
                    path="embodiment",
                )
            cameras[name] = {"height": height, "width": width}
        state = _STATES[self.state_encoding] if self.state_names is None else self.state_names
        action = _ACTIONS[self.action_encoding] if self.action_names is None else self.action_names
        return {
            "name": "custom",
            "cameras": cameras,
            "state": tuple(_dimension(name, reference="absolute") for name in state),
            "action": tuple(self._action(name) for name in action),
            "control_hz": self.control_hz,
        }

    def _action(self, name: str) -> Dimension:
        if self.action_encoding == "JOINT_POS_BIMANUAL":
            return _dimension(name, reference="absolute")
        return _dimension(name, reference="absolute" if name == "gripper" else "delta")


@lru_cache(maxsize=1)
def catalog() -> dict[str, CatalogEntry]:
    """Return data set -> what is known of it."""
    table = files("openvla_toolkit") / "catalog" / "datasets.yaml"
    data, _ = parse_file(table.read_bytes(), file="datasets.yaml of the catalog")
    return {name: CatalogEntry.model_validate(row) for name, row in data.items()}


def look_up(dataset: str) -> CatalogEntry | None:
    """Return what is known of a data set, or None."""
    return catalog().get(dataset)


def _dimension(name: str, *, reference: Literal["delta", "absolute"]) -> Dimension:
    """Return one number of a state or action; units are those that Open X-Embodiment agreed upon."""
    if name in ("x", "y", "z"):
        return Dimension(name=name, unit="m", reference=reference)
    if name in ("roll", "pitch", "yaw"):
        return Dimension(name=name, unit="rad", reference=reference, rotation="euler_xyz")
    if name in ("qx", "qy", "qz", "qw"):
        return Dimension(name=name, unit="1", reference=reference, rotation="quat_xyzw")
    if name == "gripper":
        return Dimension(name=name, unit="1", reference=reference, gripper="open_high")
    # A gripper of two arms is normalised like the joints beside it: it is not marked as one.
    if "joint" in name:
        return Dimension(name=name, unit="rad", reference=reference, frame="joint")
    return Dimension(name=name, unit="1", reference=reference)
