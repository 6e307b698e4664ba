"""Peak memory over sizes, shardings and options."""
