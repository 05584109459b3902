"""Statistics from a file: the right entry, of the right width, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import ContractMismatch, DataError, MissingFile
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.pipeline.given_statistics import given_statistics
from openvla_toolkit.stages.prepare import prepare
from openvla_toolkit.testing import DotsEpisodesConfig, DotsRobotConfig
from openvla_toolkit.testing.fakes.linear import unit_statistics

ROBOT = DotsRobotConfig().build()


def written(folder: Path, content: Any) -> Path:
    path = folder / "dataset_statistics.json"
    path.write_text(json.dumps(content))
    return path


def entry(scale: float = 1.0) -> dict[str, Any]:
    content = unit_statistics(ROBOT).to_json()
    content["action"]["max"] = [scale] * len(ROBOT.action)
    return content


@pytest.mark.parametrize(
    ("content", "scale"),
    [
        (entry(2), 2),
        ({"dots": entry(3), "other": entry()}, 3),
        ({"another": entry(4)}, 4),
    ],
    ids=["bare", "of the same name", "the only one"],
)
def test_the_entry_that_is_meant_is_read(tmp_path: Path, content: Any, scale: float) -> None:
    found = given_statistics(written(tmp_path, content), dataset="dots", robot=ROBOT)
    assert found.action.max.tolist() == [scale] * len(ROBOT.action)


def test_grippers_are_masked_where_the_file_has_no_mask(tmp_path: Path) -> None:
    content = entry()
    del content["action"]["mask"]
    found = given_statistics(written(tmp_path, content), dataset="dots", robot=ROBOT)
    assert found.action.mask.tolist() == [number.gripper is None for number in ROBOT.action]
    assert not found.action.mask.all()


def test_a_file_of_several_others_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"b": entry(), "a": entry()})
    with pytest.raises(ContractMismatch, match=r"no statistics of 'dots', but of a, b: write the one"):
        given_statistics(path, dataset="dots", robot=ROBOT)


@pytest.mark.parametrize(("key", "what"), [("action", "the action"), ("proprio", "the state")])
def test_another_number_of_dimensions_is_refused(tmp_path: Path, key: str, what: str) -> None:
    content = entry()
    content[key] = {name: [*row, row[-1]] for name, row in content[key].items()}
    with pytest.raises(ContractMismatch, match=rf"'dots' are of \d numbers of {what}; 'dots' has \d"):
        given_statistics(written(tmp_path, {"dots": content}), dataset="dots", robot=ROBOT)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"there are no statistics at .*nothing\.json"):
        given_statistics(tmp_path / "nothing.json", dataset="dots", robot=ROBOT)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"dots": {"action": 1}}', '{"dots": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"damaged\.json"):
        given_statistics(path, dataset="dots", robot=ROBOT)


def test_a_run_uses_them_instead_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVLA_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, {"pre-training": entry(5)})
    own, given = (
        prepare([DotsEpisodesConfig(dataset="dots", statistics=file)], Observers().tell)[0].statistics
        for file in (None, path)
    )
    assert own is not None
    assert given is not None
    np.testing.assert_array_equal(given.action.max, np.full(len(ROBOT.action), 5.0))
    assert (own.action.max != given.action.max).all()
