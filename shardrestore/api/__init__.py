"""The public functions, each a few calls into what is below."""
