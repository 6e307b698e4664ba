"""The profile: what pass 1 found, kept in a file, from which any cut can be made."""
