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
from .api.planning import plan
from .api.restoring import find_unfinished, restore, restore_to_hub, sweep, sweep_targets
from .api.summary import summarize
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
from .figures.costs import Costs, DeviceFigures, Times
from .figures.model import (
    ChangeFigures,
    Choice,
    CutFigures,
    KeyRange,
    ModelFigures,
    ModuleKind,
    ScoreFigures,
    TensorResult,
    TieFigures,
)
from .figures.overview import (
    Cell,
    CellRow,
    Overview,
    OverviewCut,
    ScoreGroup,
    TensorOverview,
)
from .figures.planned import Plan, PlannedMemory, PlannedModel
from .figures.restoration import Restoration, RestorationReport
from .machine.progress import Observer
from .plan.work import RegionSurvey
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
    "ChangeFigures",
    "CheckpointError",
    "Choice",
    "Costs",
    "CutFigures",
    "DeviceError",
    "DeviceFigures",
    "HubError",
    "InputChangedError",
    "KeyRange",
    "MemoryBudgetError",
    "ModelFigures",
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
    "PlannedMemory",
    "PlannedModel",
    "ProfileError",
    "Pushed",
    "RegionSurvey",
    "RequestError",
    "Restoration",
    "RestorationReport",
    "ScanOptions",
    "ScoreFigures",
    "ScoreGroup",
    "ScoreStatistics",
    "ShardRestoreError",
    "TargetOutcome",
    "TensorOverview",
    "TensorResult",
    "TieFigures",
    "Times",
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
    "sweep",
    "sweep_targets",
    "verify",
    "write_report",
]
