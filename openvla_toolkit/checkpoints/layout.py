"""Where the parts of a checkpoint lie, and which folders of a run are whole checkpoints.

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
    "TRAINING_STATE",
    "WEIGHTS_FILE",
    "checkpoints_of",
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

_STEP = re.compile(r"step-(\d+)")


def checkpoints_of(run: Path) -> list[Path]:
    """Return the whole checkpoints of a run folder, oldest first; unfinished ones have another name."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    found = {path: match for path in folder.iterdir() if (match := _STEP.fullmatch(path.name))}
    return sorted(found, key=lambda path: int(found[path].group(1)))
