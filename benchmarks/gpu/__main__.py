"""``python -m benchmarks.gpu``: the same as ``python -m benchmarks gpu``."""

from __future__ import annotations

import sys

from ..__main__ import main

raise SystemExit(main(["gpu", *sys.argv[1:]]))
