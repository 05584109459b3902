from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.errors import MissingDependency
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.observers import WandBConfig


def records_of(file: Path) -> list[Any]:
    """Read the records of a small ``.wandb`` file: a LevelDB log of protocol buffers after seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, records = file.read_bytes(), 7, []
    while at + 7 <= len(content):
        _, length, whole = struct.unpack_from("<IHB", content, at)
        assert whole == 1, "a record that spans blocks"
        records.append(Record.FromString(content[at + 7 : at + 7 + length]))
        at += 7 + length
    return records


def records_of_ended(file: Path) -> list[Any]:
    """Wait for the last record: wandb's own process may write it after the run has ended here."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        records = records_of(file)
        if any(one.WhichOneof("record_type") == "exit" for one in records):
            return records
        time.sleep(0.05)
    raise TimeoutError(f"wandb did not end {file}")


@pytest.mark.parametrize("error", [None, RuntimeError("stopped")])
def test_an_offline_run_is_kept_in_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    output = tmp_path / "my-run"
    observers = Observers([WandBConfig(mode="offline", project="arms", group="tests").build()])
    observers.tell.run_started(recipe=Recipe(output=output, seed=11, observers=[]), output=output)
    observers.tell.metrics_logged(stage="train", step=10, values={"loss": 2.0, "total": 20})
    observers.tell.metrics_logged(stage="evaluate after", step=5, values={"success": 0.5})
    observers.tell.run_finished(error=error)
    assert observers.names == ("wandb",)

    (file,) = output.glob("wandb/offline-run-*/run-*.wandb")
    records = records_of_ended(file)
    (run,) = [one.run for one in records if one.WhichOneof("record_type") == "run"]
    assert (run.display_name, run.project, run.run_group) == ("my-run", "arms", "tests")
    assert {item.key: item.value_json for item in run.config.update}["seed"] == "11"
    logged = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in one.history.item}
        for one in records
        if one.WhichOneof("record_type") == "history"
    ]
    assert logged[0].items() >= {"train/step": 10, "train/loss": 2.0}.items()
    assert logged[1].items() >= {"evaluate/after/step": 5, "evaluate/after/success": 0.5}.items()
    assert "train/total" not in logged[0]
    (end,) = [one.exit for one in records if one.WhichOneof("record_type") == "exit"]
    assert end.exit_code == (0 if error is None else 1)


def test_it_says_where_the_run_is_and_no_more(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.observers import WandBConfig

output = Path({str(tmp_path / "my-run")!r})
observers = Observers([WandBConfig(mode="offline").build()])
observers.tell.run_started(recipe=Recipe(output=output, observers=[]), output=output)
print("of the run")
observers.tell.metrics_logged(stage="train", step=10, values={{"loss": 2.0}})
observers.tell.run_finished(error=None)
"""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    words = [sys.executable, "-c", script]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    (folder,) = (tmp_path / "my-run/wandb").glob("offline-run-*")
    assert (done.returncode, done.stdout) == (0, "of the run\n")
    assert done.stderr == f"wandb: {folder}\n"


def test_without_wandb_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "openvla_toolkit.observers.wandb", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependency, match=r"observer 'wandb' needs wandb: pip install"):
        WandBConfig().build()


def test_a_resumed_run_goes_on_under_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    output, ids = tmp_path / "my-run", []
    for _ in range(2):
        observers = Observers([WandBConfig(mode="offline").build()])
        observers.tell.run_started(recipe=Recipe(output=output, observers=[]), output=output)
        observers.tell.run_finished(error=None)
        newest = max(output.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime_ns)
        (told,) = [one.run for one in records_of_ended(newest) if one.WhichOneof("record_type") == "run"]
        ids.append(told.run_id)
    known = json.loads((output / "trackers.json").read_text())
    assert ids == [known["wandb"], known["wandb"]]
