"""From what a user names, a folder or a repository, to a checkpoint that can be read."""
