"""Whether two checkpoints are the same policy: what goes in, features, logits and actions compared."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from openvla_toolkit.checkpoints.formats.reading import read_content
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.types import Observation

__all__ = ["Finding", "observations", "verify"]

INSTRUCTIONS = (
    "put the spoon on the towel",
    "Pick up the red block",
    "open the drawer",
    "move the carrot to the plate and then close the drawer",
)
SIZES = ((480, 640), (224, 224), (256, 256), (301, 217))
"""Height and width of the pictures, pixels."""

ABSOLUTE = {"pixel_values": 1e-5, "image_features": 1e-4, "logits": 1e-4, "actions": 1e-6}
"""Greatest difference that is none, for each thing compared; others must be equal."""
RELATIVE = 1e-4
"""Added to the greatest difference, times the size of the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found when one thing was compared."""

    what: str
    """``tensors``, ``pixel_values``, ``logits``, ``actions of bridge_orig``, ..."""
    same: bool
    text: str
    """How they compare and, where they differ, at which places."""


def verify(
    first: str | Path,
    second: str | Path,
    *,
    device: str = "cpu",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    count: int = 4,
) -> list[Finding]:
    """Compare two checkpoints of any format, the numbers of real forward passes included.

    The policies are run one after the other, so only one is in memory at a time.

    Args:
        count: how many made-up observations are looked at.

    Raises:
        MissingFile: nothing goes by that name.
        CheckpointError: one of them is damaged.
        UserError: one is no policy whose inside can be compared.
    """
    findings = [_tensors(first, second)]
    ours, theirs = (
        _run(source, sizes=_camera_sizes(other, source), device=device, dtype=dtype, count=count)
        for source, other in ((first, second), (second, first))
    )
    if ours.keys() != theirs.keys():
        findings.append(_keys(ours, theirs))
    shared = [key for key in ours if key in theirs]
    return [*findings, *(_compared(key, ours[key], theirs[key]) for key in shared)]


def observations(
    cameras: Sequence[str], count: int, *, sizes: Mapping[str, tuple[int, int]]
) -> list[Observation]:
    """Return made-up observations, the same at every call: gradients with noise.

    Args:
        sizes: height and width of the cameras that have one; the others' pictures are of several shapes.
    """
    generator = np.random.default_rng(0)
    made = []
    for number in range(count):
        size = SIZES[number % len(SIZES)]
        images = {camera: _picture(generator, *sizes.get(camera, size)) for camera in cameras}
        made.append(Observation(images=images, instruction=INSTRUCTIONS[number % len(INSTRUCTIONS)]))
    return made


def _picture(generator: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    corners = generator.uniform(0, 255, size=(2, 2, 3))
    down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    left, other = (corners[0, side] * (1 - down) + corners[1, side] * down for side in (0, 1))
    noise = generator.normal(0, 20, size=(height, width, 3))
    picture: NDArray[np.uint8] = (left * (1 - right) + other * right + noise).clip(0, 255).astype(np.uint8)
    return picture


def _tensors(first: str | Path, second: str | Path) -> Finding:
    """Compare names, shapes and numbers; other numbers alone are told, and judged by what comes out."""
    ours, theirs = (dict(read_content(source).tensors()) for source in (first, second))
    for name in sorted(ours.keys() ^ theirs.keys()):
        side = first if name in ours else second
        return Finding(what="tensors", same=False, text=f"only {side} has '{name}'")
    for name, value in ours.items():
        if value.shape != theirs[name].shape:
            shapes = f"{list(value.shape)} and {list(theirs[name].shape)}"
            return Finding(what="tensors", same=False, text=f"'{name}' has shapes {shapes}")
    apart = {name: _apart(value, theirs[name]) for name, value in ours.items()}
    worst = max(apart, key=lambda name: apart[name])
    differing = sum(amount > 0 for amount in apart.values())
    text = f"{len(apart)} of the same names and shapes"
    if differing:
        text += f"; {differing} differ in their numbers, most '{worst}' by {apart[worst]:.3g}"
    return Finding(what="tensors", same=True, text=text)


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).abs().max()) if ours.numel() else 0.0


def _camera_sizes(*sources: str | Path) -> dict[str, tuple[int, int]]:
    """Return height and width of the known robots' cameras; the last source's where several know one."""
    robots = (read_content(source).contract.robot for source in sources)
    return {name: (one.height, one.width) for robot in robots for name, one in robot.cameras.items()}


def _run(source: str | Path, **settings: Any) -> dict[str, list[NDArray[Any]]]:
    """Return name -> one array per observation of everything to compare."""
    count, sizes = settings.pop("count"), settings.pop("sizes")
    policy: Any = load_policy(source, **settings)
    if not hasattr(policy, "activations"):
        raise UserError(f"{source} holds a policy whose inside cannot be compared.")
    seen: dict[str, list[NDArray[Any]]] = {}
    for observation in observations(policy.contract.cameras, count, sizes=sizes):
        for name, value in policy.activations(observation).items():
            seen.setdefault(name, []).append(value)
        for key in sorted(policy.statistics):
            (chunk,) = policy.predict_chunks([observation], unnorm_key=key)
            if chunk.tokens is not None:
                seen.setdefault(f"tokens of {key}", []).append(chunk.tokens)
            seen.setdefault(f"actions of {key}", []).append(chunk.actions)
    del policy
    gc.collect()
    return seen


def _keys(ours: Mapping[str, object], theirs: Mapping[str, object]) -> Finding:
    only = [", ".join(sorted(one.keys() - other.keys())) for one, other in ((ours, theirs), (theirs, ours))]
    text = f"only the first has: {only[0] or 'nothing'}; only the second has: {only[1] or 'nothing'}"
    return Finding(what="statistics", same=False, text=text)


def _compared(what: str, ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> Finding:
    problems = [
        f"observation {number}: {problem}"
        for number, pair in enumerate(zip(ours, theirs, strict=True))
        for problem in _problem(what.partition(" ")[0], *pair)
    ]
    if problems:
        more = f" (and in {len(problems) - 1} more observations)" if len(problems) > 1 else ""
        return Finding(what=what, same=False, text=problems[0] + more)
    largest = max(_distance(*pair) for pair in zip(ours, theirs, strict=True))
    text = "equal" if largest == 0 else f"within tolerance, at most {largest:.3g} apart"
    return Finding(what=what, same=True, text=text)


def _problem(kind: str, ours: NDArray[Any], theirs: NDArray[Any]) -> Iterator[str]:
    if ours.shape != theirs.shape:
        yield f"shapes {list(ours.shape)} and {list(theirs.shape)}"
        return
    allowed = ABSOLUTE[kind] + RELATIVE * np.abs(ours) if kind in ABSOLUTE else np.zeros(ours.shape)
    apart = np.abs(ours.astype(np.float64) - theirs)
    wrong = ~(apart <= allowed)
    if wrong.any():
        place = np.unravel_index(int(np.argmax(np.where(wrong, apart, -1))), ours.shape)
        yield (
            f"{wrong.sum()} of {wrong.size} numbers differ, most at {list(map(int, place))}: "
            f"{ours[place]:.6g} and {theirs[place]:.6g}"
        )


def _distance(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    return float(np.abs(ours.astype(np.float64) - theirs).max()) if ours.size else 0.0
