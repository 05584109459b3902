"""The standardisations of Open X-Embodiment, one module per way in which actions were recorded."""
