"""What a run does: prepare, train, evaluate, benchmark. Stages compose interfaces and name no component."""
