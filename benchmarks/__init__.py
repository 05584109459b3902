"""Speed claims, each measured beside a peer in the same run; ``python -m benchmarks GROUP...``."""
