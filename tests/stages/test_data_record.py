"""A run is resumed on the data that it began with, and on no others."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.errors import DataError, RecipeError, UserError
from openvla_toolkit.mixtures import WeightedConfig
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.testing import DotsEpisodesConfig
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes

Change = Callable[..., None]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Make what lies under the name of every data set other episodes than before."""
    build = DotsEpisodesConfig.build

    def to(**settings: Any) -> None:
        def built(config: DotsEpisodesConfig) -> DotsEpisodes:
            return build(config.model_copy(update=settings))

        monkeypatch.setattr(DotsEpisodesConfig, "build", built)

    return to


def record_of(output: Path) -> dict[str, dict[str, Any]]:
    record: dict[str, dict[str, Any]] = json.loads((output / "data.lock.json").read_text())
    return record


def test_what_a_run_is_trained_on_is_written_down(make_recipe: Any) -> None:
    recipe = make_recipe()
    run(recipe)
    ((name, entry),) = record_of(recipe.output).items()
    assert (name, entry["episodes"], entry["samples"]) == ("dots", 4, entry["frames"])
    assert entry["fingerprint"] == DotsEpisodesConfig().build().describe().fingerprint
    run(recipe, resume=True)
    assert record_of(recipe.output) == {name: entry}


def test_other_content_is_refused(make_recipe: Any, change: Change) -> None:
    recipe = make_recipe()
    run(recipe)
    before = record_of(recipe.output)
    change(episodes=5)
    complaint = r"(?s)was trained on other data.*'dots': episodes were 4 and are 5, .*its files have changed"
    with pytest.raises(UserError, match=complaint) as caught:
        run(recipe, resume=True)
    assert "another output=FOLDER" in str(caught.value)
    assert record_of(recipe.output) == before, "what it began with stays known"


def test_data_that_lie_elsewhere_now_are_judged_by_what_they_are(make_recipe: Any, tmp_path: Path) -> None:
    def made(root: str, **settings: Any) -> Any:
        data = {"environment": "dots", "dataset": "made", "episodes": 2, "root": str(tmp_path / root)}
        return make_recipe(data=[{"name": "demonstrations", **data, **settings}])

    run(made("here"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert run(made("there"), resume=True).checkpoint is not None
    with pytest.raises(RecipeError, match=r"^data\.0\.seed: the run in .* was started with"):
        run(made("there", seed=3), resume=True)


def test_a_mixture_that_gained_or_lost_a_member_is_refused(
    make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(data=[{"name": "weighted", "data": [{"name": "dots-episodes", "dataset": "a"}]}])
    run(recipe)
    members = [DotsEpisodesConfig(dataset="b")]
    monkeypatch.setattr(WeightedConfig, "build", lambda config: members)
    with pytest.raises(UserError, match=r"(?s)'a' is no longer there.*'b' was not there"):
        run(recipe, resume=True)


def test_other_statistics_are_refused(make_recipe: Any, tmp_path: Path) -> None:
    run(make_recipe("first"))
    checkpoint = max((tmp_path / "first" / "checkpoints").iterdir())
    content = json.loads((checkpoint / "dataset_statistics.json").read_text())
    given = tmp_path / "given.json"
    given.write_text(json.dumps(content))
    recipe = make_recipe(data=[{"name": "dots-episodes", "statistics": str(given)}])
    run(recipe)
    content["dots"]["action"]["q99"][0] += 0.5
    given.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"'dots': its statistics are others\n"):
        run(recipe, resume=True)


def test_a_run_that_left_no_checkpoint_begins_anew(make_recipe: Any, change: Change) -> None:
    with pytest.raises(Exception, match="ceiling"):
        run(make_recipe(policy={"name": "dots-linear", "cameras": ["ceiling"]}))
    recipe = make_recipe()
    assert record_of(recipe.output)["dots"]["episodes"] == 4
    change(episodes=5)
    assert run(recipe, resume=True).checkpoint is not None
    assert record_of(recipe.output)["dots"]["episodes"] == 5


def test_without_a_record_the_data_are_taken_on_trust(
    make_recipe: Any, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = make_recipe()
    run(recipe)
    before = record_of(recipe.output)
    (recipe.output / "data.lock.json").unlink()
    with caplog.at_level(logging.WARNING):
        run(recipe, resume=True)
    assert [line for line in caplog.messages if "data.lock.json is missing" in line]
    assert record_of(recipe.output) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"dots": 4}'])
def test_a_damaged_record_is_named(make_recipe: Any, text: str) -> None:
    recipe = make_recipe()
    run(recipe)
    (recipe.output / "data.lock.json").write_text(text)
    with pytest.raises(DataError, match=r"data\.lock\.json: the record of the run's data is damaged"):
        run(recipe, resume=True)
