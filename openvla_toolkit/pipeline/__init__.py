"""From episodes to batches: index, statistics, sampler, samples, loader."""
