"""Checkpoints as files: where they lie, their layout, their tensors. Policies are found by name."""
