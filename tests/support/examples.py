"""How many examples property tests draw: few and always the same, or many and always others.

``HYPOTHESIS_PROFILE=thorough`` asks for the second; ``tests/conftest.py`` registers both.
Tests that draw without Hypothesis (kills, faults, generated files) multiply by `TIMES` as well.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_WANTED = os.environ.get("HYPOTHESIS_PROFILE", "usual")
TIMES = 10 if _WANTED == "thorough" else 1
"""How many times the usual number of examples."""

USUAL_EXAMPLES = 50
"""Of tests that say no number."""


def register_profiles() -> None:
    """Register ``usual`` and ``thorough`` with Hypothesis, and load the one that is asked for."""
    common = settings(
        deadline=None,  # a busy machine is no failure
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    settings.register_profile(
        "usual", common, max_examples=USUAL_EXAMPLES, derandomize=True, database=None
    )
    settings.register_profile("thorough", common, max_examples=USUAL_EXAMPLES * 10)
    settings.load_profile(_WANTED)


def examples(count: int) -> settings:
    """Draw as many examples, or ten times as many in the thorough profile."""
    return settings(max_examples=count * TIMES)
