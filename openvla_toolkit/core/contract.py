"""What a policy expects and gives, as one typed object that travels with the checkpoint.

The reader of the data makes it, training stores it, and evaluation, serving and export check it: a policy
that was trained on rotated, cropped or differently normalised input is refused, not run. Nothing is chosen
by sniffing names or paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from openvla_toolkit.core.component import Section
from openvla_toolkit.core.errors import ContractMismatch, did_you_mean

__all__ = [
    "DIALECTS",
    "Camera",
    "Contract",
    "Dimension",
    "FrameRecipe",
    "ImageRecipe",
    "Interface",
    "Normalization",
    "PromptRecipe",
    "by_dialect",
    "compare",
    "refuse_windows",
]

Rotation = Literal["euler_xyz", "axis_angle", "quat_xyzw", "quat_wxyz", "rot6d_rows", "rot6d_columns"]


class Camera(Section):
    """One camera as the policy must be shown it."""

    height: int = Field(gt=0)
    """Pixels, before the policy's own resize."""
    width: int = Field(gt=0)
    rotation: Literal[0, 90, 180, 270] = 0
    """Degrees the picture was turned, counter-clockwise, after it left the camera."""
    codec: tuple[str, ...] = ()
    """Lossy steps the training pictures went through, in order (``jpeg``)."""


class Dimension(Section):
    """One number of a state or action vector."""

    name: str
    unit: str
    """``m``, ``rad``, ``m/s``, ``1`` (no unit), ..."""
    reference: Literal["delta", "absolute"]
    frame: Literal["base", "end-effector", "joint", "world"] = "base"
    rotation: Rotation | None = None
    """The representation this number is a part of, for rotations."""
    gripper: Literal["open_high", "open_low"] | None = None
    """For grippers: whether the higher value opens."""


class Interface(Section):
    """The robot side of a contract: cameras, state and action vectors, control rate."""

    cameras: dict[str, Camera]
    state: tuple[Dimension, ...] = ()
    action: tuple[Dimension, ...]
    control_hz: float = Field(gt=0)


_LEROBOT = {"eps_where": "zero", "clip": False, "constant": "low", "mask": False}
DIALECTS: Mapping[str, Mapping[str, Any]] = {
    "openvla": {},
    "openvla-bounds": {"method": "bounds"},
    "openvla-normal": {"method": "normal"},
    "lerobot-mean-std": {"method": "normal", "mask": False},
    "lerobot-min-max": {
        "method": "bounds",
        "eps_where": "zero",
        "clip": False,
        "constant": "low",
        "mask": False,
    },
    "lerobot-quantiles": _LEROBOT,
    "openpi-quantile": {"eps": 1e-6, "eps_back": True, "clip": False, "constant": "low", "mask": False},
    "openpi-z-score": {"method": "normal", "eps": 1e-6, "eps_back": True, "mask": False},
}
"""What other code bases do, by a name that may stand where the fields of ``Normalization`` do."""


class Normalization(Section):
    """How actions and states are brought to the policy's range, every dialect's choice written down."""

    method: Literal["bounds_q99", "bounds", "normal", "identity"] = "bounds_q99"
    """The range that becomes [-1, 1]: the 1 % and 99 % quantiles, or the extremes; ``normal``: mean 0 and
    standard deviation 1."""
    eps: float = Field(default=1e-8, ge=0)
    """Added to the range, or to the standard deviation, when normalising."""
    eps_where: Literal["always", "zero"] = "always"
    """``zero`` adds it only to a range that is zero (LeRobot)."""
    eps_back: bool = False
    """Add it on the way back from the policy's numbers as well (openpi)."""
    clip: bool = True
    """Clip to [-1, 1] after a bounds rule (OpenVLA does, LeRobot and openpi do not)."""
    constant: Literal["zero", "low"] = "zero"
    """What a bounds rule makes of a number whose minimum is its maximum: 0, or what the formula gives for the
    lower end, -1."""
    mask: bool = True
    """Leave numbers that the statistics mask (grippers) as they are; false scales them like the others."""


def by_dialect(value: Any) -> Any:
    """Turn the name of a dialect into its settings; leave everything else to pydantic."""
    if not isinstance(value, str):
        return value
    if value not in DIALECTS:
        raise ValueError(
            f"there is no normalization '{value}'.{did_you_mean(value, DIALECTS)} "
            f"There are: {', '.join(DIALECTS)}; or give the fields."
        )
    return dict(DIALECTS[value])


class FrameRecipe(Section):
    """What the policy does to a camera's picture before its backbone's own resize.

    Training does the same but for what is drawn at random, so that a policy that was trained on random crops
    is shown the middle of the picture when it acts.
    """

    resample: Literal["original", "fused"] = "original"
    """``original``: a Lanczos resize to bytes, then the crop; ``fused``: both in one antialiased step."""
    crop: float | None = Field(default=None, gt=0, le=1)
    """Share of the area in the middle that is kept; None for all of it."""


class ImageRecipe(Section):
    """From a camera picture to the pixels of the vision backbone; one entry per tower."""

    strategy: Literal["resize-naive", "resize-crop", "letterbox"] = "resize-naive"
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    size: int = Field(gt=0)
    """Edge of the square input, pixels."""
    means: tuple[tuple[float, float, float], ...]
    stds: tuple[tuple[float, float, float], ...]
    edges: tuple[int, ...] | None = None
    """Per tower, what the shorter edge is resized to before the centre crop; None: ``size``."""
    fills: tuple[tuple[int, int, int], ...] | None = None
    """Per tower, the colour a letterbox pads with (0..255); None: the tower's own mean."""
    frame: FrameRecipe | None = None
    """What becomes of a camera's picture first, to a square of ``size``; None leaves it as the camera gave
    it."""

    def padding(self) -> tuple[tuple[int, int, int], ...]:
        """Return per tower the colour a letterbox pads with."""
        own = tuple((int(red * 255), int(green * 255), int(blue * 255)) for red, green, blue in self.means)
        return self.fills or own


class PromptRecipe(Section):
    """From an instruction to token ids, and from token ids to actions."""

    builder: str = "pure"
    """Name of the ``prompt`` component."""
    question: str = "What action should the robot take to {instruction}?"
    lower: bool = True
    """The instruction is lower-cased first."""
    action_tokenizer: str = "uniform-bins"
    """Name of the ``action_tokenizer`` component."""


class Contract(Section):
    """Everything two ends must agree on for a policy to act as it was trained."""

    version: Literal[1] = 1
    robot: Interface
    cameras: tuple[str, ...]
    """The cameras the policy looks at, in the order their patches are laid."""
    uses_state: bool = False
    chunk: int = Field(default=1, gt=0)
    """Actions per answer."""
    history: int = Field(default=1, gt=0)
    """Observations that are seen, the present one last."""
    goal: bool = False
    """Whether the policy is shown pictures of where the episode is to lead."""
    images: ImageRecipe
    prompt: PromptRecipe = PromptRecipe()
    normalization: Normalization = Normalization()


Side = Annotated[str, "how a side of the comparison is called in messages"]


def compare(policy: Contract, world: Interface, *, world_name: Side = "the world") -> None:
    """Check that a world (environment, data set, robot) offers what a policy was trained on.

    Cameras that the policy does not look at are ignored; so is the state when the policy does not use it.

    Raises:
        ContractMismatch: lists every difference with both sides, and the lines to paste.
    """
    wanted = policy.robot
    differences: dict[str, tuple[object, object]] = {}
    for name in policy.cameras:
        _note(differences, f"cameras.{name}", wanted.cameras.get(name), world.cameras.get(name))
    if policy.uses_state:
        _note(differences, "state", wanted.state, world.state)
    _note(differences, "action", wanted.action, world.action)
    _note(differences, "control_hz", wanted.control_hz, world.control_hz)
    if differences:
        raise ContractMismatch(_explain(differences, world_name))


def refuse_windows(contract: Contract, *, policy: str) -> None:
    """Check that a policy which sees one moment, and no goal, is asked for no more.

    Raises:
        ContractMismatch: the contract has a history or a goal; names the policy.
    """
    asked = [f"a history of {contract.history} observations"] * (contract.history > 1)
    asked += ["pictures of the goal"] * contract.goal
    if asked:
        raise ContractMismatch(
            f"the contract promises {' and '.join(asked)}; the policy '{policy}' sees the present moment "
            "alone. Give it a contract with 'history: 1' and 'goal: false'."
        )


def _note(differences: dict[str, tuple[object, object]], path: str, ours: object, theirs: object) -> None:
    """Record the innermost places where two values differ."""
    if ours == theirs:
        return
    if isinstance(ours, Section) and isinstance(theirs, Section) and type(ours) is type(theirs):
        for key in type(ours).model_fields:
            _note(differences, f"{path}.{key}", getattr(ours, key), getattr(theirs, key))
    elif isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        for index, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            _note(differences, f"{path}.{index}", left, right)
    else:
        differences[path] = (ours, theirs)


def _explain(differences: Mapping[str, tuple[object, object]], world_name: str) -> str:
    lines = [f"the policy and {world_name} do not agree on {len(differences)} point(s):"]
    lines += [
        f"  {path}: the policy was trained with {_show(ours)}, {world_name} has {_show(theirs)}"
        for path, (ours, theirs) in differences.items()
    ]
    lines.append(f"To make {world_name} match, give its embodiment these values:")
    lines += [f"  {path}: {_show(ours)}" for path, (ours, _) in differences.items()]
    return "\n".join(lines)


def _show(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Section):
        return str(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, tuple):
        return "[" + ", ".join(getattr(item, "name", str(item)) for item in value) + "]"
    return str(value)
