"""What a run will do and what it takes, computed from headers: nothing is opened or measured."""
