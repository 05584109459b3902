"""Checkpoints of the originals and of the toolkit: each format is read into one description, and written."""
