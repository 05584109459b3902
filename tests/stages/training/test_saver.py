"""Checkpoints beside the training: told when whole, kept by figure, failures raised where they are heard."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from openvla_toolkit.checkpoints.layout import STATE_FILE, TRAINING_STATE, checkpoints_of
from openvla_toolkit.core.errors import StorageError, UserError
from openvla_toolkit.core.hooks import Observers, observe
from openvla_toolkit.core.sections import KeepBest
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.stages.training.saver import Saver
from openvla_toolkit.testing import DotsConfig, linear_policy


class Gate:
    """An engine with nothing to save, whose part is written when somebody opens the gate."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.error: BaseException | None = None

    def full_weights(self, names: Collection[str] | None = None) -> Mapping[str, Tensor] | None:
        return None

    def save(self) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            assert self.open.wait(60)
            if self.error is not None:
                raise self.error

        return write


class Ear:
    name = "ear"

    def __init__(self) -> None:
        self.heard: list[tuple[int, Path]] = []

    @observe
    def checkpoint_saved(self, step: int, path: Path) -> None:
        self.heard.append((step, path))


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def saver(gate: Gate, ear: Ear, tmp_path: Path) -> Saver:
    policy: Any = linear_policy(DotsConfig().interface())
    engine: Any = gate
    return Saver(policy, engine, output=tmp_path, keep=2, keep_best=None, tell=Observers([ear]).tell)


def test_training_goes_on_while_a_checkpoint_is_written(
    saver: Saver, gate: Gate, ear: Ear, tmp_path: Path
) -> None:
    saver.save(3, {"figures": {}})
    saver.poll()
    assert (ear.heard, saver.last, checkpoints_of(tmp_path)) == ([], None, [])
    gate.open.set()
    saver.finish()
    path = tmp_path / "checkpoints" / "step-000003"
    assert (ear.heard, saver.last, checkpoints_of(tmp_path)) == ([(3, path)], path, [path])
    assert json.loads((path / TRAINING_STATE / STATE_FILE).read_text()) == {"step": 3, "figures": {}}


def test_what_went_wrong_is_raised_in_the_loop(saver: Saver, gate: Gate, ear: Ear, tmp_path: Path) -> None:
    gate.error = StorageError("the disk is gone.")
    gate.open.set()
    saver.save(3, {"figures": {}})
    with pytest.raises(StorageError, match="the disk is gone"):
        saver.save(6, {"figures": {}})
    assert (ear.heard, saver.last) == ([], None)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("keep_best", "kept"),
    [
        (None, [4, 5]),
        (KeepBest(), [2, 4, 5]),
        (KeepBest(metric="loss", best="highest"), [1, 4, 5]),
        (KeepBest(metric="accuracy", best="highest"), [2, 4, 5]),
        (KeepBest(metric="spoilt"), [3, 4, 5]),
        (KeepBest(metric="spoilt", best="highest"), [1, 4, 5]),
        (KeepBest(metric="validation/loss"), [4, 5]),
    ],
)
def test_the_best_checkpoint_stays(
    keep_best: KeepBest | None, kept: list[int], gate: Gate, ear: Ear, tmp_path: Path
) -> None:
    """Of equals the older one, never one whose figure is not finite or not there.

    One that is both best and among the newest takes no other's place.
    """
    gate.open.set()
    policy: Any = linear_policy(DotsConfig().interface())
    engine: Any = gate
    figures = {1: (3.0, 0.1), 2: (1.0, 0.9), 3: (2.0, 0.9), 4: (2.0, 0.2), 5: (1.5, 0.3)}
    spoilt: dict[int, dict[str, float]] = {
        1: {"spoilt": 2.0},
        2: {"spoilt": math.nan},
        3: {"spoilt": 1.0},
        4: {"spoilt": math.inf},
        5: {"spoilt": -math.inf},
    }
    for step, (loss, accuracy) in figures.items():  # a resumed run has a new saver
        saver = Saver(
            policy, engine, output=tmp_path, keep=2, keep_best=keep_best, tell=Observers([ear]).tell
        )
        saver.save(step, {"figures": {"loss": loss, "accuracy": accuracy, **spoilt[step]}})
        saver.finish()
    assert [int(path.name[-2:]) for path in checkpoints_of(tmp_path)] == kept


@pytest.mark.parametrize(("figure", "meant"), [("los", "loss"), ("token_acuracy", "token_accuracy")])
def test_a_misspelt_figure_is_refused_first(figure: str, meant: str, make_recipe: Any) -> None:
    recipe = make_recipe(train={"keep_best": figure})
    with pytest.raises(
        UserError, match=rf"^train\.keep_best: no figure '{figure}'\. Did you mean '{meant}'\?"
    ):
        run(recipe)
    assert not recipe.output.exists()


def test_a_figure_that_is_not_told_keeps_nothing_from_being_saved(
    make_recipe: Any, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = make_recipe(train={"keep_best": "smoothness", "save_every": 5, "keep": 1})
    run(recipe)
    assert [path.name for path in checkpoints_of(recipe.output)] == ["step-000012"]
    said = [record for record in caplog.records if "no figure 'smoothness'" in record.getMessage()]
    assert len(said) == 1


def test_the_recipe_keeps_the_best(make_recipe: Any, read_curve: Any) -> None:
    recipe = make_recipe(
        train={"save_every": 1, "keep": 1, "keep_best": {"metric": "loss", "best": "highest"}}
    )
    run(recipe)
    losses = {step: line["loss"] for step, line in read_curve(recipe.output).items()}
    worst = max(losses, key=losses.__getitem__)
    assert [path.name for path in checkpoints_of(recipe.output)] == [f"step-{worst:06d}", "step-000012"]
