"""Set the most changed weights of a fine-tuned model back to its base's values.

Checkpoints of any size are streamed: a few hundred megabytes of memory suffice.

>>> import shardrestore
>>> result = shardrestore.restore("base", "tuned", "restored", percent=10)  # doctest: +SKIP
>>> result.threshold, result.unchanged_share  # doctest: +SKIP
(0.0242919921875, 0.32)
"""

from .api import Plan, plan, restore, sweep
from .errors import (
    CheckpointError,
    MemoryBudgetError,
    NonFiniteError,
    OutputError,
    PairingError,
    RequestError,
    ShardRestoreError,
)
from .passes.memory import Sizing
from .passes.plan import RegionSurvey
from .passes.progress import Observer
from .report.files import summarize
from .report.result import ModuleKind, Restoration, TensorResult
from .request import Options, parse_size
from .selection.histogram import ScoreStatistics
from .synthetic import make_demo_pair
from .version import __version__

__all__ = [
    "CheckpointError",
    "MemoryBudgetError",
    "ModuleKind",
    "NonFiniteError",
    "Observer",
    "Options",
    "OutputError",
    "PairingError",
    "Plan",
    "RegionSurvey",
    "RequestError",
    "Restoration",
    "ScoreStatistics",
    "ShardRestoreError",
    "Sizing",
    "TensorResult",
    "__version__",
    "make_demo_pair",
    "parse_size",
    "plan",
    "restore",
    "summarize",
    "sweep",
]
