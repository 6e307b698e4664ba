"""How a command is measured, and how figures are presented."""
