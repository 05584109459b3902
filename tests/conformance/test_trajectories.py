"""Samples of the original's pipeline without shuffling: what each frame of each trajectory becomes.

What the original calls a trajectory of windows, ours is samples with a history and a chunk of actions. It
also puts the actions of the frames before into a window: each is the first of that frame's own sample.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Normalization
from openvla_toolkit.core.data_sections import Filters
from openvla_toolkit.core.errors import DataError, RecipeError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.images.resampling import resize_lanczos3
from openvla_toolkit.core.types import EncodedImage, Sample
from openvla_toolkit.pipeline.filters import choose
from openvla_toolkit.pipeline.samples import EpisodeSource
from tests.conformance import kit
from tests.conformance.data_sets import Opened, measured, opened, reader, splits

PLACE = "rlds/expected/trajectories"
CASES: list[dict[str, Any]] = kit.recorded(f"{PLACE}.json") or []
READ = {case["tag"]: case for case in CASES if "error" not in case}
REFUSED = {case["tag"]: case for case in CASES if "error" in case}
FILTERS = {"skip_unlabeled": "unlabeled", "max_action": "max_action", "max_proprio": "max_state"}
"""What the original calls a filter -> what we do."""
SIDE = 224
IMAGE = "observation/image_"
NOTHING = hashlib.sha256(bytes(SIDE * SIDE * 3)).hexdigest()
"""The black picture that the original puts where a data set has no such camera."""


class Trajectory(NamedTuple):
    """The samples of one episode that passed the filters."""

    frames: list[int]
    """Of the index."""
    samples: list[Sample]


@cache
def resized(encoded: bytes) -> NDArray[np.uint8]:
    return resize_lanczos3(decode(encoded, dct="fast"), (SIDE, SIDE))


def original_size(encoded: EncodedImage, *, number: int, camera: str) -> NDArray[np.uint8]:
    assert isinstance(encoded, bytes)
    return resized(encoded)


def cameras(case: dict[str, Any]) -> tuple[str, ...]:
    """Return the views that the data set has; for the others the original has black pictures."""
    there = reader(case["dataset"]).card().cameras
    return tuple(view for view in case["views"] if view in there)


def part(case: dict[str, Any]) -> Opened:
    train, validation = splits(case["dataset"])
    return opened(case["dataset"], train if case["train"] else validation)


def filters(case: dict[str, Any]) -> Filters:
    given = {FILTERS[key]: value for key, value in case["traj_transform_kwargs"].items()}
    return Filters(**{**given, "unlabeled": "drop" if given.get("unlabeled") else "keep"})


def source(case: dict[str, Any], **other: Any) -> EpisodeSource:
    dataset, index, robot = part(case)
    statistics, rule = measured(case["dataset"]), Normalization(method=case["normalization"])
    choice = choose(index, statistics, filters(case), rule, dataset=case["dataset"])
    wanted = {
        "cameras": cameras(case),
        "chunk": case["future_action_window_size"] + 1,
        "history": case["window_size"],
    }
    return EpisodeSource(
        dataset,
        index,
        statistics,
        robot=robot,
        normalization=rule,
        frames=original_size,
        selection=choice.selection,
        **{**wanted, **other},
    )


@cache
def trajectories(tag: str) -> list[Trajectory]:
    """Return our samples, episode by episode."""
    case = READ[tag]
    samples, index = source(case), part(case).index
    found: dict[int, Trajectory] = {}
    for position in range(len(samples)):
        frame = samples._frame(position)
        here = found.setdefault(index.episode_of(frame), Trajectory([], []))
        here.frames.append(frame)
        here.samples.append(samples.sample(position, number=position))
    return list(found.values())


@cache
def recorded(tag: str) -> list[dict[str, NDArray[Any]]]:
    """Return what the original made of every trajectory; texts as arrays of str."""
    arrays = kit.arrays(f"{PLACE}.npz")
    found = []
    for trajectory in READ[tag]["trajectories"]:
        prefix = f"{tag}/{trajectory['index']}/"
        told = {key: arrays[prefix + key] for key in trajectory["arrays"] if prefix + key in arrays}
        for key, content in trajectory["arrays"].items():
            if isinstance(content, dict):
                words = [content["all"]] * content["shape"][0] if "all" in content else content["values"]
                told[key] = np.array(words)
        assert told.keys() == trajectory["arrays"].keys()
        found.append(told)
    return found


def pairs(tag: str) -> list[tuple[Trajectory, dict[str, NDArray[Any]]]]:
    return list(zip(trajectories(tag), recorded(tag), strict=True))


@pytest.mark.parametrize("tag", READ)
def test_trajectories_are_those_that_pass_the_filters(tag: str) -> None:
    case = READ[tag]
    assert [len(one.samples) for one in trajectories(tag)] == [one["length"] for one in case["trajectories"]]
    assert measured(case["dataset"]).num_trajectories == case["n_trajectories_in_statistics"]


@pytest.mark.parametrize("tag", READ)
def test_windows_of_actions(tag: str) -> None:
    window = READ[tag]["window_size"]
    for ours, told in pairs(tag):
        chunks = np.stack([sample.actions for sample in ours.samples])
        before = np.arange(len(chunks))[:, None] + np.arange(1 - window, 0)
        action = np.concatenate([chunks[np.maximum(before, 0), 0], chunks], axis=1)
        assert action.dtype == told["action"].dtype
        np.testing.assert_allclose(action, told["action"], atol=1e-6)


@pytest.mark.parametrize("tag", READ)
def test_states(tag: str) -> None:
    assert ("observation/proprio" in recorded(tag)[0]) == READ[tag]["load_proprio"]
    for ours, told in pairs(tag):
        if (expected := told.get("observation/proprio")) is not None:
            states = np.stack([sample.state for sample in ours.samples if sample.state is not None])
            np.testing.assert_allclose(states.reshape(expected.shape), expected, atol=1e-6)
            assert told["observation/pad_mask_dict/proprio"].all(), "a state is never missing"


@pytest.mark.parametrize("tag", READ)
def test_windows_of_observations(tag: str) -> None:
    window = READ[tag]["window_size"]
    for ours, told in pairs(tag):
        observed = [np.ones(1, bool) if one.observed is None else one.observed for one in ours.samples]
        np.testing.assert_array_equal(np.stack(observed), told["observation/pad_mask"])
        steps = np.arange(len(observed))[:, None] + np.arange(1 - window, 1)
        np.testing.assert_array_equal(np.maximum(steps, 0), told["observation/timestep"])
        assert told["observation/pad_mask_dict/timestep"].all()


@pytest.mark.parametrize("tag", READ)
def test_words(tag: str) -> None:
    for ours, told in pairs(tag):
        instructions = np.array([sample.instruction for sample in ours.samples])
        np.testing.assert_array_equal(instructions, told["task/language_instruction"])
        np.testing.assert_array_equal(instructions != "", told["task/pad_mask_dict/language_instruction"])
        names = np.array([sample.dataset for sample in ours.samples])
        np.testing.assert_array_equal(names, told["dataset_name"])


@pytest.mark.parametrize("tag", READ)
def test_which_numbers_are_absolute(tag: str) -> None:
    absolute = [number.reference == "absolute" for number in part(READ[tag]).robot.action]
    for told in recorded(tag):
        assert (told["absolute_action_mask"] == absolute).all()


def pictures(tag: str) -> list[tuple[NDArray[np.uint8], str, str]]:
    """Return every picture of ours, its camera, and the digest of the original's."""
    found = []
    for ours, trajectory in zip(trajectories(tag), READ[tag]["trajectories"], strict=True):
        for key, digests in trajectory["image_sha256"].items():
            camera = key.removeprefix(IMAGE)
            if camera in cameras(READ[tag]):
                for sample, expected in zip(ours.samples, digests, strict=True):
                    shown = sample.images[camera]
                    windows = shown[None] if shown.ndim == 3 else shown
                    found += [(one, camera, digest) for one, digest in zip(windows, expected, strict=True)]
    return found


@pytest.mark.parametrize("tag", READ)
def test_pictures_are_those_of_their_frames(tag: str) -> None:
    """Equal pictures have equal digests and others have others, whatever rounding makes of a pixel."""
    digests: dict[bytes, set[str]] = {}
    shown: dict[str, set[bytes]] = {}
    for pixels, _, digest in pictures(tag):
        assert pixels.shape == (SIDE, SIDE, 3)
        digests.setdefault(pixels.tobytes(), set()).add(digest)
        shown.setdefault(digest, set()).add(pixels.tobytes())
    assert {len(several) for several in digests.values()} == {1}
    assert {len(several) for several in shown.values()} == {1}


@pytest.mark.parametrize("tag", READ)
def test_first_pictures_pixel_by_pixel(tag: str) -> None:
    arrays = kit.arrays(f"{PLACE}.npz")
    for ours, trajectory in zip(trajectories(tag), READ[tag]["trajectories"], strict=True):
        for camera in cameras(READ[tag]):
            key = f"{tag}/{trajectory['index']}/{IMAGE}{camera}/first_frame"
            if key in arrays:
                shown = ours.samples[0].images[camera]
                difference = np.abs(shown.reshape(-1, SIDE, SIDE, 3)[0].astype(int) - arrays[key])
                assert difference.max() <= 1
                assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("tag", [tag for tag in READ if len(cameras(READ[tag])) < len(READ[tag]["views"])])
def test_a_camera_that_is_not_there_is_refused_and_not_black(tag: str) -> None:
    missing = [view for view in READ[tag]["views"] if view not in cameras(READ[tag])]
    for view in missing:
        for trajectory, told in zip(READ[tag]["trajectories"], recorded(tag), strict=True):
            assert not told[f"observation/pad_mask_dict/image_{view}"].any()
            assert {NOTHING} == {one for row in trajectory["image_sha256"][IMAGE + view] for one in row}
        with pytest.raises(DataError, match=f"no camera '{view}'; the data has primary"):
            source(READ[tag], cameras=(view,))


@pytest.mark.parametrize("tag", READ)
def test_every_picture_there_is_is_marked_so(tag: str) -> None:
    for told in recorded(tag):
        for camera in cameras(READ[tag]):
            assert told[f"observation/pad_mask_dict/image_{camera}"].all()


@pytest.mark.parametrize("tag", READ)
def test_shapes_and_types(tag: str) -> None:
    """The recorded specification is met by the recorded arrays, which are compared with ours above."""
    specification = READ[tag]["element_spec"]
    pictured = {key for trajectory in READ[tag]["trajectories"] for key in trajectory["image_sha256"]}
    for told in recorded(tag):
        assert specification.keys() == told.keys() | pictured
        for key, values in told.items():
            dtype, shape = specification[key]
            assert dtype in (str(values.dtype), "string")
            assert shape[1:] == list(values.shape[1:])


@pytest.mark.parametrize("tag", REFUSED)
def test_what_the_original_cannot_read_is_refused(tag: str) -> None:
    with pytest.raises(RecipeError, match=r"selects no episode\. There are: train \("):
        part(REFUSED[tag])
