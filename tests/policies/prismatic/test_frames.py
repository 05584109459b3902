"""A policy frames what the cameras give before its backbone sees it, wherever it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from openvla_toolkit.checkpoints.convert import convert
from openvla_toolkit.checkpoints.load import load_policy
from openvla_toolkit.core.contract import FrameRecipe
from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.core.images.framing import framed
from openvla_toolkit.core.types import Observation, Sample
from tests.policies.prismatic.conftest import Make

WAYS: list[Literal["original", "fused"]] = ["original", "fused"]


@pytest.mark.parametrize("way", WAYS)
def test_acting_sees_what_training_saw(
    make_policy: Make,
    observations: list[Observation],
    samples: list[Sample],
    way: Literal["original", "fused"],
) -> None:
    frame = FrameRecipe(resample=way, crop=0.5)
    processor = make_policy(frame=frame).processor
    for observation, sample in zip(observations, samples, strict=True):
        frames = {name: framed(picture, frame, size=(32, 32)) for name, picture in observation.images.items()}
        learned = processor.encode(replace(sample, images=frames))
        seen = processor.encode_observation(observation)
        np.testing.assert_array_equal(seen["pixel_values"], learned["pixel_values"])


def test_a_checkpoint_keeps_its_frame_and_another_may_be_asked_for(make_policy: Make, tmp_path: Path) -> None:
    frame, other = FrameRecipe(crop=0.9), FrameRecipe(resample="fused")
    make_policy(frame=frame).save(tmp_path)
    assert load_policy(tmp_path).contract.images.frame == frame
    assert load_policy(tmp_path, frame=other).contract.images.frame == other


def test_a_converted_policy_keeps_its_frame(make_policy: Make, tmp_path: Path) -> None:
    frame = FrameRecipe(crop=0.9)
    (tmp_path / "saved").mkdir()
    make_policy(frame=frame).save(tmp_path / "saved")
    convert(tmp_path / "saved", tmp_path / "converted", to="hf")
    assert load_policy(tmp_path / "converted").contract.images.frame == frame


def test_what_cannot_be_framed_is_said(make_policy: Make, observations: list[Observation]) -> None:
    processor = make_policy(frame=FrameRecipe(crop=0.9)).processor
    grey = {name: picture[..., 0] for name, picture in observations[0].images.items()}
    with pytest.raises(ContractMismatch, match=r"uint8 \[32, 32\]; uint8 \[height, width, 3\]"):
        processor.encode_observation(replace(observations[0], images=grey))
    with pytest.raises(ContractMismatch, match="no picture of camera 'primary'"):
        processor.encode_observation(replace(observations[0], images={}))
