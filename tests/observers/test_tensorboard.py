from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from openvla_toolkit.core.errors import MissingDependency
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.observers import TensorBoardConfig


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def tags(folder: Path) -> list[str]:
    return list(read(folder).Tags()["scalars"])


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in read(folder).Scalars(tag)]


def test_event_files_can_be_read_back(tmp_path: Path) -> None:
    observers = Observers([TensorBoardConfig(folder="events").build()])
    observers.tell.run_started(recipe=None, output=tmp_path)
    for step, loss in ((10, 2.0), (20, 1.5)):
        observers.tell.metrics_logged(stage="train", step=step, values={"loss": loss, "total": 20})
    observers.tell.metrics_logged(stage="evaluate after-0-x", step=5, values={"success": 0.5})
    observers.tell.run_finished(error=None)
    assert observers.names == ("tensorboard",)
    assert sorted(tags(tmp_path / "events/evaluate/after-0-x")) == ["evaluate/after-0-x/success"]
    assert sorted(tags(tmp_path / "events/train")) == ["train/loss"]
    assert scalars(tmp_path / "events/train", "train/loss") == [(10, 2.0), (20, 1.5)]


def test_steps_that_a_resumed_run_took_again_stand_once(tmp_path: Path) -> None:
    for part, steps in enumerate([(10, 20, 30), (20, 30, 40)]):
        observers = Observers([TensorBoardConfig().build()])
        observers.tell.run_started(recipe=None, output=tmp_path)
        if part == 0:
            observers.tell.metrics_logged(stage="evaluate before", step=200, values={"success": 0.5})
        observers.tell.metrics_logged(stage="prepare index x", step=1, values={"total": 1})
        for step in steps:
            observers.tell.metrics_logged(stage="train", step=step, values={"loss": float(part)})
        observers.tell.run_finished(error=None)
    folder = tmp_path / "tensorboard"
    assert scalars(folder / "train", "train/loss") == [(10, 0.0), (20, 1.0), (30, 1.0), (40, 1.0)]
    assert scalars(folder / "evaluate/before", "evaluate/before/success") == [(200, 0.5)]
    assert sorted(path.name for path in folder.iterdir()) == ["evaluate", "train"]


def test_without_tensorboard_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "openvla_toolkit.observers.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependency, match=r"pip install 'openvla-toolkit\[tensorboard\]'"):
        TensorBoardConfig().build()
