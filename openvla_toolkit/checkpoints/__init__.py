"""Checkpoints as files: where they lie, their layout, their tensors. Knows no policy; ``load`` finds it by name."""
