"""Fetch published data sets: where they are, what belongs to them, and their bytes, checked and resumable."""
