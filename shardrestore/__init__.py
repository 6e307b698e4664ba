"""Set the most changed weights of a fine-tuned model back to its base's values.

Checkpoints of any size are streamed: a few hundred megabytes of memory suffice.

>>> import shardrestore
>>> result = shardrestore.restore("base", "tuned", "restored", percent=10)  # doctest: +SKIP
>>> result.threshold, result.unchanged_share  # doctest: +SKIP
(0.0242919921875, 0.32)
"""

from .api.describing import scan, show, write_report
from .api.finishing import check_push, push, verify
from .api.in_memory import restore_module, restored
from .api.planning import Plan, PlannedModel, plan
from .api.restoring import find_unfinished, restore, restore_to_hub, sweep, sweep_targets
from .errors import (
    CheckpointError,
    DeviceError,
    HubError,
    InputChangedError,
    MemoryBudgetError,
    NonFiniteError,
    OutputError,
    PairingError,
    ProfileError,
    RequestError,
    ShardRestoreError,
)
from .figures.overview import (
    Cell,
    CellRow,
    Overview,
    OverviewCut,
    ScoreGroup,
    TensorOverview,
    summarize_overview,
)
from .figures.restoration import ModuleKind, Restoration, RestorationReport, TensorResult
from .machine.progress import Observer
from .plan.memory import Sizing
from .plan.work import RegionSurvey
from .report.files import summarize
from .request import ModuleOptions, Options, ScanOptions, parse_size
from .runs.pushed import Pushed
from .runs.targets import TargetOutcome
from .selection.histogram import ScoreStatistics
from .synthetic import make_demo_pair
from .verification.verify import Verification
from .version import __version__

__all__ = [
    "Cell",
    "CellRow",
    "CheckpointError",
    "DeviceError",
    "HubError",
    "InputChangedError",
    "MemoryBudgetError",
    "ModuleKind",
    "ModuleOptions",
    "NonFiniteError",
    "Observer",
    "Options",
    "OutputError",
    "Overview",
    "OverviewCut",
    "PairingError",
    "Plan",
    "PlannedModel",
    "ProfileError",
    "Pushed",
    "RegionSurvey",
    "RequestError",
    "Restoration",
    "RestorationReport",
    "ScanOptions",
    "ScoreGroup",
    "ScoreStatistics",
    "ShardRestoreError",
    "Sizing",
    "TargetOutcome",
    "TensorOverview",
    "TensorResult",
    "Verification",
    "__version__",
    "check_push",
    "find_unfinished",
    "make_demo_pair",
    "parse_size",
    "plan",
    "push",
    "restore",
    "restore_module",
    "restore_to_hub",
    "restored",
    "scan",
    "show",
    "summarize",
    "summarize_overview",
    "sweep",
    "sweep_targets",
    "verify",
    "write_report",
]
