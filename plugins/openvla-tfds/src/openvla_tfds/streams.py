"""Episodes in their order, through tensorflow-datasets itself or through dlimp."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from openvla_tfds.builder import Part, tf, tfds
from openvla_toolkit.core.errors import MissingDependency

__all__ = ["Stream", "stream_of"]

Stream = Callable[[Any, Part], Iterator[Mapping[str, Any]]]
"""Builder and part -> episodes: arrays of all steps under ``steps``, and what the whole episode has."""
MORE_STEPS_THAN_ANY = 2**31
PREFIX = "_"
"""Of what dlimp adds to a trajectory: ``_len``, ``_traj_index``, ``_frame_index``."""


def through_tfds(builder: Any, part: Part) -> Iterator[Mapping[str, Any]]:
    """Yield episodes whose features TFDS has decoded, all but images."""
    episodes = builder.as_dataset(
        split=_instruction(part),
        shuffle_files=False,
        decoders=_leave_images(builder.info.features),
        read_config=tfds.ReadConfig(interleave_cycle_length=1, skip_prefetch=True),
    )
    yield from _light(episodes.map(_joined)).as_numpy_iterator()


def through_dlimp(builder: Any, part: Part) -> Iterator[Mapping[str, Any]]:
    """Yield the same from dlimp's trajectories."""
    from dlimp import DLataset

    trajectories = DLataset.from_rlds(builder, split=_instruction(part), shuffle=False, num_parallel_reads=1)
    for trajectory in _light(trajectories).as_numpy_iterator():
        about = trajectory.pop("traj_metadata", {})
        steps = {key: value for key, value in trajectory.items() if not key.startswith(PREFIX)}
        yield {"steps": steps, **_first(about)}


def stream_of(via: str) -> Stream:
    """Return the stream that a setting names.

    Raises:
        MissingDependency: dlimp is wanted and not installed.
    """
    if via == "tfds":
        return through_tfds
    if find_spec("dlimp") is None:
        raise MissingDependency("'via: dlimp'", "dlimp", install="git+https://github.com/kvablack/dlimp")
    return through_dlimp


def _instruction(part: Part) -> Any:
    return tfds.core.ReadInstruction(part.split, from_=part.start, to=part.stop, unit="abs")


def _light(episodes: Any) -> Any:
    """Use few threads: loaders run one process per core."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 2
    options.threading.max_intra_op_parallelism = 1
    options.deterministic = True
    return episodes.with_options(options)


def _joined(episode: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make one array of each feature's steps."""
    steps = episode["steps"].batch(MORE_STEPS_THAN_ANY).get_single_element()
    return {**episode, "steps": steps}


def _leave_images(feature: Any) -> Any:
    """Return decoders that leave the images of a feature, and of those below it, as they are stored."""
    if isinstance(feature, tfds.features.Image):
        return tfds.decode.SkipDecoding()
    if isinstance(feature, tfds.features.FeaturesDict):
        below = {name: _leave_images(inner) for name, inner in feature.items()}
        return {name: decoder for name, decoder in below.items() if decoder}
    if isinstance(feature, tfds.features.Dataset):
        return _leave_images(feature.feature)
    return None


def _first(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Undo the repetition of what belongs to the whole episode."""
    return {key: _first(value) if isinstance(value, Mapping) else value[0] for key, value in tree.items()}
