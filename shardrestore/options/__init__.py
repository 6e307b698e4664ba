"""What a user can ask for: every option once, with its default, its check and its help.

Light: the command line reads the table before it knows whether anything is to be computed.
"""
