"""Carrying out a request: opened inputs, outputs, one run, several, one that is resumed."""
