"""The policy is read back for what is measured, and where it does not fit nothing of the training is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from openvla_toolkit.core.errors import OutOfMemory
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.testing import LinearPolicy


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that a policy was read from, in order."""
    load, folders = LinearPolicy.load.__func__, []  # type: ignore[attr-defined]

    def noted(cls: type[LinearPolicy], folder: Path, **options: Any) -> LinearPolicy:
        folders.append(folder)
        policy: LinearPolicy = load(cls, folder, **options)
        return policy

    monkeypatch.setattr(LinearPolicy, "load", classmethod(noted))
    return folders


def test_nothing_is_read_back_where_nothing_is_measured(make_recipe: Any, loaded: list[Path]) -> None:
    result = run(make_recipe(train={"self_check": "off", "keep_best": "loss"}))
    assert loaded == []
    assert result.checkpoint is not None
    assert result.self_check == []


@pytest.mark.parametrize(
    "measures",
    [
        {"train": {"self_check": "warn"}},
        {"train": {"self_check": "off"}, "benchmark": {"warmup": 0, "repeats": 1}},
        {"train": {"self_check": "off"}, "evaluate": [{"name": "open-loop", "data": "dots-episodes"}]},
    ],
)
def test_what_is_measured_is_what_was_saved(make_recipe: Any, loaded: list[Path], measures: Any) -> None:
    result = run(make_recipe(**measures))
    assert loaded == [result.checkpoint]


def test_where_it_does_not_fit_the_training_is_not_lost(
    make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds a part of the policy in training, and not the whole."""
    monkeypatch.setattr(LinearPolicy, "predict_chunks", lambda self, *words, **options: torch.empty(2**58))
    recipe = make_recipe()
    saved = recipe.output / "checkpoints" / "step-000012"
    with pytest.raises(OutOfMemory) as caught:
        run(recipe)
    said = str(caught.value)
    assert said.startswith(
        f"the training is done and saved in {saved}; there is no room to measure it here ("
    )
    assert (
        f"policy.weights={saved} and without 'train', on a larger device or with policy.dtype=bfloat16"
        in said
    )
    assert "train.self_check=off" in said
    assert "per_device" not in said
