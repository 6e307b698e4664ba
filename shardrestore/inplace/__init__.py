"""A model in memory: read as a checkpoint, restored where it is, and undone."""
