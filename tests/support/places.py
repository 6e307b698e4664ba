"""Where the project lies on this machine."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""

HOSTILE_DRIVER = ROOT / "tests/support/hostile/driver.py"
"""The program that forks for every hostile command line."""
