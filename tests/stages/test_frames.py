"""``train.frames``: what a policy is trained on, its contract promises and its actions are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.contract import FrameRecipe
from openvla_toolkit.core.data_sections import Augment, Frames
from openvla_toolkit.core.errors import ContractMismatch, RecipeError
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.images.framing import framed
from openvla_toolkit.core.types import Observation, Sample
from openvla_toolkit.stages.prepare import prepare, robot_of, sources, statistics_of
from openvla_toolkit.stages.run_recipe import run
from openvla_toolkit.stages.training.train import train
from openvla_toolkit.testing import DotsEpisodesConfig, LinearPolicyConfig

CROPPED = FrameRecipe(resample="fused", crop=0.9)
FUSED = {"frames": {"resample": "fused"}}


def trained(result: Any) -> Any:
    assert result.checkpoint is not None
    return load_policy(result.checkpoint)


def test_a_policy_acts_on_the_middle_of_what_it_was_trained_on(make_recipe: Any) -> None:
    policy = trained(run(make_recipe(train=FUSED)))
    images = policy.contract.images
    assert images.frame == CROPPED
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    seen = policy.processor.encode_observation(Observation(images={"primary": picture}, instruction="go"))
    frame = framed(picture, CROPPED, size=(images.size, images.size))
    sample = Sample(
        images={"primary": frame},
        state=None,
        actions=np.zeros((1, 3), dtype=np.float32),
        instruction="go",
        dataset="dots",
    )
    np.testing.assert_array_equal(seen["features"], policy.processor.encode(sample)["features"])


def test_augmentation_changes_the_curve_and_workers_do_not(make_recipe: Any, read_curve: Any) -> None:
    plain = run(make_recipe("plain"))
    alone = run(make_recipe("alone", train=FUSED))
    beside = run(make_recipe("beside", train={**FUSED, "loader": {"workers": 2}}))
    assert read_curve(beside.output) == read_curve(alone.output)
    assert read_curve(plain.output) != read_curve(alone.output)


def test_a_silent_recipe_keeps_the_checkpoint_s_frames(make_recipe: Any) -> None:
    first = run(make_recipe("first", train=FUSED))
    weights = {"name": "dots-linear", "weights": str(first.checkpoint)}
    again = run(make_recipe("again", policy=weights))
    assert trained(again).contract.images.frame == CROPPED
    other = run(make_recipe("other", policy=weights, train={"frames": {"augment": None}}))
    assert trained(other).contract.images.frame == FrameRecipe(resample="original")


def test_two_opinions_are_refused(make_recipe: Any) -> None:
    policy = {"name": "dots-linear", "frame": {"crop": 0.5}}
    with pytest.raises(RecipeError, match=r"policy\.frame: .*crop=0\.5.* is not what 'train\.frames'"):
        run(make_recipe(policy=policy, train=FUSED))
    assert trained(run(make_recipe("alone", policy=policy))).contract.images.frame == FrameRecipe(crop=0.5)


def test_a_policy_that_promises_other_frames_is_not_trained(make_recipe: Any, tmp_path: Path) -> None:
    tell = Observers([]).tell
    prepared = prepare([DotsEpisodesConfig()], tell)
    policy = LinearPolicyConfig().build(robot=robot_of(prepared), statistics=statistics_of(prepared))
    section = make_recipe(train=FUSED).train
    with pytest.raises(ContractMismatch, match="would act on 'pictures as the camera gives them'"):
        train(section, policy, prepared, seed=0, output=tmp_path / "out", tell=tell)


def test_samples_are_framed_with_and_without_augmentation() -> None:
    tell = Observers([]).tell
    prepared = prepare([DotsEpisodesConfig()], tell)
    config = LinearPolicyConfig(frame=Frames().recipe())
    policy = config.build(robot=robot_of(prepared), statistics=statistics_of(prepared))

    def picture(augment: Augment | None, number: int) -> Any:
        (samples,), _ = sources(prepared, policy.contract, augment=augment, seed=0, tell=tell)
        return samples.sample(3, number=number).images["primary"]

    size = policy.contract.images.size
    assert picture(None, 0).shape == (size, size, 3)
    np.testing.assert_array_equal(picture(None, 0), picture(None, 1))
    np.testing.assert_array_equal(picture(Augment(), 1), picture(Augment(), 1))
    assert not np.array_equal(picture(Augment(), 0), picture(Augment(), 1))
