"""MLflow's own store of files, read back by MLflow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.errors import MissingDependency
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.observers import MLflowConfig

pytestmark = pytest.mark.filterwarnings("ignore::Warning:mlflow.*")


def told(output: Path, steps: range, *, error: BaseException | None = None) -> None:
    """Tell the observer of a run."""
    observers = Observers([MLflowConfig(experiment="arms").build()])
    observers.tell.run_started(recipe=Recipe(output=output, seed=11, observers=[]), output=output)
    for step in steps:
        observers.tell.metrics_logged(
            stage="train", step=step, values={"loss": 1 / step, "l1.x": 0.5, "total": 9}
        )
    observers.tell.metrics_logged(stage="evaluate after", step=5, values={"success": 0.5})
    observers.tell.run_finished(error=error)
    assert observers.names == ("mlflow",)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what a store holds: the runs of the experiment, and a client."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow.tracking import MlflowClient

    def read(output: Path) -> tuple[Any, list[Any]]:
        client = MlflowClient((output / "mlruns").resolve().as_uri())
        return client, client.search_runs([client.get_experiment_by_name("arms").experiment_id])

    return read


def test_a_resumed_run_goes_on_in_the_same_one(tmp_path: Path, stored: Any) -> None:
    output = tmp_path / "my-run"
    told(output, range(1, 3), error=RuntimeError("stopped"))
    assert [run.info.status for run in stored(output)[1]] == ["FAILED"]
    told(output, range(3, 5))
    client, (run,) = stored(output)
    assert (run.info.run_name, run.info.status) == ("my-run", "FINISHED")
    assert run.data.params["seed"] == "11"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in history] == [(step, 1 / step) for step in range(1, 5)]
    assert {"train/l1.x", "evaluate/after/success"} <= run.data.metrics.keys()
    assert "train/total" not in run.data.metrics


def test_figures_of_data_sets_stand_beside_those_of_all(tmp_path: Path, stored: Any) -> None:
    """A store of files cannot have a file and a folder of one name."""
    values = {"token_accuracy": 0.5, "token_accuracy/aa": 0.25, "token_accuracy/b+(b)": 0.75, "l1.x": 0.1}
    for steps in (range(1, 3), range(2, 4)):
        observers = Observers([MLflowConfig(experiment="arms").build()])
        observers.tell.run_started(recipe=Recipe(output=tmp_path, observers=[]), output=tmp_path)
        for step in steps:
            observers.tell.metrics_logged(stage="train", step=step, values=values)
        observers.tell.run_finished(error=None)
        assert observers.names == ("mlflow",)
    client, (run,) = stored(tmp_path)
    names = {"token_accuracy", "token_accuracy.aa", "token_accuracy.b__b_", "l1.x"}
    assert run.data.metrics.keys() == {f"train/{name}" for name in names}
    for name in names:
        steps_of = [one.step for one in client.get_metric_history(run.info.run_id, f"train/{name}")]
        assert steps_of == [1, 2, 2, 3], "MLflow keeps both numbers of a step that was taken again"


def test_ids_that_cannot_be_read_drop_the_observer_alone(
    tmp_path: Path, stored: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trackers.json").write_text("{")
    observers = Observers([MLflowConfig().build()])
    observers.tell.run_started(recipe=Recipe(output=tmp_path, observers=[]), output=tmp_path)
    assert observers.names == ()
    assert "trackers.json" in capsys.readouterr().err


def test_without_mlflow_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("mlflow.") or name == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "openvla_toolkit.observers.mlflow", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'openvla-toolkit\[mlflow\]'"):
        MLflowConfig().build()
