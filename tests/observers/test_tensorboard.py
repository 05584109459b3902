from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from openvla_toolkit.core.errors import MissingDependency
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.observers import TensorBoardConfig


def test_event_files_can_be_read_back(tmp_path: Path) -> None:
    observers = Observers([TensorBoardConfig(folder="events").build()])
    observers.tell.run_started(recipe=None, output=tmp_path)
    for step, loss in ((10, 2.0), (20, 1.5)):
        observers.tell.metrics_logged(stage="train", step=step, values={"loss": loss, "total": 20})
    observers.tell.metrics_logged(stage="evaluate after-0-x", step=5, values={"success": 0.5})
    observers.tell.run_finished(error=None)
    assert observers.names == ("tensorboard",)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["evaluate/after-0-x/success", "train/loss"]
    assert [(one.step, one.value) for one in events.Scalars("train/loss")] == [(10, 2.0), (20, 1.5)]


def test_without_tensorboard_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "openvla_toolkit.observers.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependency, match=r"pip install 'openvla-toolkit\[tensorboard\]'"):
        TensorBoardConfig().build()
