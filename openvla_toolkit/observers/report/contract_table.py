"""The contract as lines that a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openvla_toolkit.core.contract import DIALECTS, Camera, Contract, Dimension, ImageRecipe, Normalization

__all__ = ["contract_rows"]

TIMES = " \u00d7 "


def contract_rows(content: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return what each part of a contract says, as (part, lines)."""
    contract = Contract.model_validate(content)
    robot, images, prompt = contract.robot, contract.images, contract.prompt
    return [
        ("Cameras, in order", [_camera(name, robot.cameras.get(name)) for name in contract.cameras]),
        ("Frames", [_frame(images)]),
        ("Pixels", [f"{images.strategy} to {images.size}{TIMES}{images.size}, {images.interpolation}"]),
        ("State", [_dimension(one) for one in robot.state] if contract.uses_state else ["not used"]),
        ("Action", [_dimension(one) for one in robot.action]),
        ("Actions per answer", [str(contract.chunk)]),
        ("Observations seen", [f"{contract.history}{', and pictures of the goal' * contract.goal}"]),
        ("Control rate", [f"{robot.control_hz:g} per second"]),
        ("Normalisation", [_normalization(contract.normalization)]),
        (
            "Prompt",
            [
                f"{prompt.builder}: “{prompt.question}”{', lower-cased' * prompt.lower}",
                f"actions as {prompt.action_tokenizer}",
            ],
        ),
    ]


def _camera(name: str, camera: Camera | None) -> str:
    if camera is None:
        return name
    parts = [f"{name}: {camera.width}{TIMES}{camera.height}"]
    parts += [f"turned by {camera.rotation}°"] if camera.rotation else []
    parts += [f"through {', '.join(camera.codec)}"] if camera.codec else []
    return ", ".join(parts)


def _frame(images: ImageRecipe) -> str:
    if images.frame is None:
        return "as the camera gives them"
    crop = "" if images.frame.crop is None else f", the middle {images.frame.crop:g} of the area"
    return f"{images.frame.resample} to {images.size}{TIMES}{images.size}{crop}"


def _normalization(rule: Normalization) -> str:
    known = [name for name, settings in DIALECTS.items() if Normalization(**settings) == rule]
    parts = [rule.method, f"eps {rule.eps:g}"]
    parts += ["clipped to [-1, 1]"] if rule.clip and rule.method != "normal" else []
    parts += ["grippers too"] if not rule.mask else []
    return ", ".join(parts) + "".join(f" ({name})" for name in known)


def _dimension(one: Dimension) -> str:
    unit = "" if one.unit == "1" else f" [{one.unit}]"
    parts = [f"{one.name}{unit}: {one.reference}, {one.frame} frame"]
    parts += [one.rotation] if one.rotation else []
    parts += [one.gripper.replace("_", " ")] if one.gripper else []
    return ", ".join(parts)
