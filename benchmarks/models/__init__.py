"""The checkpoints that are measured."""
