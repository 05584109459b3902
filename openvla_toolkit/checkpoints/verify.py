"""Whether two checkpoints are the same policy: what goes in, features, logits and actions compared."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from openvla_toolkit.checkpoints.formats.content import Content
from openvla_toolkit.checkpoints.formats.prismatic_run import is_run
from openvla_toolkit.checkpoints.formats.reading import read_content
from openvla_toolkit.checkpoints.layout import ADAPTER_FILE
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.checkpoints.locate import locate
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
    base: str | Path | None = None,
    tokenizer: str | None = None,
) -> list[Finding]:
    """Compare two checkpoints of any format, the numbers of real forward passes included.

    The policies are run one after the other, so only one is in memory at a time.

    Args:
        count: how many made-up observations are looked at.
        base: what those of them that are adapters are put on.
        tokenizer: a folder or hub id for those of them that are training runs, or adapters.

    Raises:
        MissingFile: nothing goes by that name.
        CheckpointError: one of them is damaged.
        UserError: one is no policy whose inside can be compared.
    """
    given = {source: _given(source, base=base, tokenizer=tokenizer) for source in (first, second)}
    contents = {source: read_content(source, **settings) for source, settings in given.items()}
    findings = [_tensors(contents[first], contents[second])]
    ours, theirs = (
        _run(source, sizes=sizes, device=device, dtype=dtype, count=count, **given[source])
        for source, sizes in (
            (first, _camera_sizes(contents[second], contents[first])),
            (second, _camera_sizes(contents[first], contents[second])),
        )
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


def _given(source: str | Path, *, base: str | Path | None, tokenizer: str | None) -> dict[str, Any]:
    """Return the settings that are meant for this source; others bring a tokenizer, which is compared."""
    place = locate(source)
    is_adapter = (place / ADAPTER_FILE).is_file()
    given = {"base": None if base is None or not is_adapter else str(base)}
    given["tokenizer"] = tokenizer if is_adapter or is_run(place) else None
    return {key: value for key, value in given.items() if value is not None}


def _tensors(first: Content, second: Content) -> Finding:
    """Compare names, shapes and numbers; other numbers alone are told, and judged by what comes out.

    No checkpoint is held: names and shapes are compared first, then the tensors in pairs.
    """
    ours, theirs = first.outlines(), second.outlines()
    for name in sorted(ours.keys() ^ theirs.keys()):
        side = (first if name in ours else second).place
        return Finding(what="tensors", same=False, text=f"only {side} has '{name}'")
    for name, value in ours.items():
        if value.shape != theirs[name].shape:
            shapes = f"{list(value.shape)} and {list(theirs[name].shape)}"
            return Finding(what="tensors", same=False, text=f"'{name}' has shapes {shapes}")
    pairs = _paired(first.tensors(), second.tensors())
    apart = {name: _apart(one, other) for name, one, other in pairs}
    worst = max(apart, key=lambda name: apart[name])
    differing = sum(amount > 0 for amount in apart.values())
    text = f"{len(apart)} of the same names and shapes"
    if differing:
        text += f"; {differing} differ in their numbers, most '{worst}' by {apart[worst]:.3g}"
    return Finding(what="tensors", same=True, text=text)


def _paired(
    first: Iterable[tuple[str, torch.Tensor]], second: Iterable[tuple[str, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield every name with both tensors; only what comes earlier on one side than on the other waits.

    What waits is mapped from its file and not yet read, unless an adapter was merged into it.
    """
    waiting: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = ({}, {})
    for pair in zip(first, second, strict=True):
        for side, (name, value) in enumerate(pair):
            other = waiting[1 - side].pop(name, None)
            if other is None:
                waiting[side][name] = value
            else:
                yield (name, value, other) if side == 0 else (name, other, value)


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).abs().max()) if ours.numel() else 0.0


def _camera_sizes(*contents: Content) -> dict[str, tuple[int, int]]:
    """Return height and width of the known robots' cameras; the last one's where several know one."""
    robots = (content.contract.robot for content in contents)
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
