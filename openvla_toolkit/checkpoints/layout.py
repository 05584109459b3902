"""Where the parts of a checkpoint lie, and which folders of a run are whole checkpoints.

runs/x/stopped-by                      which signal ended the run, if one did
runs/x/checkpoints/step-000200/        a policy folder: load_policy reads it
    config.json  model.safetensors  contract.json  dataset_statistics.json  tokenizer files
    training_state/                    what resuming needs besides: optimizer, random state, data cursor
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = [
    "ADAPTER_FILE",
    "BLOCK",
    "CONFIG_FILE",
    "CONTRACT_FILE",
    "PREPROCESSOR_FILE",
    "STATE_FILE",
    "STATISTICS_FILE",
    "STOPPED_FILE",
    "TRAINING_STATE",
    "WEIGHTS_FILE",
    "checkpoints_of",
    "step_of",
    "way_past",
]

BLOCK = "openvla_toolkit"
"""The key of ``config.json`` under which the toolkit keeps its own settings."""

CONFIG_FILE = "config.json"
ADAPTER_FILE = "adapter_config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
WEIGHTS_FILE = "model.safetensors"
CONTRACT_FILE = "contract.json"
STATISTICS_FILE = "dataset_statistics.json"
TRAINING_STATE = "training_state"
STATE_FILE = "state.json"
STOPPED_FILE = "stopped-by"
"""In a run folder: the name of the signal that the run was stopped by, once all that it saves is whole."""

_STEP = re.compile(r"step-\d+")


def checkpoints_of(run: Path) -> list[Path]:
    """Return the whole checkpoints of a run folder, oldest first; unfinished ones have another name."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STEP.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step that a run's checkpoint was saved after."""
    return int(checkpoint.name.removeprefix("step-"))


def way_past(damaged: Path) -> str:
    """Say how a run goes on that cannot read this checkpoint of its own, or a file in it."""
    checkpoint = next((path for path in (damaged, *damaged.parents) if _STEP.fullmatch(path.name)), None)
    if checkpoint is None:
        return "Go on from another checkpoint."
    before = [path for path in checkpoints_of(checkpoint.parents[1]) if step_of(path) < step_of(checkpoint)]
    there = f"goes on from {before[-1].name}" if before else "begins anew, since there is none before it"
    return f"Remove {checkpoint}; --resume then {there}."
