"""Checks of what brings data: data sets and transforms."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.types import ADDRESS_FIELDS, Conversation, DataDescription, Episode
from openvla_toolkit.interfaces.dataset import Dataset, DatasetConfig, ReadsAhead
from openvla_toolkit.interfaces.mixture import MixtureConfig
from openvla_toolkit.interfaces.transform import Traced, Trajectory, TransformConfig
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_dataset", "check_mixture", "check_transform", "open_x_trajectory"]


def check_dataset(config: DatasetConfig, *, others: Sequence[DatasetConfig] = ()) -> None:
    """Check a data set that exists on disk, or that ``prepare`` makes.

    Args:
        others: settings that read something else; the fingerprint of each must be another, as the toolkit
            keeps what it has read under it.

    Checked: the settings; that ``describe`` is complete and the same for a second opening; that the first,
    middle and last item have the promised types, shapes and finite numbers; that every camera has one address
    per frame, within ``files``, and that the images at both ends decode to the promised size; that reading
    is repeatable, also on a pickled copy; that a trace of the transforms, where there is one, ends with the
    episode as it is read; that images read together, where that is offered, are those that are read singly;
    that a position past the end is an IndexError.
    """
    check_settings(config, DatasetConfig)
    config.prepare()
    dataset: Dataset[Any] = config.build()
    description = dataset.describe()
    _check_description(config, description)
    other = config.build().describe()
    expect(other == description, config, expected=f"describe() to repeat itself, {description}", found=other)
    _check_others(config, description, others)
    count = len(dataset)
    expect(count > 0, config, expected="at least one item", found=count)
    copy: Dataset[Any] = pickle.loads(pickle.dumps(dataset))
    for position in sorted({0, count // 2, count - 1}):
        item = dataset[position]
        if isinstance(item, Episode):
            _check_episode(config, item, description)
            if isinstance(dataset, Traced):
                _check_trace(config, dataset, position, item)
            if isinstance(dataset, ReadsAhead) and item.images:
                _check_ahead(config, dataset, item)
        else:
            _check_conversation(config, item, description)
        _check_images(config, dataset, copy, item, description)
        expect(
            _same(item, copy[position]),
            config,
            expected=f"item {position} to be the same on a pickled copy",
            found="another",
        )
    try:
        found = f"item {dataset[count]!r}"
    except IndexError:
        return
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    expect(False, config, expected=f"an IndexError at position {count}, past the end", found=found)


def _check_others(
    config: DatasetConfig, description: DataDescription, others: Sequence[DatasetConfig]
) -> None:
    seen = {description.fingerprint: config}
    for other in others:
        other.prepare()
        twin = seen.setdefault(other.build().describe().fingerprint, other)
        expect(
            twin is other,
            config,
            expected=f"a fingerprint of its own for {other!r}",
            found=f"that of {twin!r}",
        )


def _check_ahead(config: DatasetConfig, dataset: Any, episode: Episode) -> None:
    addresses = np.concatenate([one[[-1, 0]] for one in episode.images.values()])
    together = dataset.ahead(addresses)
    singly = [dataset.image(address) for address in addresses]
    expect(
        together is None or list(together) == singly,
        config,
        expected=f"ahead() to give the images of {episode.name} as image() does, in the order asked, or None",
        found="others",
    )


def _check_trace(config: DatasetConfig, dataset: Traced, position: int, episode: Episode) -> None:
    last = dataset.trace(position)[-1]
    samples = len(episode) if episode.keep is None else int(np.count_nonzero(episode.keep))
    expect(
        (last.frames, last.samples) == (len(episode), samples),
        config,
        expected=f"trace({position}) to end with {len(episode)} frames and {samples} samples",
        found=last,
    )


def check_mixture(config: MixtureConfig) -> None:
    """Check a mixture whose members exist on disk.

    Checked: the settings; that there are members, all of them data sets with settings of their own; that no
    two bear one name; that building repeats itself.
    """
    check_settings(config, MixtureConfig)
    members = config.build()
    expect(len(members) > 0, config, expected="at least one member", found="none")
    strangers = [type(member).__name__ for member in members if not isinstance(member, DatasetConfig)]
    expect(not strangers, config, expected="data sets as members", found=strangers)
    names = [member.build().describe().name for member in members]
    expect(len(set(names)) == len(names), config, expected="members with names of their own", found=names)
    again = config.build()
    expect(list(again) == list(members), config, expected="build() to repeat itself", found=again)


def check_transform(config: TransformConfig, *, trajectory: Trajectory | None = None) -> None:
    """Check a transform on a trajectory; without one, on a made-up one with the keys of Open X-Embodiment.

    Checked: the settings; that the argument is left as it was; that the answer is a mapping whose arrays
    agree on the number of frames; that the function repeats itself and can be pickled.
    """
    check_settings(config, TransformConfig)
    given = open_x_trajectory() if trajectory is None else trajectory
    before = pickle.dumps(given)
    transform = config.build()
    answer = transform(given)
    expect(
        pickle.dumps(given) == before,
        config,
        expected="its argument to be left as it was",
        found="it changed in place",
    )
    expect(isinstance(answer, Mapping), config, expected="a mapping of arrays", found=type(answer).__name__)
    lengths = {key: len(value) for key, value in _leaves(answer)}
    expect(
        len(set(lengths.values())) == 1, config, expected="one number of frames for all keys", found=lengths
    )
    again = dict(_leaves(pickle.loads(pickle.dumps(transform))(given)))
    same = again.keys() == lengths.keys() and all(
        np.array_equal(value, again[key]) for key, value in _leaves(answer)
    )
    expect(same, config, expected="a pickled copy to give the same answer", found="another answer")


def open_x_trajectory(frames: int = 6) -> dict[str, Any]:
    """Return a made-up trajectory with the keys that data sets of Open X-Embodiment commonly have."""
    generator = np.random.default_rng(0)

    def numbers(width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return generator.uniform(-1, 1, (frames, width)).astype(np.float32)

    addresses = np.zeros(frames, dtype=np.dtype(ADDRESS_FIELDS))
    addresses["offset"] = np.arange(frames)
    return {
        "action": numbers(7),
        "language_instruction": np.array([b"pick up the cup"] * frames, dtype=object),
        "observation": {"state": numbers(8), "image": addresses, "wrist_image": addresses.copy()},
    }


def _check_description(config: DatasetConfig, description: DataDescription) -> None:
    expect(
        isinstance(description, DataDescription),
        config,
        expected="a DataDescription",
        found=type(description),
    )
    for key in ("name", "fingerprint"):
        value = getattr(description, key)
        expect(isinstance(value, str) and bool(value), config, expected=f"a text as {key}", found=repr(value))
    robot = description.robot
    expect(
        robot is None or isinstance(robot, Interface),
        config,
        expected="an Interface or None as robot",
        found=robot,
    )
    if robot is not None:
        strangers = [camera for camera in description.cameras if camera not in robot.cameras]
        expect(
            not strangers,
            config,
            expected=f"cameras that its robot has ({list(robot.cameras)})",
            found=strangers,
        )


def _check_episode(config: DatasetConfig, episode: Episode, description: DataDescription) -> None:
    frames, robot = len(episode), description.robot
    expect(robot is not None, config, expected="describe() to name the robot of its episodes", found="None")
    assert robot is not None
    expect(frames > 0, config, expected=f"frames in episode {episode.name}", found="none")
    _check_vector(config, "actions", episode.actions, (frames, len(robot.action)))
    if episode.states is not None:
        _check_vector(config, "states", episode.states, (frames, len(robot.state)))
    told = episode.instructions
    expect(len(told) == frames, config, expected=f"{frames} instructions, one per frame", found=len(told))
    expect(
        all(isinstance(text, str) for text in told),
        config,
        expected="instructions as str",
        found=list(told)[:2],
    )


def _check_vector(config: DatasetConfig, what: str, values: Any, shape: tuple[int, int]) -> None:
    found = f"{getattr(values, 'dtype', type(values).__name__)} {getattr(values, 'shape', '')}"
    right = isinstance(values, np.ndarray) and values.dtype == np.float32 and values.shape == shape
    expect(right, config, expected=f"{what} as float32 {shape}", found=found)
    expect(
        bool(np.isfinite(values).all()), config, expected=f"{what} that are finite", found="NaN or infinity"
    )


def _check_conversation(config: DatasetConfig, item: Any, description: DataDescription) -> None:
    expect(
        isinstance(item, Conversation),
        config,
        expected="an Episode or a Conversation",
        found=type(item).__name__,
    )
    expect(description.robot is None, config, expected="no robot for conversations", found=description.robot)
    speakers = [turn.speaker for turn in item.turns]
    right = [("human", "gpt")[position % 2] for position in range(len(speakers))]
    expect(
        bool(speakers) and speakers == right,
        config,
        expected="turns of human and gpt by turns",
        found=speakers,
    )


def _check_images(
    config: DatasetConfig,
    dataset: Dataset[Any],
    copy: Dataset[Any],
    item: Episode | Conversation,
    description: DataDescription,
) -> None:
    frames = len(item) if isinstance(item, Episode) else 1
    cameras: Sequence[str] = description.cameras if isinstance(item, Episode) else list(item.images)
    for camera in cameras:
        expect(
            camera in item.images,
            config,
            expected=f"camera '{camera}' in {item.name}",
            found=list(item.images),
        )
        addresses = item.images[camera]
        right = addresses.dtype == np.dtype(ADDRESS_FIELDS) and addresses.shape == (frames,)
        found: object = f"{addresses.dtype} {addresses.shape}"
        expect(
            right, config, expected=f"{frames} addresses (ADDRESS_FIELDS) of camera '{camera}'", found=found
        )
        files = len(description.files)
        last = int(addresses["file"].max())
        expect(
            last < files, config, expected=f"addresses within its {files} files", found=f"file number {last}"
        )
        for address in (addresses[0], addresses[-1]):
            place = f"an RGB image of camera '{camera}' at {address}"
            try:
                pixels, again = decode(dataset.image(address)), decode(copy.image(address))
            except DataError as error:
                raise AssertionError(f"dataset '{config.name}': expected {place}, found {error}") from error
            shape = (None, None, 3) if description.robot is None else _size(description.robot, camera)
            right = pixels.dtype == np.uint8 and pixels.ndim == 3
            right = right and all(
                want in (None, have) for want, have in zip(shape, pixels.shape, strict=True)
            )
            expect(right, config, expected=f"{place}, uint8 {shape}", found=f"{pixels.dtype} {pixels.shape}")
            expect(
                np.array_equal(pixels, again),
                config,
                expected=f"{place} on a pickled copy too",
                found="another",
            )


def _size(robot: Interface, camera: str) -> tuple[int, int, int]:
    return robot.cameras[camera].height, robot.cameras[camera].width, 3


def _same(left: Any, right: Any) -> bool:
    return pickle.dumps(left) == pickle.dumps(right)


def _leaves(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the arrays of a nested mapping under their paths."""
    pairs: list[tuple[str, Any]] = []
    for key, value in data.items():
        pairs += _leaves(value, f"{prefix}{key}/") if isinstance(value, Mapping) else [(prefix + key, value)]
    return pairs
