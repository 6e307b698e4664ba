"""The version, in one place: packaging, reports and ``--version`` read it here."""

__version__ = "0.1.0"
