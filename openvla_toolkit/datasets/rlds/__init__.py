"""RLDS data sets in TFDS layout (``dataset_info.json``, ``features.json``, TFRecord shards), without TensorFlow."""
