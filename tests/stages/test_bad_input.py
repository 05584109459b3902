"""Bad data, line by line: by default a message that names the place, with ``on_error: skip`` a count.

| bad input              | test                                                             |
|------------------------|------------------------------------------------------------------|
| truncated shard        | ``test_a_truncated_shard``                                       |
| checksum               | ``test_a_wrong_checksum``                                        |
| undecodable frame      | ``test_an_undecodable_frame``, ``test_a_run_says_what_it_skipped`` |
| missing camera         | ``test_a_missing_camera``, ``test_a_frame_without_its_picture``  |
| empty instruction      | ``test_an_empty_instruction``                                    |
| NaN action             | ``test_a_number_that_is_none``                                   |
| wrong dimension        | ``test_a_wrong_dimension``                                       |
| empty split            | ``test_an_empty_split``                                          |
| unknown set in mixture | ``test_an_unknown_set_in_a_mixture``                             |
| different actions      | ``test_sets_of_different_actions``                               |
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.contract import Contract
from openvla_toolkit.core.errors import ContractMismatch, DataError, MissingFile, RecipeError
from openvla_toolkit.core.hooks import Observers, observe
from openvla_toolkit.core.types import Episode
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.mixtures import OpenXConfig
from openvla_toolkit.pipeline.samples import SampleSource
from openvla_toolkit.stages.prepare import Prepared, prepare, sources
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.testing import DotsEpisodesConfig, DotsRobotConfig, linear_policy
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes

GOLDEN = Path(__file__).parents[1] / "golden" / "rlds" / "data"
BAD = 2
"""The number of the damaged episode."""
FRAME = 1
"""The frame of it that is damaged."""


class Told:
    """Remembers what was told, by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, dict[str, Any]]] = {}

    @observe
    def metrics_logged(self, stage: str, step: int, values: dict[str, Any]) -> None:
        self.stages[stage] = (step, values)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVLA_CACHE", str(tmp_path / "cache"))


class BentConfig(DotsEpisodesConfig):
    """Episodes of which one is bent before it is read."""

    dataset: str = "bent"
    bend: str

    def build(self) -> DotsEpisodes:
        data = super().build()
        bend: Callable[[Episode, DotsEpisodes], Episode] = globals()[self.bend]
        data._episodes[BAD] = bend(data._episodes[BAD], data)
        return data


def bent(bend: Callable[[Episode, DotsEpisodes], Episode], **settings: Any) -> BentConfig:
    return BentConfig(bend=bend.__name__, **settings)


def no_number(episode: Episode, _: DotsEpisodes) -> Episode:
    actions = episode.actions.copy()
    actions[FRAME, 0] = np.nan
    return replace(episode, actions=actions)


def one_number_more(episode: Episode, _: DotsEpisodes) -> Episode:
    return replace(episode, actions=np.hstack([episode.actions, episode.actions[:, :1]]))


def nothing_said(episode: Episode, _: DotsEpisodes) -> Episode:
    return replace(episode, instructions=[""] * len(episode))


def without_picture(episode: Episode, data: DotsEpisodes) -> Episode:
    data._pictures[int(episode.images["primary"][FRAME]["offset"])] = b""
    return episode


def torn_picture(episode: Episode, data: DotsEpisodes) -> Episode:
    place = int(episode.images["primary"][FRAME]["offset"])
    data._pictures[place] = data._pictures[place][:200]
    return episode


def prepared(*configs: Any, told: Told | None = None) -> list[Prepared]:
    return prepare(configs, Observers([told] if told else []).tell)


def samples(
    items: list[Prepared], told: Told | None = None, *, cameras: tuple[str, ...] = ("primary",)
) -> SampleSource:
    """Return the samples of the first data set as a policy with these cameras would get them."""
    assert items[0].robot is not None
    contract: Contract = linear_policy(items[0].robot).contract.model_copy(update={"cameras": cameras})
    (source, *_), _ = sources(items, contract, seed=1, tell=Observers([told] if told else []).tell)
    return source


def bridge(folder: Path, **settings: Any) -> RLDSConfig:
    """Return a copy of a small RLDS set, to be damaged; its first shard holds several episodes."""
    shutil.copytree(GOLDEN / "bridge_orig", folder / "bridge_orig", dirs_exist_ok=True)
    return RLDSConfig(root=folder, dataset="bridge_orig", **settings)


def first_shard(config: RLDSConfig) -> Path:
    return min(Path(str(config.root)).glob("bridge_orig/*/*train*-00000-*"))


def test_a_truncated_shard(tmp_path: Path) -> None:
    config = bridge(tmp_path)
    shard, whole = first_shard(config), len(prepared(config)[0].dataset)
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{shard.name}.*(truncated|ends)"):
        prepared(config)
    told = Told()
    (item,) = prepared(config.model_copy(update={"on_error": "skip"}), told=told)
    assert item.index is not None
    lost = whole - item.index.episodes
    assert 0 < lost < whole
    assert told.stages["prepare skip bridge_orig"] == (
        item.index.episodes,
        {"total": whole, "dropped_damaged": lost},
    )
    assert all(shard.name in one.reason for one in item.index.skipped)


def flip(path: Path, place: int) -> None:
    """Change one byte and nothing else, not even the time of change."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_wrong_checksum(tmp_path: Path) -> None:
    config = bridge(tmp_path)
    whole = len(prepared(config)[0].dataset)
    flip(first_shard(config), 4000)
    with pytest.raises(DataError, match=rf"{first_shard(config).name}, episode 0: .*checksum"):
        prepared(config)
    told = Told()
    (item,) = prepared(config.model_copy(update={"on_error": "skip"}), told=told)
    assert item.index is not None
    assert (item.index.episodes, len(item.index.skipped)) == (whole - 1, 1)
    assert "episode 0" in item.index.skipped[0].reason
    assert told.stages["prepare skip bridge_orig"][1]["dropped_damaged"] == 1


def test_an_undecodable_frame(tmp_path: Path) -> None:
    """The picture's bytes are there and indexed; that they are no picture is seen when it is decoded."""
    config = bridge(tmp_path, verify=False, filters={"unlabeled": "drop"})
    (item,) = prepared(config)
    assert item.index is not None
    address = item.index.images["primary"][FRAME]
    flip(first_shard(config), int(address["offset"]))
    place = rf"{first_shard(config).name}, episode .*:0, frame {FRAME}, 'observation\.images\.primary': "
    with pytest.raises(DataError, match=rf"{place}cannot decode"):
        samples(prepared(config)).sample(FRAME, number=0)
    source = samples(prepared(config.model_copy(update={"on_error": "skip"})))
    assert source.sample(FRAME, number=0).skipped == 1
    assert source.sample(FRAME - 1, number=0).skipped == 0


def test_a_missing_camera() -> None:
    for on_error in ("raise", "skip"):  # every sample would be skipped
        items = prepared(DotsEpisodesConfig(on_error=on_error))
        with pytest.raises(DataError, match="'dots': no camera 'ceiling'; the data has primary, wrist"):
            samples(items, cameras=("ceiling",))


@pytest.mark.parametrize(
    ("bend", "reason"), [(without_picture, "there is no picture"), (torn_picture, "cannot decode")]
)
def test_a_frame_without_its_picture(bend: Any, reason: str) -> None:
    items = prepared(bent(bend))
    assert items[0].index is not None
    position = int(items[0].index.starts[BAD]) + FRAME
    place = rf"^memory, episode bent/{BAD}, frame {FRAME}, 'observation\.images\.primary': {reason}"
    with pytest.raises(DataError, match=place):
        samples(items).sample(position, number=0)
    source = samples(prepared(bent(bend, on_error="skip")))
    assert source.sample(position, number=0).skipped == 1


def test_an_empty_instruction() -> None:
    with pytest.raises(DataError, match=rf"^episode bent/{BAD}, frame 0, 'task': nothing was said to the"):
        prepared(bent(nothing_said))
    for settings in ({"on_error": "skip"}, {"filters": {"unlabeled": "drop"}}):
        told = Told()
        source = samples(prepared(bent(nothing_said, **settings), told=told), told)
        assert told.stages["prepare filter bent"] == (3, {"total": 4, "dropped_unlabeled": 1})
        assert {source.sample(one, number=0).skipped for one in range(len(source))} == {0}
    kept = samples(prepared(bent(nothing_said, filters={"unlabeled": "keep"})))
    assert len(kept) > len(source)


def test_a_number_that_is_none() -> None:
    place = rf"^episode bent/{BAD}, frame {FRAME}, 'action': a value is not finite"
    with pytest.raises(DataError, match=place):
        prepared(bent(no_number))
    assert skipped_reason(no_number).startswith(f"episode bent/{BAD}, frame {FRAME}, 'action': ")


def test_a_wrong_dimension() -> None:
    shapes = r"expected shape \(\d+, 3\), as the embodiment describes it \(x, y, gripper\); found \(\d+, 4\)"
    with pytest.raises(DataError, match=rf"^episode bent/{BAD}, 'action': {shapes}"):
        prepared(bent(one_number_more))
    assert "as the embodiment describes it" in skipped_reason(one_number_more)


def skipped_reason(bend: Any) -> str:
    """Return why one episode of four is left out, having seen that it was counted."""
    told = Told()
    (item,) = prepared(bent(bend, on_error="skip"), told=told)
    assert item.index is not None
    assert told.stages["prepare skip bent"] == (3, {"total": 4, "dropped_damaged": 1})
    (one,) = item.index.skipped
    return one.reason


def test_an_empty_split(tmp_path: Path) -> None:
    for on_error in ("raise", "skip"):
        with pytest.raises(RecipeError, match=r"'train\[3:3\]' selects no episode\. There are: train \("):
            prepared(bridge(tmp_path, split="train[3:3]", on_error=on_error))
        with pytest.raises(RecipeError, match=r"there is no split 'test'\. .*There are: train .*val"):
            prepared(bridge(tmp_path, split="test", on_error=on_error))


def test_an_unknown_set_in_a_mixture(caplog: pytest.LogCaptureFixture) -> None:
    place = "^mixture 'bridge_rt_1', member 'fractal20220817_data': "
    with pytest.raises(MissingFile, match=rf"{place}.* 'on_error: skip'"):
        prepared(OpenXConfig(mixture="bridge_rt_1", root=GOLDEN))
    told = Told()
    items = prepared(OpenXConfig(mixture="bridge_rt_1", root=GOLDEN, on_error="skip"), told=told)
    said = "mixture 'bridge_rt_1' does without 1 of 2 members: fractal20220817_data ("
    assert [line for line in caplog.messages if line.startswith(said)]
    done, values = told.stages["prepare mixture open-x"]
    assert (done, values["total"], values["dropped_missing"]) == (1, 2, 1)
    assert [item.name for item in items] == ["bridge_orig"]
    with pytest.raises(RecipeError, match="there is no mixture 'bridge_rt_2'"):
        prepared(OpenXConfig(mixture="bridge_rt_2", root=GOLDEN))


def test_sets_of_different_actions() -> None:
    """Nothing can be skipped here: one policy cannot learn both."""
    first, *rest = DotsRobotConfig().action
    other = DotsRobotConfig(action=(first.model_copy(update={"reference": "absolute"}), *rest))
    for on_error in ("raise", "skip"):
        configs = [
            DotsEpisodesConfig(on_error=on_error),
            DotsEpisodesConfig(dataset="other", embodiment=other, on_error=on_error),
        ]
        told = "'dots' and 'other' have different actions: 'x' is delta, 'x' is absolute"
        with pytest.raises(ContractMismatch, match=told):
            prepared(*configs)


def test_a_run_says_what_it_skipped(make_recipe: Any) -> None:
    recipe = make_recipe(data=[bent(torn_picture, on_error="skip")])
    run(recipe)
    lines = [json.loads(line) for line in (recipe.output / "metrics.jsonl").read_text().splitlines()]
    counts = [line.get("skipped/bent", 0) for line in lines if line["stage"] == "train"]
    assert sum(counts) >= 1
    assert len(counts) == 12


def test_a_run_stops_at_what_it_may_not_skip(make_recipe: Any) -> None:
    with pytest.raises(DataError, match=rf"episode bent/{BAD}, frame {FRAME}, .*: cannot decode 200 bytes"):
        run(make_recipe(data=[bent(torn_picture)]))
