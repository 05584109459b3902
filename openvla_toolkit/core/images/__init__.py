"""Pictures as NumPy arrays: decoding, resampling, colours, augmentation. Light commands do not import it."""
