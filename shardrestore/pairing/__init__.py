"""Which tensor of the base belongs to which of the target, and which take part."""
