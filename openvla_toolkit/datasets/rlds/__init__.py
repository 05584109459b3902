"""RLDS data sets in TFDS layout, read and written without TensorFlow."""
