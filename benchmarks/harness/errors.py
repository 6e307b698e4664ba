"""Why a benchmark cannot be run, in one message."""

from __future__ import annotations


class BenchmarkError(Exception):
    """Something is in a benchmark's way; its text says what, and the next step."""


class CommandError(BenchmarkError):
    """A measured command failed."""


class UnsupportedError(BenchmarkError):
    """This machine lacks what a benchmark needs."""
