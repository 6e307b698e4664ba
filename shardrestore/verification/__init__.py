"""A second opinion on a finished model folder: it is checked against its inputs."""
