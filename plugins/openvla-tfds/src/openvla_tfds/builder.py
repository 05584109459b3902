"""Opening builders: the one place that imports TensorFlow."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from openvla_tfds import TFDSConfig
from openvla_toolkit.core.errors import DataError, MissingDependency, MissingFile, RecipeError

# Asking for the machine's Google account takes half a minute elsewhere, and the log is not for people.
os.environ.setdefault("NO_GCE_CHECK", "true")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

try:
    import tensorflow as tf
    import tensorflow_datasets as tfds
except ModuleNotFoundError as error:
    missing = str(error.name).partition(".")[0].replace("_", "-")
    raise MissingDependency("dataset 'tfds'", missing, install="openvla-tfds[cpu]") from error

__all__ = ["Part", "content_of", "open_builder", "parts_of", "steps_of", "tf", "tfds"]


INFO = "dataset_info.json"
VERSION = re.compile(r"\d+\.\d+\.\d+")


class Part(NamedTuple):
    """Episodes ``start`` to ``stop`` (excluded) of one split."""

    split: str
    start: int
    stop: int


def open_builder(config: TFDSConfig) -> Any:
    """Return the builder of a data set: of the files in ``root`` where there are any, else by its name.

    Files come first because a builder that TFDS knows by name would look for them in the cloud as well.

    Raises:
        MissingFile: there is none; says where it was looked for.
        DataError: the files that describe it are damaged.
    """
    tf.config.set_visible_devices([], "GPU")  # TensorFlow would take all of its memory
    name = config.dataset if config.version is None else f"{config.dataset}:{config.version}"
    try:
        if (folder := _version_folder(config)) is not None:
            return tfds.builder_from_directory(folder)
        return tfds.builder(name, data_dir=config.root)
    except tfds.core.registered.DatasetNotFoundError:
        where = "TFDS's default folder" if config.root is None else config.root
        raise MissingFile(
            f"tensorflow-datasets knows no builder '{name}' and finds no such data set in {where}. Set root "
            "to the folder that holds <dataset>/<version>, or to the version's own folder."
        ) from None
    except (ValueError, KeyError, RuntimeError, tf.errors.OpError) as error:
        raise DataError(f"tensorflow-datasets cannot open it: {_brief(error)}.", file=config.root) from error


def parts_of(builder: Any, split: str) -> list[Part]:
    """Return what a split expression names.

    Raises:
        MissingFile: the data set was not prepared.
        RecipeError: there is no such split, or it holds no episode.
    """
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    known = ", ".join(f"{name} ({size} episodes)" for name, size in sizes.items())
    if not sizes:
        raise MissingFile(f"{builder.data_dir} holds no data: download or prepare the data set first.")
    expression = "+".join(sizes) if split == "all" else split
    try:
        chosen = tfds.core.ReadInstruction.from_spec(expression).to_absolute(builder.info.splits)
    except ValueError as error:
        raise RecipeError(f"{_brief(error)}. There are: {known}.", path="split") from None
    parts = [Part(one.splitname, one.from_ or 0, one.to or sizes[one.splitname]) for one in chosen]
    parts = [part for part in parts if part.stop > part.start]
    if not parts:
        raise RecipeError(f"'{split}' selects no episode. There are: {known}.", path="split")
    return parts


def steps_of(builder: Any) -> Any:
    """Return the features of one step.

    Raises:
        DataError: the data set is not RLDS.
    """
    steps = dict(builder.info.features.items()).get("steps")
    if not isinstance(steps, tfds.features.Dataset) or not isinstance(
        steps.feature, tfds.features.FeaturesDict
    ):
        raise DataError(
            "expected a Dataset of named features: the set is not RLDS (one record per episode).",
            file=Path(builder.data_dir),
            key="steps",
        )
    return steps.feature


def content_of(builder: Any, parts: list[Part]) -> list[Any]:
    """Return what changes when the content changes: name, size and time of change of every file."""
    files: list[Any] = []
    for split in dict.fromkeys(part.split for part in parts):
        for path in builder.info.splits[split].filepaths:
            try:
                state = tf.io.gfile.stat(str(path))
            except tf.errors.OpError as error:
                raise MissingFile(
                    f"{path} cannot be found ({type(error).__name__}): the data set is incomplete; "
                    "download or prepare it again."
                ) from None
            files.append([path.name, state.length, state.mtime_nsec])
    return files


def _version_folder(config: TFDSConfig) -> str | None:
    """Return the folder below ``root`` that holds the version asked for, or the newest."""
    if config.root is None:
        return None
    root = os.path.expanduser(config.root)  # noqa: PTH111  # it may be a URL, which a Path would spoil
    for folder in (root, f"{root}/{config.dataset}"):
        if tf.io.gfile.exists(f"{folder}/{INFO}"):
            return folder
        if not tf.io.gfile.isdir(folder):
            continue
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
        found = [name for name in names if VERSION.fullmatch(name) and config.version in (None, name)]
        newest = sorted(found, key=lambda name: [int(number) for number in name.split(".")])[-1:]
        for name in newest:
            if tf.io.gfile.exists(f"{folder}/{name}/{INFO}"):
                return f"{folder}/{name}"
    return None


def _brief(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
