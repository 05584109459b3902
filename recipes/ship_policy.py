"""Put a finished run's policy among those that come with the package.

    python recipes/ship_policy.py runs/tabletop-pretrain tabletop-tiny

Writes ``openvla_toolkit/catalog/policies/<name>/``: the policy in bfloat16, the run's lock file and curves,
and a model card made from its figures.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import openvla_toolkit
from openvla_toolkit.core.storage import atomic_folder
from openvla_toolkit.stages.evaluate import RESULT_FILE

CATALOG = Path(openvla_toolkit.__file__).parent / "catalog" / "policies"


def main(run: Path, name: str) -> None:
    """Copy what the run in ``run`` trained to the catalog under ``name``."""
    policy: Any = openvla_toolkit.load_policy(run)
    policy.config = policy.config.model_copy(update={"weights": None})  # where it lay here concerns nobody
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if line["stage"] == "train"]
    with atomic_folder(CATALOG / name, replace=True) as folder:
        policy.save(folder, dtype=torch.bfloat16)
        shutil.copy(run / "recipe.lock.yaml", folder)
        (folder / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in thinned(training)))
        (folder / "README.md").write_text(card(name, run, training))


def card(name: str, run: Path, training: list[dict[str, Any]]) -> str:
    """Write the model card from the run's own files."""
    lock = yaml.safe_load((run / "recipe.lock.yaml").read_text())
    machine, last = lock["lock"]["cpu"], training[-1]
    hours = (
        sum(
            lock["train"]["batch"]["total"] * _steps(training, i) / line["samples_per_second"]
            for i, line in enumerate(training)
        )
        / 3600
    )
    results = sorted(run.glob(f"evaluation/after-*/{RESULT_FILE}"))
    figures = [line for path in results for line in json.loads(path.read_text())["summary"]]
    table = "\n".join(
        f"| {key} | {value} |"
        for key, value in {
            "recipe": f"`recipes/{run.name}.yaml` (with every default in `recipe.lock.yaml`)",
            "seed": lock["seed"],
            "steps x batch": f"{lock['train']['steps']} x {lock['train']['batch']['total']}",
            "hours of training": f"{hours:.2f}",
            "machine": f"{machine['count']} cores, {machine['model']}, no GPU",
            "last loss": f"{last['loss']:.3f}",
            "last token accuracy": f"{last.get('token_accuracy', last.get('text_accuracy')):.3f}",
            "curves": "`curves.jsonl`",
        }.items()
    )
    measured = "\n".join(figures) or "Not a policy to be run: it was trained on conversations alone."
    figures_block = f"Closed loop, on episodes it was not trained on:\n\n```text\n{measured}\n```\n"
    return f"# {name}\n\n| | |\n|---|---|\n{table}\n\n{figures_block}"


def thinned(training: list[dict[str, Any]], every: int = 5) -> list[dict[str, Any]]:
    """Return every fifth line and the last one, which says where the training ended."""
    return [line for i, line in enumerate(training) if i % every == 0 or i == len(training) - 1]


def _steps(training: list[dict[str, Any]], index: int) -> int:
    return int(training[index]["step"] - (training[index - 1]["step"] if index else 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
