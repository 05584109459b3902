"""From a source to a policy in memory, whatever kind of policy it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from openvla_toolkit.checkpoints.layout import CONFIG_FILE
from openvla_toolkit.checkpoints.locate import locate
from openvla_toolkit.core.errors import CheckpointError
from openvla_toolkit.core.registry import load
from openvla_toolkit.interfaces.policy import Policy, PolicyConfig

__all__ = ["BLOCK", "load_policy", "policy_block", "read_settings"]

BLOCK = "openvla_toolkit"
"""The key of ``config.json`` under which the toolkit keeps its own settings."""


def load_policy(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> Policy:
    """Load a policy from a folder, a run folder, a shipped name (``tabletop-tiny``) or a hub id.

    Args:
        device: where the parameters go (``cpu``, ``cuda``, ``cuda:1``).
        dtype: their number type in memory.

    Raises:
        MissingFile: nothing goes by that name.
        CheckpointError: the checkpoint is damaged or does not fit its settings.
        UnknownComponent: a component it was made with is not installed.
    """
    folder = locate(source)
    settings = read_settings(folder)
    config = settings.model_copy(update={"weights": str(folder), "dtype": dtype})
    policy: Policy = config.build()
    policy.module.to(device)
    policy.module.eval()
    return policy


def read_settings(folder: Path) -> PolicyConfig:
    """Read the settings that the policy in a folder was made with.

    Raises:
        CheckpointError: there are none, or they are damaged.
    """
    place = folder / CONFIG_FILE
    try:
        block = json.loads(place.read_text())[BLOCK]
        settings = block["policy"]
        name = settings["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{place} has no block '{BLOCK}' with a policy's settings: the toolkit did not write it "
            f"({error!r})."
        ) from error
    config = load("policy", name)
    try:
        return config.model_validate(settings)  # type: ignore[return-value]
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise CheckpointError(f"{place}: {BLOCK}.policy.{where}: {problem['msg']}.") from error


def policy_block(config: PolicyConfig) -> dict[str, Any]:
    """Return what ``read_settings`` reads back, to be stored under ``BLOCK``."""
    from openvla_toolkit import __version__

    return {"version": __version__, "policy": config.model_dump(mode="json", exclude={"dtype"})}
