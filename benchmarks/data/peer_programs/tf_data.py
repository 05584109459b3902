"""Frames per second of tf.data over tensorflow-datasets, written as it usually is.

Usage: tf_data.py FOLDER SECONDS MODE, with MODE ``augment`` (decode, resize, augment) or ``decode``.
Decoding, Lanczos resize and the augmentations are the original's, one frame per call of ``map``; AUTOTUNE
chooses threads and prefetching, order is left free. No goal images, no normalisation, no prompt.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ.update(NO_GCE_CHECK="true", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import tensorflow as tf
import tensorflow_datasets as tfds

BUFFER, BATCH, SIZE = 10_000, 32, 224
WARM_UP_SECONDS = 8.0
"""AUTOTUNE needs some seconds to find its settings."""


def frames(folder: str, mode: str) -> Any:
    """Return batches without end."""
    trajectories = tfds.builder_from_directory(folder).as_dataset(
        split="train",
        shuffle_files=True,
        decoders={"steps": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(
            skip_prefetch=True,
            num_parallel_calls_for_interleave_files=tf.data.AUTOTUNE,
            interleave_cycle_length=tf.data.AUTOTUNE,
        ),
    )
    options = tf.data.Options()
    options.deterministic = False
    options.autotune.enabled = True
    return (
        trajectories.with_options(options)
        .repeat()
        .map(lambda episode: episode["steps"], num_parallel_calls=tf.data.AUTOTUNE)
        .map(_chosen, num_parallel_calls=tf.data.AUTOTUNE)
        .interleave(
            tf.data.Dataset.from_tensor_slices,
            cycle_length=tf.data.AUTOTUNE,
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .shuffle(BUFFER)
        .map(_augmented if mode == "augment" else _decoded, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _chosen(steps: Any) -> Any:
    keys = {"action": steps["action"], "instruction": steps["language_instruction"]}
    return {"image": steps["observation"]["image"], **keys}


def _decoded(frame: Any) -> Any:
    return {**frame, "image": tf.io.decode_jpeg(frame["image"], channels=3)}


def _augmented(frame: Any) -> Any:
    image = tf.io.decode_jpeg(frame["image"], channels=3)
    image = tf.image.resize(image, (SIZE, SIZE), method="lanczos3", antialias=True)
    image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    image = _clipped(_cropped(tf.image.convert_image_dtype(image, tf.float32)))
    image = _clipped(tf.image.random_brightness(image, 0.2))
    image = _clipped(tf.image.random_contrast(image, 0.8, 1.2))
    image = _clipped(tf.image.random_saturation(image, 0.8, 1.2))
    image = _clipped(tf.image.random_hue(image, 0.05))
    return {**frame, "image": tf.image.convert_image_dtype(image, tf.uint8, saturate=True)}


def _cropped(image: Any) -> Any:
    """Cut out a random square of nine tenths of the area and resize it back."""
    edge = tf.sqrt(0.9)
    top, left = tf.unstack(tf.random.uniform((2,), 0, 1 - edge))
    box = tf.stack([top, left, top + edge, left + edge])
    return tf.image.crop_and_resize(image[None], box[None], [0], (SIZE, SIZE))[0]


def _clipped(image: Any) -> Any:
    return tf.clip_by_value(image, 0.0, 1.0)


def main(folder: str, seconds: float, mode: str) -> None:
    """Print frames per second after the warm-up."""
    tf.config.set_visible_devices([], "GPU")
    batches = frames(folder, mode).as_numpy_iterator()
    next(batches)  # the shuffle buffer is full now
    warm = time.perf_counter()
    while time.perf_counter() < warm + WARM_UP_SECONDS:
        next(batches)
    count, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        count += len(next(batches)["image"])
    print(count / (time.perf_counter() - began))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
