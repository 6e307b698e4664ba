"""The two passes over the weights: budget, segments, scan, cut, restore."""
