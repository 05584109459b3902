"""The train stage: steps, what is told and measured of them, and the checkpoints they leave."""
