"""Worlds to act in, one folder each; ``tabletop`` is embedded and needs nothing else."""
