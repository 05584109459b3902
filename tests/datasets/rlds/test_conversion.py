from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.interfaces.dataset import WritePlan
from openvla_toolkit.pipeline.convert import Job, convert
from openvla_toolkit.testing import DotsEpisodesConfig

SOURCE = DotsEpisodesConfig(episodes=4, dataset="dots")


def written(folder: Path, **settings: Any) -> RLDSConfig:
    done = convert(
        Job(source=SOURCE, destination=folder / "copy", to="rlds", settings=settings, shard_frames=4)
    )
    assert isinstance(done.config, RLDSConfig)
    return done.config


def test_shards_are_named_and_counted_as_tfds_does(tmp_path: Path) -> None:
    dataset = written(tmp_path, version="2.1.0").build()
    files = [Path(file).name for file in dataset.describe().files]
    assert len(files) > 1
    assert files[0] == f"copy-train.tfrecord-00000-of-{len(files):05d}"
    assert sorted(path.name for path in (tmp_path / "copy" / "2.1.0").glob("copy-*")) == files
    assert dataset.describe().robot == SOURCE.build().describe().robot


def test_steps_have_the_keys_of_the_field(tmp_path: Path) -> None:
    trajectory = written(tmp_path).build().trajectory(0)
    assert trajectory["is_first"].tolist() == [True] + [False] * (len(trajectory["action"]) - 1)
    assert trajectory["is_last"].tolist() == trajectory["is_first"].tolist()[::-1]
    assert sorted(trajectory["observation"]) == ["image_primary", "image_wrist", "state"]
    assert set(trajectory["traj_metadata"]["episode_metadata"]["file_path"]) == {SOURCE.build()[0].name}


def test_pictures_keep_their_bytes_or_become_png(tmp_path: Path) -> None:
    source = SOURCE.build()
    told = source.image(source[0].images["primary"][0])
    kept = written(tmp_path / "jpeg").build()
    assert kept.image(kept[0].images["primary"][0]) == told
    anew = written(tmp_path / "png", pictures="png").build()
    stored = anew.image(anew[0].images["primary"][0])
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode(stored), decode(told))


def test_a_wrong_setting_is_named() -> None:
    robot = SOURCE.build().describe().robot
    assert robot is not None
    plan = WritePlan(
        name="x",
        robot=robot,
        cameras=[],
        lengths=[1],
        instructions=["go"],
        keeps=False,
        splits={"train": (0, 1)},
        shards=[(0, 1)],
    )
    with pytest.raises(RecipeError, match="version"):
        RLDSConfig.writer(plan, {"version": "one"})
