"""What a policy is trained on: pixels and ids, from the data set to the item of a batch."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.action_heads import TokensConfig
from openvla_toolkit.core.contract import ImageRecipe, Normalization
from openvla_toolkit.core.data_sections import Filters
from openvla_toolkit.pipeline.filters import choose
from openvla_toolkit.pipeline.mixture import epoch_length
from openvla_toolkit.pipeline.samples import EpisodeSource
from openvla_toolkit.policies.prismatic.images import Pixels
from openvla_toolkit.policies.prismatic.text import TextCode
from tests.conformance import kit
from tests.conformance.data_sets import measured, opened, splits
from tests.conformance.originals import asked, kit_tokenizer
from tests.conformance.test_trajectories import PLACE, READ, SIDE, original_size, recorded

STREAMS: list[dict[str, Any]] = kit.recorded("rlds/expected/rlds_dataset_end_to_end.json") or []
PIXELS = Pixels(ImageRecipe(size=SIDE, means=((0.5, 0.5, 0.5),), stds=((0.5, 0.5, 0.5),)))
TAGS = {
    case["dataset"]: tag
    for tag, case in READ.items()
    if case["traj_transform_kwargs"].get("skip_unlabeled") and case["train"]
}
"""Data set -> the trajectories that the samples were made of."""
LEARNED = [case for case in kit.cases("rlds/expected/batch_transform.json") if case["dataset"] in TAGS]
FRAMES = {
    hashlib.sha256(frame.tobytes()).hexdigest(): frame
    for name, frame in kit.arrays(f"{PLACE}.npz").items()
    if name.endswith("/first_frame")
}
"""Digest -> the pixels of a recorded picture."""


def of_a_sample(case: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    """Return the trajectory that a sample is of, its place in the windows, and the digest of its picture."""
    tag = TAGS[case["dataset"]]
    digests = READ[tag]["trajectories"][case["trajectory"]]["image_sha256"]["observation/image_primary"]
    return recorded(tag)[case["trajectory"]], READ[tag]["window_size"] - 1, digests[case["step"]][-1]


@pytest.mark.parametrize("number", range(len(LEARNED)))
def test_a_sample_is_of_its_frame(number: int) -> None:
    case = LEARNED[number]
    arrays, now, _ = of_a_sample(case)
    assert arrays["action"][case["step"], now].tolist() == np.float32(case["action"]).tolist()
    assert arrays["task/language_instruction"][case["step"]].lower() == case["language"].lower()
    assert arrays["dataset_name"][case["step"]] == case["dataset_name"]


@pytest.mark.parametrize("number", range(len(LEARNED)))
def test_samples_of_one_picture_have_the_same_pixels(number: int) -> None:
    wanted = LEARNED[number]["pixel_values_sha256"]
    for case in LEARNED:
        same = of_a_sample(case)[2] == of_a_sample(LEARNED[number])[2]
        assert (case["pixel_values_sha256"] == wanted) == same


KNOWN = [number for number, case in enumerate(LEARNED) if of_a_sample(case)[2] in FRAMES]


@pytest.mark.parametrize("number", KNOWN)
def test_pixels_of_a_recorded_picture(number: int) -> None:
    case = LEARNED[number]
    pixels = PIXELS(FRAMES[of_a_sample(case)[2]], camera="primary")
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["pixel_values_sha256"]


@cache
def ids_of(mix: str, split: str) -> frozenset[tuple[int, ...]]:
    """Return the ids of every sample that training on a data set draws from."""
    dataset, index, robot = opened(mix, split)
    statistics, rule = measured(mix), Normalization()
    choice = choose(index, statistics, Filters(unlabeled="drop"), rule, dataset=mix)
    source = EpisodeSource(
        dataset,
        index,
        statistics,
        robot=robot,
        normalization=rule,
        cameras=("primary",),
        chunk=1,
        frames=original_size,
        selection=choice.selection,
    )
    tokenizer = kit_tokenizer()
    code = TextCode.of(tokenizer, length_limit=2048)
    head = TokensConfig().build(
        vocabulary_size=code.vocabulary_size, end_id=code.end_id, separator_id=code.separator_id
    )
    found = set()
    for position in range(len(source)):
        sample = source.sample(position, number=position)
        prompt = np.array(tokenizer(asked("pure", sample.instruction.lower())).input_ids)
        found.add(tuple(head.targets(prompt, sample.actions)[0].tolist()))
    return frozenset(found)


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_every_item_of_a_stream_is_one_of_ours(number: int) -> None:
    case = STREAMS[number]
    train, validation = splits(case["mix"])
    told = {tuple(ids) for ids in case["all_input_ids_in_first_30"]}
    assert 0 < len(told) <= case["items_obtained_of_30_asked"]
    assert told <= ids_of(case["mix"], train if case["train"] else validation)
    if not case["train"]:  # so many frames are kept of what is validated on
        assert case["items_obtained_of_30_asked"] == case["shuffle_buffer_size"]


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_the_length_and_keys_of_a_stream(number: int) -> None:
    case = STREAMS[number]
    assert case["statistics_keys"] == [case["mix"]]
    size = measured(case["mix"]).num_transitions
    assert epoch_length([1.0], [size], balance=True) == case["length"]
    assert {"input_ids", "labels", "pixel_values"} == set(case["item_keys"]) - {"dataset_name"}
