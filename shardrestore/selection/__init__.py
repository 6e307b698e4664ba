"""Which weights are chosen: pure mathematics on scores, keys and counts."""
